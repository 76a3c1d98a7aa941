"""The Slurm script and the systemd units: read by their own programs, as far as these are there."""

import os
import re
import subprocess
import tempfile
from pathlib import Path
from shutil import which

from manifests import DOCKER, Files

INSTALLED_AT = "/opt/tinytl"
"""The checkout, in the units."""


def run(*argv: str) -> str:
    """What a program prints, on one line; empty if it succeeds in silence."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    return (done.stdout + done.stderr).strip() or ("" if done.returncode == 0 else f"{argv[0]} refuses it")


def check_slurm(files: Files) -> list[str]:
    """Reads the script with bash and shellcheck. Returns what could not be checked."""
    folder = files.folder / "slurm"
    scripts = sorted(folder.glob("*.sbatch"))
    if not scripts:
        files.wrong("slurm", "no *.sbatch in it")
    for script in scripts:
        if not os.access(script, os.X_OK):
            files.wrong(script.name, "is not executable")
        if problem := run("bash", "-n", str(script)):
            files.wrong(script.name, problem.replace(f"{script}: ", "", 1))
        elif which("shellcheck"):
            for line in run("shellcheck", "--format", "gcc", str(script)).splitlines():
                files.wrong(script.name, line.replace(f"{script}:", "line ", 1))
    return [] if which("shellcheck") else ["slurm: no shellcheck here, so only bash -n was run"]


def check_systemd(files: Files) -> list[str]:
    """Compares units with the scripts and secrets here, and lets systemd read them. Returns as above."""
    units = sorted((files.folder / "systemd").glob("*.service"))
    roles = {"ray-head", "ray-worker", "mlflow"}
    for role in sorted(roles - {unit.stem.removeprefix("tinytl-") for unit in units}):
        files.wrong("systemd", f"no tinytl-{role}.service")
    with tempfile.TemporaryDirectory() as folder:
        for unit in units:
            text = unit.read_text()
            # systemd looks for the program: here it is that of this checkout.
            (Path(folder) / unit.name).write_text(text.replace(INSTALLED_AT, str(DOCKER.parent)))
            for program in re.findall(rf"(?m)^ExecStart={INSTALLED_AT}/(\S+)", text) or ["a program"]:
                if not os.access(DOCKER.parent / program, os.X_OK):
                    files.wrong(unit.name, f"ExecStart: no {program} in this checkout")
            service = files.compose["services"].get(unit.stem.removeprefix("tinytl-"), {})
            given = set(re.findall(r"(?m)^LoadCredential=(\w+):", text))
            for name in sorted(set(service.get("secrets", [])) ^ given):
                files.wrong(unit.name, f"{name}: compose.yaml and LoadCredential differ in this secret")
        if which("systemd-analyze") is None:
            return ["systemd: no systemd-analyze here, so the units' settings were not checked"]
        copies = [str(Path(folder) / unit.name) for unit in units]
        for line in run("systemd-analyze", "verify", "--man=no", *copies).splitlines():
            if any(unit.name in line for unit in units):  # it speaks of the machine's own units, too
                files.wrong("systemd", line.replace(f"{folder}/", ""))
    return []
