#!/bin/sh
# A node of a Ray cluster: trials run here. Flags go to `ray start`, such as --num-gpus 1.
#
#   RAY_HEAD      address and port of the head (127.0.0.1:6379)
#   RAY_NODE_IP   this machine's address for the other nodes (Ray's guess)
#   RAY_NUM_CPUS  CPUs for trials (all)
#   SECRETS_DIR   ray_token, the same as the head's
set -eu
. "$(dirname -- "$0")/require.sh"

need_command ray "run 'make setup'"
read_secret ray_token >/dev/null
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$SECRETS_DIR/ray_token"
outlast_cuts
if [ -n "${RAY_NODE_IP:-}" ]; then
  set -- --node-ip-address "$RAY_NODE_IP" "$@"
fi
if [ -n "${RAY_NUM_CPUS:-}" ]; then
  set -- --num-cpus "$RAY_NUM_CPUS" "$@"
fi
RAY_HEAD=${RAY_HEAD:-127.0.0.1:6379}
# Ray itself would wait for minutes and end with a traceback.
need_answer "$RAY_HEAD" RAY_HEAD

exec ray start --address "$RAY_HEAD" --block --disable-usage-stats "$@"
