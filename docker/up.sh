#!/bin/sh
# Starts or updates the service on this machine: secrets, images, and everything healthy. WORKERS=4 starts four Ray
# workers; DEVICE=cuda starts one worker with the GPUs. .env.example lists the other variables; set them in .env.
set -eu
. "$(dirname -- "$0")/require.sh"

docker compose version >/dev/null 2>&1 ||
  fail "'docker compose' is missing: install Docker with its Compose plugin, or start docker/start-*.sh without it"
docker info >/dev/null 2>&1 || fail "Docker's engine does not answer: 'docker info' says why"

# An exported variable overrides .env, as with Compose.
setting() {
  eval "given=\${$1:-}"
  if [ -z "$given" ] && [ -f "$here/.env" ]; then
    given=$(sed -n "s/^$1=//p" "$here/.env" | tail -n 1)
  fi
  echo "${given:-$2}"
}
# Each worker would claim all GPUs, and Ray would count them once per worker.
if [ "$(setting DEVICE cpu)" = cuda ] && [ "$(setting WORKERS 1)" != 1 ]; then
  fail "DEVICE=cuda needs one worker, with all GPUs: leave out WORKERS=$(setting WORKERS 1)"
fi
TUNER_UID=$(setting TUNER_UID "$(id -u)")
if [ "$TUNER_UID" = 0 ]; then
  TUNER_UID=1000
fi
export TUNER_UID
COMMIT=$(git -C "$here" describe --always --dirty --abbrev=40 2>/dev/null || true)
export COMMIT
OWNER=$TUNER_UID "$here/make-secrets.sh"

bind=$(setting BIND 127.0.0.1)
mlflow_port=$(setting MLFLOW_PORT 5000)
dashboard_port=$(setting DASHBOARD_PORT 8265)
set -- -f "$here/compose.yaml"
if [ "$(setting DEVICE cpu)" = cuda ]; then
  set -- "$@" -f "$here/compose.cuda.yaml"
fi
# If the service already runs, it holds these ports itself.
if [ -z "$(docker compose "$@" ps --quiet)" ]; then
  need_free_port "$bind" "$mlflow_port" MLFLOW_PORT
  need_free_port "$bind" "$dashboard_port" DASHBOARD_PORT
fi
docker compose "$@" up --build --wait --scale "ray-worker=$(setting WORKERS 1)"
echo "MLflow            http://$bind:$mlflow_port  (admin, password in $SECRETS_DIR/mlflow_admin_password)"
echo "Ray's dashboard   http://$bind:$dashboard_port  (token in $SECRETS_DIR/ray_token)"
