#!/bin/bash
# A run on Slurm: a Ray node on each machine of the job, the driver on the first.
#
#   sbatch cluster/slurm.sh        from a folder on a file system that all nodes share, with evofool in its .venv or PATH
#
# Before the time limit the run commits and the job queues again; the next start goes on from there (--resume auto).
# `evofool cluster launch slurm CONFIG --nodes N` prints this file for a config.
#SBATCH --job-name=evofool
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=9
##SBATCH --gpus-per-node=0
#SBATCH --mem=0
#SBATCH --time=08:00:00
# Ray takes any Ray on the machine for its own, starts no second one, and stops all of them at the end: no neighbours.
#SBATCH --exclusive
#SBATCH --signal=B:USR1@180
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=evofool-%j.log
set -euo pipefail
umask 077

ARGUMENTS=(configs/quickstart.yaml evaluation.evaluators=auto)
CPUS=8 # for evaluators; one more of --cpus-per-task is the driver's
GPUS=0

cd "$SLURM_SUBMIT_DIR"
if [ -f .venv/bin/activate ]; then . .venv/bin/activate; fi

# One token for all nodes, in a file only you can read; the home folder must be shared.
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}"
if [ ! -s "$RAY_AUTH_TOKEN_PATH" ]; then
  mkdir -p "$(dirname "$RAY_AUTH_TOKEN_PATH")"
  head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' > "$RAY_AUTH_TOKEN_PATH"
fi
chmod 600 "$RAY_AUTH_TOKEN_PATH"

# The address others reach: a name often means 127.0.1.1 on its own machine, with which no node would be the head.
host=$(getent ahostsv4 "$SLURMD_NODENAME" | awk '$1 !~ /^127\./ {print $1; exit}')
host=${host:-$(hostname -I | cut -d' ' -f1)}
# RAY_ADDRESS: symmetric-run waits with a bare ray.init(), which would else start a cluster of its own.
export RAY_ADDRESS="$host:$((20000 + SLURM_JOB_ID % 10000))"
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300 # seconds; the 30 by default are too few for a cold file system
export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"  # srun does not inherit it
export RAY_USAGE_STATS_ENABLED=0
export NODES="$SLURM_JOB_NUM_NODES" CPUS GPUS
export TEMPORARY="/tmp/evofool-$SLURM_JOB_ID" # short: socket names may have 107 characters
export CONTROL="$SLURM_SUBMIT_DIR/.evofool-$SLURM_JOB_ID"
rm -rf "$CONTROL"
mkdir "$CONTROL"

# On the first node: the driver, whose process id and exit code others need to know.
export DRIVER='
  evofool run "$@" --address "$RAY_ADDRESS" --resume auto &
  echo $! > "$CONTROL/pid"
  code=0
  wait $! || code=$?
  echo "$code" > "$CONTROL/exit"
  exit "$code"'
# On every node. Options go to head and workers alike, so --include-dashboard, for heads only, cannot be among them.
node='
  mkdir -p -m 700 "$TEMPORARY"
  trap "rm -rf \"$TEMPORARY\"" EXIT
  ray symmetric-run --address "$RAY_ADDRESS" --min-nodes "$NODES" --num-cpus="$CPUS" --num-gpus="$GPUS" \
    --temp-dir="$TEMPORARY" --dashboard-host=127.0.0.1 -- bash -c "$DRIVER" driver "$@"'

again=0
drain() { if [ -f "$CONTROL/pid" ]; then kill -TERM "$(cat "$CONTROL/pid")" || true; fi; }
trap 'again=1; drain' USR1 # from --signal: the time limit is near
trap drain TERM            # preemption, scancel

srun --kill-on-bad-exit=0 --wait=120 bash -c "$node" node "${ARGUMENTS[@]}" &
step=$!
while kill -0 "$step" 2> /dev/null; do wait "$step" || true; done # a trapped signal ends `wait` early

# symmetric-run exits with 0 even where Ray did not start, so only what the driver wrote counts.
code=$(cat "$CONTROL/exit" 2> /dev/null || echo 1)
rm -rf "$CONTROL"
if [ "$code" = 143 ] && [ "$again" = 1 ]; then scontrol requeue "$SLURM_JOB_ID"; fi
exit "$code"
