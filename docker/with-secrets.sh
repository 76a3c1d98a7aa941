#!/bin/sh
# Runs a command with Ray's token and the passwords of the studies' database and of MLflow, from SECRETS_DIR:
#   docker/with-secrets.sh python -m tuner status NAME --runs-dir /srv/tinytl/runs
set -eu
. "$(dirname -- "$0")/require.sh"

[ $# -gt 0 ] || fail "give the command to run, such as: docker/with-secrets.sh ray status"
export_secrets
exec "$@"
