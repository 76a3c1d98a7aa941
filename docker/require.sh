# shellcheck shell=sh
# The other scripts source this file. If something that they need is missing, one line names it (exit code 2).
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
SECRETS_DIR=${SECRETS_DIR:-$here/secrets}
if [ -d "$here/../.venv/bin" ]; then
  PATH=$here/../.venv/bin:$PATH
fi

fail() {
  echo "$(basename -- "$0"): $*" >&2
  exit 2
}

# need_command PROGRAM WHERE_IT_COMES_FROM
need_command() {
  command -v "$1" >/dev/null 2>&1 || fail "no program $1: $2"
}

# read_secret NAME: prints the file's content
read_secret() {
  [ -s "$SECRETS_DIR/$1" ] || fail "no secret $SECRETS_DIR/$1: run 'make secrets', or set SECRETS_DIR"
  [ -r "$SECRETS_DIR/$1" ] || fail "user $(id -u) cannot read $SECRETS_DIR/$1"
  cat "$SECRETS_DIR/$1"
}

# outlast_cuts: makes Ray's servers keep connections that are silent for up to two minutes. Ray would close one after half
# a minute; the other side learns of it only after a cut has healed, and then Ray takes the node for dead.
outlast_cuts() {
  export RAY_grpc_keepalive_timeout_ms="${RAY_grpc_keepalive_timeout_ms:-120000}"
}

# export_secrets: exports Ray's token and, if they exist, the passwords of the studies' database and of MLflow
export_secrets() {
  read_secret ray_token >/dev/null
  export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$SECRETS_DIR/ray_token"
  if [ -r "$SECRETS_DIR/optuna_password" ]; then
    PGPASSWORD=$(read_secret optuna_password)
    export PGPASSWORD
  fi
  if [ -r "$SECRETS_DIR/mlflow_admin_password" ]; then
    MLFLOW_TRACKING_PASSWORD=$(read_secret mlflow_admin_password)
    export MLFLOW_TRACKING_USERNAME=admin MLFLOW_TRACKING_PASSWORD
  fi
}

# need_free_port HOST PORT VARIABLE
need_free_port() {
  python3 - "$1" "$2" <<'EOF' || fail "port $2 on $1 cannot be opened: is it in use? Set another $3"
import socket, sys

with socket.socket() as probe:
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind((sys.argv[1], int(sys.argv[2])))
    except (OSError, OverflowError, ValueError):
        sys.exit(1)
EOF
}

# need_answer HOST:PORT VARIABLE: waits up to half a minute until a server listens there
need_answer() {
  python3 - "$1" <<'EOF' || fail "nothing listens at $1: start it, or set another $2"
import socket, sys, time

host, _, port = sys.argv[1].rpartition(":")
deadline = time.monotonic() + 30
while True:
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
        break
    except (OSError, OverflowError, ValueError) as error:
        if not isinstance(error, ConnectionError) or time.monotonic() > deadline:
            sys.exit(1)
        time.sleep(0.5)
EOF
}
