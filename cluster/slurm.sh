#!/usr/bin/env bash
# One run on Slurm: Ray on every node of the allocation, the pipeline on the first, and everything ends with the job.
#
#   sbatch --nodes 4 cluster/slurm.sh CONFIG --workdir /shared/runs/first [--set KEY=VALUE …]
#
# Submit it in the folder of this repository, installed with `make env` on storage that every node sees. The arguments
# are those of `nullspace run`. The same line again resumes where the last job stopped; NULLSPACE_REQUEUE=1 does so
# automatically when the time is up. `scancel --batch --signal=TERM JOB` stops early, `--dry-run` shows the commands.
#SBATCH --job-name=nullspace
#SBATCH --output=nullspace-%j.log
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --time=12:00:00
#SBATCH --requeue
# Two minutes before the time is up: stages stop, runs in MLflow are closed, finished stages are kept.
#SBATCH --signal=B:TERM@120
set -euo pipefail

fail() {
  echo "error: $1" >&2
  exit 2
}

dry_run=
if [[ ${1:-} == --dry-run ]]; then
  dry_run=1
  shift
fi
[[ $# -gt 0 && $1 != -* ]] || fail "expected CONFIG --workdir /shared/runs/NAME, got '${*:-nothing}'"
[[ " $* " =~ \ --workdir[=\ ]/ ]] || fail "expected --workdir with an absolute path on storage that every node sees"

# sbatch runs a copy of this file from another folder.
root=${SLURM_SUBMIT_DIR:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)}
bin=$root/.venv/bin
[[ -x $root/cluster/start-node.sh && -x $bin/nullspace ]] ||
  fail "no installed nullspace in $root; run sbatch in the folder of the repository, after 'make env'"
job=${SLURM_JOB_ID:-0}

nodes=()
while read -r node; do nodes+=("$node"); done < <(scontrol show hostnames "${SLURM_JOB_NODELIST:?not inside a Slurm job}")
export RAY_PORT=${RAY_PORT:-$((20000 + job % 20000))} # avoids collisions of jobs that share a machine
head=${nodes[0]}:$RAY_PORT
# Everyone on the network can reach Ray's ports: without this job's token requests are refused.
export RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=${RAY_AUTH_TOKEN:-$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')}
export RAY_AUTH_TOKEN

show() {
  printf '%q ' "$@"
  echo
}

# Start Ray on one node, in the background, with the resources that Slurm allocated to this job there.
start() {
  local command=(srun --nodes 1 --ntasks 1 --overlap --nodelist "$1" "$root/cluster/start-node.sh" "${@:2}")
  command+=(--num-cpus "${SLURM_CPUS_ON_NODE:-1}" --num-gpus "${SLURM_GPUS_ON_NODE:-0}" --block)
  if [[ -n $dry_run ]]; then show "${command[@]}"; else "${command[@]}" & fi
}

# The first stage would not use workers that join late.
await_nodes() {
  timeout 600 "$bin/python" -c '
import sys, time
import ray
ray.init(sys.argv[1], log_to_driver=False)
while sum(node["Alive"] for node in ray.nodes()) < int(sys.argv[2]):
    time.sleep(1)
' "$head" "${#nodes[@]}" || fail "after 10 minutes not all of ${nodes[*]} had joined"
}

await_head() {
  for _ in $(seq 600); do
    if (exec 3<>"/dev/tcp/${nodes[0]}/$RAY_PORT") 2>/dev/null; then return; fi
    [[ -n $(jobs -rp) ]] || fail "Ray's head on ${nodes[0]} ended before it answered at $head; see above"
    sleep 1
  done
  fail "no answer from Ray's head at $head after 10 minutes"
}

command=("$bin/nullspace" run "$@" --address "$head")
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
start "${nodes[0]}" head --temp-dir "/tmp/ray-$job"
[[ -n $dry_run ]] || await_head
for node in "${nodes[@]:1}"; do start "$node" worker "$head"; done
if [[ -n $dry_run ]]; then
  show "${command[@]}"
  exit 0
fi
await_nodes

driver='' stopped=''
# shellcheck disable=SC2317 # called by the trap
stop() {
  stopped=1
  [[ -z $driver ]] || kill -TERM "$driver" 2>/dev/null || true
}
trap stop TERM INT
"${command[@]}" &
driver=$!
code=0
wait "$driver" || code=$?
if [[ -n $stopped ]]; then # the signal ended the waiting, not yet the run
  code=0
  wait "$driver" || code=$?
  if [[ -n ${NULLSPACE_REQUEUE:-} ]]; then scontrol requeue "$job"; fi
fi
exit "$code"
