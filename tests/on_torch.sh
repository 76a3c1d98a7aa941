#!/bin/sh
# Runs tests/tinytl on another torch and Python, without ray, optuna and mlflow, as on a machine that trains only:
#   tests/on_torch.sh 2.11.0 0.26.0 [python3.12] [flags of pytest ...]
# The environment is build/torch-TORCH-PYTHON, several GB; it is made once.
set -eu
cd "$(dirname -- "$0")/.."
[ $# -ge 2 ] || { echo "usage: tests/on_torch.sh TORCH TORCHVISION [PYTHON] [flags of pytest ...]" >&2; exit 2; }
torch=$1 torchvision=$2 python=${3:-python3}
shift 2
[ $# -eq 0 ] || shift
version=$("$python" -c 'import platform; print(platform.python_version())')
folder=build/torch-$torch-$version
if [ ! -f "$folder/whole" ]; then
    rm -rf "$folder"
    "$python" -m venv "$folder"
    "$folder/bin/pip" install --quiet --disable-pip-version-check "torch==$torch" "torchvision==$torchvision" \
        ".[torchvision,plots,export,timm,tensorboard]" "pytest>=9.0" "pytest-xdist>=3.8"
    touch "$folder/whole"
fi
# No program of the rest of the machine, as in `make test`.
PATH=$PWD/$folder/bin:$PATH
export PATH
exec python -m pytest -n 2 --dist loadfile tests/tinytl "$@"
