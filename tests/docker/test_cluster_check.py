"""The files for Kubernetes and systemd hold together, and each mistake in a copy of them is one line."""

import json
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.places import ROOT
from tuner.config import build_parser

DOCKER = ROOT / "docker"
KEY = "key: mlflow_secret_key, path: mlflow_secret_key"
MANIFESTS = DOCKER / "kubernetes"
KEYS = [
    "auth_token",
    "mlflow_admin_password",
    "mlflow_password",
    "mlflow_secret_key",
    "optuna_password",
    "postgres_password",
]


@pytest.fixture(scope="module")
def cluster_check():
    return runpy.run_path(str(DOCKER / "cluster_check"), run_name="cluster_check")["main"]


@pytest.fixture
def copy(tmp_path):
    """A copy of the files, to make mistakes in."""
    for name in ("kubernetes", "slurm", "systemd"):
        shutil.copytree(DOCKER / name, tmp_path / "docker" / name)
    return tmp_path / "docker"


def change(file: Path, right: str, wrong: str) -> None:
    text = file.read_text()
    assert right in text
    file.write_text(text.replace(right, wrong, 1))


def secret_file(folder: Path, name: str = "tinytl-secrets", keys: list[str] = KEYS) -> str:
    secret = {"kind": "Secret", "metadata": {"name": name}, "data": dict.fromkeys(keys, "eA==")}
    (folder / "secret.json").write_text(json.dumps(secret))
    return str(folder / "secret.json")


def test_the_files_are_without_mistakes(cluster_check, capsys):
    assert cluster_check([]) == 0
    printed = capsys.readouterr()
    assert "9 objects" in printed.out and "fields that we use" in printed.out and printed.err == ""


