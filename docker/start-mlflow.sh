#!/bin/sh
# The MLflow server: it asks for a password, stores runs in PostgreSQL and serves artifacts. Flags go to `mlflow server`.
#
#   PGHOST, PGPORT                PostgreSQL, prepared by init-databases.sh (127.0.0.1, 5432)
#   MLFLOW_HOST, MLFLOW_PORT      where the server listens (127.0.0.1, 5000)
#   MLFLOW_ARTIFACTS_DESTINATION  folder or bucket of the artifacts; required
#   MLFLOW_SERVER_ALLOWED_HOSTS   host names that it answers to (this machine's loopback)
#   MLFLOW_WORKERS                processes (2)
#   MLFLOW_UPGRADE                1: first upgrades the database to this version of MLflow. Back it up before
#   SECRETS_DIR                   mlflow_password, mlflow_admin_password, mlflow_secret_key
set -eu
. "$(dirname -- "$0")/require.sh"

need_command mlflow "run 'make setup'"
[ -n "${MLFLOW_ARTIFACTS_DESTINATION:-}" ] || fail "set MLFLOW_ARTIFACTS_DESTINATION, the folder of the artifacts"
PGPASSWORD=$(read_secret mlflow_password)
MLFLOW_AUTH_ADMIN_PASSWORD=$(read_secret mlflow_admin_password)
MLFLOW_FLASK_SERVER_SECRET_KEY=$(read_secret mlflow_secret_key)
export PGPASSWORD MLFLOW_AUTH_ADMIN_PASSWORD MLFLOW_FLASK_SERVER_SECRET_KEY
export PGHOST="${PGHOST:-127.0.0.1}" PGPORT="${PGPORT:-5432}" PGUSER=mlflow
export MLFLOW_AUTH_CONFIG_PATH="$here/mlflow-auth.ini"
export MLFLOW_SERVER_ALLOWED_HOSTS="${MLFLOW_SERVER_ALLOWED_HOSTS:-localhost,localhost:*,127.0.0.1,127.0.0.1:*}"
# The address has neither host nor password, because the list of processes would show them.
export MLFLOW_BACKEND_STORE_URI=postgresql+psycopg:///mlflow
export MLFLOW_ARTIFACTS_DESTINATION
# Jobs are for evaluating language models. They would cost eight processes and 700 MiB for nothing.
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION="${MLFLOW_SERVER_ENABLE_JOB_EXECUTION:-false}"
MLFLOW_HOST=${MLFLOW_HOST:-127.0.0.1}
MLFLOW_PORT=${MLFLOW_PORT:-5000}
need_free_port "$MLFLOW_HOST" "$MLFLOW_PORT" MLFLOW_PORT

if [ "${MLFLOW_UPGRADE:-}" = 1 ]; then
  mlflow db upgrade "$MLFLOW_BACKEND_STORE_URI"
fi
exec mlflow server --app-name basic-auth --serve-artifacts --host "$MLFLOW_HOST" --port "$MLFLOW_PORT" \
  --workers "${MLFLOW_WORKERS:-2}" "$@"
