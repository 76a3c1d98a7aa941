#!/bin/sh
# The head of a Ray cluster: scheduler, dashboard, jobs. Flags go to `ray start`. Ray listens on every interface
# except for the dashboard, and obeys anyone with the token: let only the cluster's machines reach it.
#
#   RAY_NODE_IP                   this machine's address for the other nodes (Ray's guess)
#   RAY_PORT                      where workers join (6379)
#   RAY_DASHBOARD_HOST, RAY_DASHBOARD_PORT   where the dashboard and jobs listen (127.0.0.1, 8265)
#   RAY_AGENT_PORT                where this node gets jobs from the dashboard (52365): a second Ray on this machine
#                                 needs another
#   RAY_NUM_CPUS                  CPUs of this machine for trials (0: it is for the driver alone)
#   SECRETS_DIR                   ray_token; optuna_password and mlflow_admin_password, if the studies that run
#                                 here need them
set -eu
. "$(dirname -- "$0")/require.sh"

need_command ray "run 'make setup'"
# Jobs inherit these, so no password is in a study's command, which Ray and MLflow show.
export_secrets
outlast_cuts
RAY_PORT=${RAY_PORT:-6379}
RAY_DASHBOARD_HOST=${RAY_DASHBOARD_HOST:-127.0.0.1}
RAY_DASHBOARD_PORT=${RAY_DASHBOARD_PORT:-8265}
RAY_AGENT_PORT=${RAY_AGENT_PORT:-52365}
if [ -n "${RAY_NODE_IP:-}" ]; then
  set -- --node-ip-address "$RAY_NODE_IP" "$@"
fi
need_free_port 0.0.0.0 "$RAY_PORT" RAY_PORT
need_free_port "$RAY_DASHBOARD_HOST" "$RAY_DASHBOARD_PORT" RAY_DASHBOARD_PORT
# Without this port Ray would start, and refuse every job.
need_free_port 0.0.0.0 "$RAY_AGENT_PORT" RAY_AGENT_PORT

exec ray start --head --block --disable-usage-stats --port "$RAY_PORT" --num-cpus "${RAY_NUM_CPUS:-0}" \
  --include-dashboard true --dashboard-host "$RAY_DASHBOARD_HOST" --dashboard-port "$RAY_DASHBOARD_PORT" \
  --dashboard-agent-listen-port "$RAY_AGENT_PORT" "$@"