@pytest.mark.parametrize(
    ("right", "wrong", "line"),
    [
        (
            "secretName: tinytl-secrets}",
            "secretName: other}",
            ", head: reads secret other, but the secret i",
        ),
        ("key: auth_token, path", "key: token, path", ", head: reads key token, which secret tinytl-secr"),
        (", secretName: tinytl-secrets}", "}", ": spec.authOptions: 'secretName' is a required property"),
        ("minReplicas: 1", "minReplica: 1", ": spec.workerGroupSpecs.0: "),
        ("minReplicas: 1", "minReplicas: 2", ": group cpu: replicas outside minReplicas and maxReplicas"),
        ("mountPath: /runs", "mountpath: /runs", ", head: template.spec.containers.0.volumeMounts.0: "),
        ("rayVersion: 2.60.0", "rayVersion: 2.9.0", ": rayVersion 2.9.0: requirements.lock has 2.60.0"),
        ('container-cmd: "true"', 'container-cmd: "no"', ": our scripts need the annotation ray.io/overw"),
        ('num-cpus: "2"', 'num-cpus: "3"', ": group cpu: num-cpus must be RAY_NUM_CPUS, 2"),
        ("tuner:cpu", "tuner:latest", ", head, container ray-head: image tinytl-tuner:latest: must be "),
        ("tuner:cuda", "tuner:cpu", ", group gpu, container ray-worker: image tinytl-tuner:cpu: tinytl-"),
        ("tinytl-head-svc", "ray", ", group cpu, container ray-worker: RAY_HEAD=ray:6379: no Service of"),
        ("claimName: runs", "claimName: run", ", head: no PersistentVolumeClaim run in the manifests"),
        (", persistentVolumeClaim: {claimName: runs}", "", ", head: volume runs needs one source"),
        ("claimName: runs", "claimName: artifacts", ", head: claim artifacts: accessModes must be [Re"),
        ("livenessProbe: {<<: *head-healthy, ", "livenessProbe: {", ", head, container ray-head: no live"),
    ],
)
def test_a_mistake_in_the_cluster_is_named_in_a_line(cluster_check, copy, capsys, right, wrong, line):
    change(copy / "kubernetes" / "ray.yaml", right, wrong)
    assert cluster_check([str(copy)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(f"ray.yaml: RayCluster tinytl{line}")
    assert all(one.startswith("ray.yaml: ") for one in lines)


@pytest.mark.parametrize(
    ("right", "wrong", "line"),
    [
        (f"{{{KEY}}}", "{key: mlflow_password, path: mlflow_password}", "no secret mlflow_secret_key, which"),
        (
            "mlflow-secrets, mountPath: /secrets",
            "mlflow-secrets, mountPath: /s",
            "SECRETS_DIR=/secrets: no s",
        ),
        ("MLFLOW_UPGRADE,", "MLFLOW_UPGRADES,", "no variable MLFLOW_UPGRADE, which compose.yaml sets"),
        ("command: [docker/start-mlflow.sh]", "command: [mlflow]", "does not start docker/start-mlflow.sh, "),
        ("mountPath: /artifacts", "mountPath: /art", "nothing is mounted at /artifacts, where compose.yaml"),
        ("limits: {memory: 2Gi}", "limits: {memory: 2GiB}", "resources.limits.memory: 2GiB is no quantity"),
        ("limits: {memory: 2Gi}", "limits: {}", "no resources.limits.memory"),
    ],
)
def test_a_container_is_compared_with_compose(cluster_check, copy, capsys, right, wrong, line):
    file = copy / "kubernetes" / "mlflow.yaml"
    change(file, right, wrong)
    assert cluster_check([str(copy)]) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith(f"mlflow.yaml: Deployment mlflow, container mlflow: {line}")


@pytest.mark.parametrize(
    ("file", "right", "wrong", "line"),
    [
        ("claims", "storage: 100Gi", "storage: [100Gi]", ": PersistentVolumeClaim runs: spec.resources.re"),
        ("kustomization", "  - claims.yaml\n", "", ": does not list claims.yaml"),
        ("kustomization", "- claims.yaml\n", "- claim.yaml\n", ": lists claim.yaml, which is not there"),
        ("mlflow", "  items:\n", "  item:\n", ": Deployment mlflow: spec.template.spec.volumes.2.secret: "),
        ("mlflow", "selector: {app: mlflow}", "selector: {app: other}", ": Service mlflow: its selector fin"),
        ("mlflow", "targetPort: http", "targetPort: web", ": Service mlflow: its pod has no port web"),
        ("mlflow", "matchLabels: {app: mlflow}", "matchLabels: {app: x}", ": Deployment mlflow: its select"),
        ("postgres", "15.14-bookworm", "16", ": StatefulSet postgres, container postgres: image postgres:16"),
        ("postgres", "kind: StatefulSet", "kind: Stateful", ": Stateful postgres: Kubernetes 1.31 has no S"),
        ("postgres", "value: /secrets/post", "value: /run/post", ": StatefulSet postgres, container postgr"),
        ("postgres", "  serviceName: postgres", "  serviceName: db", ": StatefulSet postgres: no Service db"),
        ("postgres", "  serviceName:", " serviceName: [", ": line "),
        ("study", "ray.io/cluster: tinytl", "ray.io/cluster: a", ": RayJob spring: no RayCluster a in the m"),
        ("study", "http://mlflow", "http://mlfow", ": RayJob spring: entrypoint: no Service mlfow in the ma"),
        ("study", "backoffLimit: 0", "backofflimit: 0", ": RayJob spring: spec.submitterConfig: Addition"),
    ],
)
def test_a_mistake_elsewhere_is_named_in_a_line(cluster_check, copy, capsys, file, right, wrong, line):
    change(copy / "kubernetes" / f"{file}.yaml", right, wrong)
    assert cluster_check([str(copy)]) == 2
    assert capsys.readouterr().err.splitlines()[0].startswith(f"{file}.yaml{line}")


def test_a_secret_is_compared_with_what_the_manifests_read(cluster_check, tmp_path, capsys):
    assert cluster_check(["--secret", secret_file(tmp_path)]) == 0
    assert cluster_check(["--secret", secret_file(tmp_path, name="another")]) == 2
    assert "reads secret tinytl-secrets, but the secret is another" in capsys.readouterr().err
    assert cluster_check(["--secret", secret_file(tmp_path, keys=KEYS[1:])]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert (
        lines[0]
        == "ray.yaml: RayCluster tinytl, head: reads key auth_token, which secret tinytl-secrets lacks"
    )
    (tmp_path / "secret.json").write_text("[]")
    with pytest.raises(SystemExit, match="2"):
        cluster_check(["--secret", str(tmp_path / "secret.json")])
    assert capsys.readouterr().err.endswith("secret.json: no Secret as JSON\n")


def definition(kind: str, fields: dict[str, object]) -> dict[str, object]:
    """One of KubeRay's definitions, in small."""
    spec = {"type": "object", "properties": fields}
    top = {name: {"type": "string"} for name in ("apiVersion", "kind")}
    schema = {"type": "object", "properties": top | {"metadata": {"type": "object"}, "spec": spec}}
    version = {"name": "v1", "schema": {"openAPIV3Schema": schema}}
    return {"kind": "CustomResourceDefinition", "spec": {"names": {"kind": kind}, "versions": [version]}}


def test_the_definitions_of_kuberay_are_used_if_they_are_given(cluster_check, tmp_path, capsys):
    file = tmp_path / "crds.yaml"
    known = {
        kind: {key: {} for key in yaml.safe_load((MANIFESTS / name).read_text())["spec"]}
        for kind, name in (("RayCluster", "ray.yaml"), ("RayJob", "study.yaml"))
    }
    file.write_text(yaml.safe_dump_all([definition(kind, fields) for kind, fields in known.items()]))
    assert cluster_check(["--crds", str(tmp_path)]) == 0
    assert f"KubeRay's definitions in {tmp_path}" in capsys.readouterr().out
    del known["RayCluster"]["authOptions"]
    file.write_text(yaml.safe_dump_all([definition(kind, fields) for kind, fields in known.items()]))
    assert cluster_check(["--crds", str(tmp_path)]) == 2
    assert "'authOptions' was unexpected" in capsys.readouterr().err
    file.unlink()
    with pytest.raises(SystemExit, match="2"):
        cluster_check(["--crds", str(tmp_path)])
    assert "no CustomResourceDefinition of RayCluster" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("right", "wrong", "line"),
    [
        (
            "LoadCredential=ray_token:/etc/tinytl/secrets/ray_token\n",
            "",
            "ray_token: compose.yaml and LoadCredential differ in this secret",
        ),
        ("start-ray-head.sh", "start-head.sh", "ExecStart: no docker/start-head.sh in this checkout"),
    ],
)
def test_a_unit_starts_a_script_of_ours_with_its_secrets(cluster_check, copy, capsys, right, wrong, line):
    change(copy / "systemd" / "tinytl-ray-head.service", right, wrong)
    assert cluster_check([str(copy)]) == 2
    assert f"tinytl-ray-head.service: {line}" in capsys.readouterr().err.splitlines()


def test_what_systemd_says_of_our_units_is_a_mistake(cluster_check, tmp_path, monkeypatch, capsys):
    program = tmp_path / "systemd-analyze"
    program.write_text('#!/bin/sh\necho "other.service:1: not ours" >&2\necho "$3:7: Unknown key" >&2\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert cluster_check([]) == 2
    assert capsys.readouterr().err == "systemd: tinytl-mlflow.service:7: Unknown key\n"


def test_without_the_packages_one_line_says_what_to_run():
    code = "import runpy, sys; sys.modules['yaml'] = None; runpy.run_path('docker/cluster_check')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "cluster_check: no Python package yaml: run 'make setup'\n"


def test_the_study_of_the_manifest_has_flags_that_exist():
    entrypoint = yaml.safe_load((MANIFESTS / "study.yaml").read_text())["spec"]["entrypoint"]
    python, launch, *flags = shlex.split(entrypoint)
    assert (python, launch) == ("python", "/app/launch.py")
    assert build_parser().parse_args(flags).name == "spring"
