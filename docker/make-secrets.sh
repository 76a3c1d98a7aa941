#!/bin/sh
# Writes each secret that is missing: 256 random bits as hexadecimal digits, which need no quotes in a URL.
# An existing secret stays, because servers use it.
set -eu
. "$(dirname -- "$0")/require.sh"

# Compose gives a container the file as it is, so the file must belong to the user inside.
OWNER=${OWNER:-1000}

umask 077
mkdir -p "$SECRETS_DIR" || fail "$SECRETS_DIR cannot be made"
made=0
for name in postgres_password optuna_password mlflow_password mlflow_admin_password mlflow_secret_key ray_token; do
  if [ ! -s "$SECRETS_DIR/$name" ]; then
    python3 -c 'import secrets; print(secrets.token_hex(32), end="")' >"$SECRETS_DIR/$name.new" ||
      fail "$SECRETS_DIR cannot be written"
    if [ "$(id -u)" = 0 ]; then
      chown "$OWNER" "$SECRETS_DIR/$name.new"
    fi
    mv "$SECRETS_DIR/$name.new" "$SECRETS_DIR/$name"
    made=$((made + 1))
  fi
done
echo "$made new secrets in $SECRETS_DIR (MLflow: user admin, password in mlflow_admin_password)"
