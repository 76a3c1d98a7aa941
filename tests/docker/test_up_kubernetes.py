"""up-kubernetes.sh: nothing is applied before manifests and secret are as they must be."""

import json
import os
import subprocess

import pytest

from tests.support.places import ROOT

KUBECTL = """#!/bin/sh
echo "$*" >>"$CALLS"
case "$*" in
  *"get crd"*) [ -z "$NO_CRD" ] || { echo 'error: no such resource' >&2; exit 1; } ;;
  *"get secret"*) cat "$SECRET" ;;
esac
"""
KEYS = ["auth_token", "mlflow_admin_password", "mlflow_password", "mlflow_secret_key", "optuna_password"]


@pytest.fixture
def up(tmp_path):
    """Runs the script beside a kubectl that knows one secret; returns exit code, complaints, calls."""
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(KUBECTL)
    kubectl.chmod(0o755)

    def run(keys=None, **env):
        secret = {
            "kind": "Secret",
            "metadata": {"name": "tinytl-secrets"},
            "data": dict.fromkeys(keys or [], "eA=="),
        }
        (tmp_path / "secret").write_text(json.dumps(secret) if keys else "")
        (tmp_path / "calls").write_text("")
        given = {"CALLS": str(tmp_path / "calls"), "SECRET": str(tmp_path / "secret"), "NO_CRD": ""}
        path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        argv = [str(ROOT / "docker" / "up-kubernetes.sh"), "--namespace", "lab"]
        done = subprocess.run(argv, env=os.environ | path | given | env, capture_output=True, text=True)
        return done.returncode, done.stderr.splitlines(), (tmp_path / "calls").read_text().splitlines()

    return run


def test_a_whole_secret_lets_the_manifests_be_applied(up):
    code, complaints, calls = up([*KEYS, "postgres_password"])
    assert (code, complaints) == (0, [])
    assert calls[-1] == f"--namespace lab apply --kustomize {ROOT}/docker/kubernetes"


@pytest.mark.parametrize(
    ("keys", "env", "line"),
    [
        (
            None,
            {},
            "up-kubernetes.sh: no secret tinytl-secrets in the namespace: docker/README.md has the command",
        ),
        (KEYS, {}, "reads key postgres_password, which secret tinytl-secrets lacks"),
        (KEYS, {"NO_CRD": "1"}, "up-kubernetes.sh: the cluster does not answer, or has no KubeRay"),
    ],
    ids=["no-secret", "no-key", "no-kuberay"],
)
def test_before_anything_is_applied_a_line_says_what_is_missing(up, keys, env, line):
    code, complaints, calls = up(keys, **env)
    assert code == 2 and line in complaints[-1]
    assert not any("apply" in call for call in calls)
