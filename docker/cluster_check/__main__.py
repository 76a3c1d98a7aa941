"""Checks the files for clusters, without a cluster: kubernetes/, slurm/ and systemd/ beside this folder.

Each mistake is a line, and with one or more the exit code is 2.
"""

import argparse
import json
import sys
from pathlib import Path

try:
    import manifests
    import names
    import pods
    import programs
    import schemas
except ModuleNotFoundError as error:
    if error.name not in ("jsonschema", "kubernetes_validate", "yaml"):
        raise
    print(f"cluster_check: no Python package {error.name}: run 'make setup'", file=sys.stderr)
    raise SystemExit(2) from None


def main(argv: list[str]) -> int:
    """Runs the checks that the flags ask for; returns the exit code."""
    parser = argparse.ArgumentParser(prog="cluster_check", description=__doc__)
    parser.add_argument(
        "folder", type=Path, nargs="?", default=manifests.DOCKER, help="a copy of docker/ to check instead"
    )
    parser.add_argument(
        "--crds", type=Path, metavar="FOLDER", help="KubeRay's own definitions: its crds/*.yaml"
    )
    parser.add_argument(
        "--secret",
        metavar="FILE",
        help="the secret as kubectl prints it (-o json), or - to read it from the input",
    )
    args = parser.parse_args(argv)
    files = manifests.Files(args.folder)
    crds = schemas.read_crds(args.crds) if args.crds else {}
    for kind in sorted(schemas.KUBERAY.keys() - crds.keys()) if args.crds else []:
        parser.error(f"--crds {args.crds}: no CustomResourceDefinition of {kind} in its *.yaml")
    secret = None
    if args.secret:
        try:
            secret = json.loads(sys.stdin.read() if args.secret == "-" else Path(args.secret).read_text())
        except (OSError, ValueError) as error:
            parser.error(f"--secret {args.secret}: {error}")
        if not isinstance(secret, dict) or secret.get("kind") != "Secret":
            parser.error(f"--secret {args.secret}: no Secret as JSON")

    # Names are compared only if each object has the fields of its kind.
    manifests.read(files)
    if not files.mistakes:
        manifests.check_schemas(files, crds)
    if not files.mistakes:
        pods.check_pods(files)
        names.check_secrets(files, secret)
        names.check_services(files)
        names.check_kuberay(files)
    left_out = [] if args.secret else [*programs.check_slurm(files), *programs.check_systemd(files)]
    for line in files.mistakes:
        print(line, file=sys.stderr)
    if files.mistakes:
        return 2
    for line in left_out:
        print(line)
    against = f"KubeRay's definitions in {args.crds}" if crds else "the fields that we use (--crds has all)"
    count = len(files.objects)
    print(f"{count} objects: core kinds by Kubernetes {schemas.KUBERNETES}'s schemas, KubeRay's by {against}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
