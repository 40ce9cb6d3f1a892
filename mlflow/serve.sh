#!/usr/bin/env bash
# Runs an MLflow tracking server: runs, models and logins in a database, artifacts served over the same HTTP address.
# Settings come from the environment, then from the file .env beside this script, then from the defaults below.
# Extra arguments go to `mlflow server`.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# Read, not sourced: a settings file must not run commands, and variables already set take precedence.
read_settings() {
  local line key
  while IFS= read -r line || [[ -n $line ]]; do
    key=${line%%=*}
    [[ $line == *=* && $key =~ ^[A-Z][A-Z0-9_]*$ ]] || continue
    [[ -n ${!key+set} ]] || export "$key=${line#*=}"
  done <"$1"
}

# Browsers and clients send the port in the Host header, or leave it out behind a proxy: the server needs both forms.
with_port() {
  local name bare=() list=()
  IFS=, read -ra bare <<<"$1"
  for name in "${bare[@]}"; do
    list+=("$name" "$name:$2")
  done
  (IFS=,; echo "${list[*]}")
}

# MLflow reads the location of logins from a file only; the first administrator's password stays in the environment.
prepare_login() (
  umask 077
  # Signs the forms of the pages; generated once, so that pages open in a browser survive a restart.
  [[ -s $data/secret-key ]] || head -c 32 /dev/urandom | base64 >"$data/secret-key"
  uri=${MLFLOW_AUTH_DATABASE_URI:-sqlite:///$data/auth.db}
  printf '%s\n' "[mlflow]" "database_uri = ${uri//%/%%}" "default_permission = READ" \
    "admin_username = admin" "auth_cache_ttl_seconds = 60" >"$data/auth.ini"
)

[[ ! -f $here/.env ]] || read_settings "$here/.env"
data=${MLFLOW_DATA:-$here/../runs/mlflow-server}
host=${MLFLOW_HOST:-127.0.0.1}
port=${MLFLOW_PORT:-5000}
login=${MLFLOW_LOGIN:-false}

case $host in
  127.0.0.1 | localhost) names=${MLFLOW_SERVER_ALLOWED_HOSTS:-127.0.0.1,localhost} ;;
  *)
    names=${MLFLOW_SERVER_ALLOWED_HOSTS:?"name the addresses this server is reached by: MLFLOW_HOST is $host, not loopback"}
    [[ $login == true ]] ||
      echo "warning: whoever reaches $host:$port may read and change everything; see MLFLOW_LOGIN" >&2
    ;;
esac

mlflow=$here/../.venv/bin/mlflow
[[ -x $mlflow ]] || mlflow=$(command -v mlflow) || {
  echo "error: no mlflow in $here/../.venv or on PATH; run 'make env' first" >&2
  exit 1
}

mkdir -p "$data/artifacts"
data=$(cd "$data" && pwd)
arguments=(--host "$host" --port "$port" --workers "${MLFLOW_WORKERS:-2}" --allowed-hosts "$(with_port "$names" "$port")")
case $login in
  true)
    prepare_login
    export MLFLOW_AUTH_CONFIG_PATH=$data/auth.ini
    export MLFLOW_FLASK_SERVER_SECRET_KEY=${MLFLOW_FLASK_SERVER_SECRET_KEY:-$(<"$data/secret-key")}
    arguments+=(--app-name basic-auth)
    ;;
  false) ;;
  *) echo "error: expected MLFLOW_LOGIN to be true or false, got '$login'" >&2; exit 1 ;;
esac

# By environment, not as arguments, which every user of the machine sees in `ps`: they may contain a password.
export MLFLOW_BACKEND_STORE_URI=${MLFLOW_BACKEND_STORE_URI:-sqlite:///$data/mlflow.db}
export MLFLOW_ARTIFACTS_DESTINATION=${MLFLOW_ARTIFACTS_DESTINATION:-$data/artifacts}
# Not needed for runs and models; without it the server is one process tree that ends with its parent.
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=${MLFLOW_SERVER_ENABLE_JOB_EXECUTION:-false}

echo "MLflow: http://$host:$port  login: $login  data: $data"
exec "$mlflow" server "${arguments[@]}" "$@"
