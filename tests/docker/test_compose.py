"""The compose file and the image: what is open, what is secret, and that Compose takes it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.places import ROOT

DOCKER = ROOT / "docker"
COMPOSE_PROGRAM = str(Path(sys.executable).with_name("docker-compose"))
"""Of a wheel: it needs no Docker to read files."""
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
LASTING = sorted(set(SERVICES) - {"databases"})


def test_only_mlflow_and_the_dashboard_are_published_and_on_the_loopback():
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(published) == {"mlflow", "ray-head"}
    assert all(
        re.match(r"\$\{BIND:-127\.0\.0\.1\}:\$\{\w+:-\d+\}:\d+$", *ports) for ports in published.values()
    )
    assert not any("network_mode" in service for service in SERVICES.values())


def test_the_database_is_reached_by_those_who_need_it():
    assert COMPOSE["networks"]["database"] == {"internal": True}
    assert SERVICES["postgres"]["networks"] == ["database"]
    assert {name for name, service in SERVICES.items() if "database" in service["networks"]} == {
        "postgres",
        "databases",
        "mlflow",
        "ray-head",
    }


def test_each_service_has_the_secrets_that_it_reads_and_no_others():
    assert {name: set(service["secrets"]) for name, service in SERVICES.items()} == {
        "postgres": {"postgres_password"},
        "databases": {"postgres_password", "optuna_password", "mlflow_password"},
        "mlflow": {"mlflow_password", "mlflow_admin_password", "mlflow_secret_key"},
        "ray-head": {"ray_token", "optuna_password", "mlflow_admin_password"},
        "ray-worker": {"ray_token"},
    }
    made = (DOCKER / "make-secrets.sh").read_text()
    for name, secret in COMPOSE["secrets"].items():
        assert secret == {"file": f"./secrets/{name}"} and f"{name}" in made


def test_no_secret_stands_in_an_environment():
    for service in SERVICES.values():
        for key, value in service.get("environment", {}).items():
            assert not re.search("PASSWORD|TOKEN|SECRET_KEY", key) or value.startswith("/run/secrets/")


@pytest.mark.parametrize("name", LASTING)
def test_a_service_is_watched_restarted_and_bounded(name):
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped" and service["healthcheck"]["test"]
    assert service["mem_limit"] and service["stop_grace_period"]
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "5"}
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_services_wait_for_what_they_need():
    assert {name: service.get("depends_on") for name, service in SERVICES.items()} == {
        "postgres": None,
        "databases": {"postgres": {"condition": "service_healthy"}},
        "mlflow": {"databases": {"condition": "service_completed_successfully"}},
        "ray-head": {"mlflow": {"condition": "service_healthy"}},
        "ray-worker": {"ray-head": {"condition": "service_healthy"}},
    }


def test_what_is_named_is_there():
    scripts = re.findall(r"docker/([\w-]+\.sh)|\./([\w-]+\.sh):", (DOCKER / "compose.yaml").read_text())
    assert len(scripts) >= 6
    for name in {first or second for first, second in scripts}:
        assert os.access(DOCKER / name, os.R_OK if name == "require.sh" else os.X_OK), name
    used = set(re.findall(r"\$\{(\w+):-", (DOCKER / "compose.yaml").read_text())) - {
        "TUNER_UID",
        "COMMIT",
    }  # up.sh sets these
    told = set(re.findall(r"^#(\w+)=", (DOCKER / ".env.example").read_text(), re.MULTILINE))
    assert used == told


def test_images_are_of_one_version():
    texts = [service["image"] for service in SERVICES.values() if "build" not in service]
    texts += re.findall(r"^ARG PYTHON_IMAGE=(\S+)", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)
    assert len(texts) == 3 and all(re.search(r":\d+\.\d+(\.\d+)?-", text) for text in texts)
    assert SERVICES["postgres"]["image"] == SERVICES["databases"]["image"]


def test_only_what_is_named_goes_into_an_image():
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    kept = [line[1:] for line in lines if line.startswith("!")]
    assert all(list(ROOT.glob(pattern)) for pattern in kept)
    assert not any(pattern.startswith(("docker/s", "docker/.", ".", "runs", "tests")) for pattern in kept)
    assert {"launch.py", "tuner", "tinytl", "search_spaces"} <= set(kept)
    ignored = subprocess.run(["git", "check-ignore", "docker/secrets/x", "docker/.env"], cwd=ROOT)
    assert ignored.returncode == 0


@pytest.mark.parametrize("files", [["compose.yaml"], ["compose.yaml", "compose.cuda.yaml"]], ids="-".join)
def test_compose_takes_the_files(files):
    flags = [flag for name in files for flag in ("-f", str(DOCKER / name))]
    done = subprocess.run([COMPOSE_PROGRAM, *flags, "config"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    resolved = yaml.safe_load(done.stdout)["services"]
    assert set(resolved) == set(SERVICES)
    devices = resolved["ray-worker"].get("deploy", {}).get("resources", {}).get("reservations", {})
    assert bool(devices) == (len(files) == 2)


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("mem_limit: 2g", "mem_limits: 2g", "services.mlflow.mem_limits"),
        ("networks: [service]", "networks: [elsewhere]", "refers to undefined network elsewhere"),
        ("${HEAD_MEMORY:-4g}", "${HEAD_MEMORY:-much}", "'much'"),
    ],
)
def test_compose_refuses_a_mistake(right, wrong, message, tmp_path):
    text = (DOCKER / "compose.yaml").read_text()
    assert right in text
    (tmp_path / "compose.yaml").write_text(text.replace(right, wrong))
    argv = [COMPOSE_PROGRAM, "-f", str(tmp_path / "compose.yaml"), "config"]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode != 0 and message in done.stderr
