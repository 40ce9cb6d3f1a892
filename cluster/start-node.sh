#!/usr/bin/env bash
# Starts Ray on this machine: once as head, then as worker on every other machine.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

usage() {
  cat <<'TEXT'
usage: start-node.sh [--dry-run] head [RAY FLAGS]
       start-node.sh [--dry-run] worker HOST:PORT [RAY FLAGS]

  head      first node; prints the address that workers join
  worker    joins the head at HOST:PORT
  --dry-run prints the command and starts nothing

RAY_PORT (default 6379) is the head's port. RAY_NODE_IP is this machine's address when it has several.
Further flags go to `ray start`, for example --num-gpus 2, --resources '{"fast": 1}' or --block.
Stop a node with `ray stop`.
TEXT
}

fail() {
  echo "error: $1" >&2
  usage >&2
  exit 2
}

dry_run=
if [[ ${1:-} == --dry-run ]]; then
  dry_run=1
  shift
fi
role=${1:-}
shift || true

case $role in
  # Anyone with access to the dashboard can run code: loopback only, to be reached through an ssh tunnel.
  head) command=(start --head --port "${RAY_PORT:-6379}" --dashboard-host 127.0.0.1) ;;
  worker)
    [[ ${1:-} =~ ^[^:/-][^:/]*:[0-9]+$ ]] || fail "expected HOST:PORT of the head after worker, got '${1:-}'"
    command=(start --address "$1")
    shift
    ;;
  -h | --help | help) usage && exit 0 ;;
  *) fail "expected head or worker, got '$role'" ;;
esac
[[ -z ${RAY_NODE_IP:-} ]] || command+=(--node-ip-address "$RAY_NODE_IP")
command+=(--disable-usage-stats "$@")

ray=$here/../.venv/bin/ray
[[ -x $ray ]] || ray=$(command -v ray) || {
  echo "error: no ray in $here/../.venv or on PATH; run 'make env' in the repository first" >&2
  exit 1
}

if [[ -n $dry_run ]]; then
  printf '%q ' ray "${command[@]}"
  echo
  exit 0
fi
# Jobs run `nullspace`, which is installed beside `ray`.
bin=$(dirname "$ray")
export PATH=$bin:$PATH
exec "$ray" "${command[@]}"
