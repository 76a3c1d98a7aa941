#!/bin/sh
# Makes the databases and their users, or gives existing users the passwords of the secrets. It runs at each start.
#
#   PGHOST, PGPORT  the PostgreSQL server (127.0.0.1, 5432)
#   PGUSER          a superuser (postgres)
#   SECRETS_DIR     postgres_password, optuna_password, mlflow_password
set -eu
. "$(dirname -- "$0")/require.sh"

need_command psql "install PostgreSQL's client"
PGPASSWORD=$(read_secret postgres_password)
read_secret optuna_password >/dev/null
read_secret mlflow_password >/dev/null
export PGPASSWORD SECRETS_DIR
export PGHOST="${PGHOST:-127.0.0.1}" PGPORT="${PGPORT:-5432}" PGUSER="${PGUSER:-postgres}"

# psql reads the passwords itself, because the list of processes would show an argument.
psql --no-psqlrc --quiet --tuples-only --set ON_ERROR_STOP=1 --dbname postgres <<'EOF' ||
\set optuna_password `cat "$SECRETS_DIR/optuna_password"`
\set mlflow_password `cat "$SECRETS_DIR/mlflow_password"`
-- A statement that fails is not copied into the server's log, because it holds a password.
SET log_min_error_statement = panic;
SET log_statement = none;
SELECT format('CREATE ROLE %I LOGIN', role) FROM unnest(ARRAY['optuna', 'mlflow']) AS role
  WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) \gexec
ALTER ROLE optuna PASSWORD :'optuna_password';
ALTER ROLE mlflow PASSWORD :'mlflow_password';
SELECT format('CREATE DATABASE %I OWNER %I', wanted.database, wanted.owner)
  FROM (VALUES ('optuna', 'optuna'), ('mlflow', 'mlflow'), ('mlflow_auth', 'mlflow')) AS wanted (database, owner)
  WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = wanted.database) \gexec
-- Each user may connect to its own databases only.
REVOKE CONNECT ON DATABASE optuna, mlflow, mlflow_auth FROM PUBLIC;
EOF
  fail "the databases could not be made on $PGHOST:$PGPORT as $PGUSER (see psql's reason above)"
echo "databases optuna, mlflow and mlflow_auth exist"
