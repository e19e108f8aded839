#!/bin/bash
# A run over several Ray nodes (raylets) on this machine: a cluster to try things on.
#
#   cluster/local.sh [CONFIG [KEY=VALUE]...]
#
# A token made for this run keeps others out: Ray listens on all interfaces, whatever address its nodes have. The nodes
# end with the run, by process id; nothing else is touched.
set -euo pipefail
umask 077

ARGUMENTS=(configs/quickstart.yaml evaluation.evaluators=auto)
NODES=2
CPUS=1 # of each node
GPUS=0
PORT=${PORT:-26379}
if [ $# -gt 0 ]; then ARGUMENTS=("$@"); fi

folder=$(mktemp -d /tmp/evofool.XXXXXX) # short: socket names may have 107 characters
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$folder/token" RAY_USAGE_STATS_ENABLED=0
head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' > "$RAY_AUTH_TOKEN_PATH"
unset RAY_ADDRESS RAY_AUTH_TOKEN

pids=()
driver=
finish() {
  trap - EXIT
  trap '' INT TERM
  if [ ${#pids[@]} -gt 0 ]; then kill -TERM "${pids[@]}" 2> /dev/null || true; wait "${pids[@]}" || true; fi
  rm -rf "$folder"
}
stop() { # the driver commits and ends; its exit code is ours
  if [ -n "$driver" ]; then kill -TERM "$driver" 2> /dev/null || true; else exit 143; fi
}
trap finish EXIT
trap stop INT TERM

node() { # NUMBER OPTIONS...
  local number=$1
  shift
  ray start --block --node-ip-address=127.0.0.1 --num-cpus="$CPUS" --num-gpus="$GPUS" \
    --dashboard-agent-listen-port=$((PORT + 10 + number)) --metrics-export-port=$((PORT + 50 + number)) \
    "$@" > "$folder/node-$number.log" 2>&1 &
  pids+=($!)
}
up() { (exec 3<> "/dev/tcp/127.0.0.1/$PORT") 2> /dev/null; }

if up; then echo "port $PORT is taken; choose another with PORT=..." >&2; exit 2; fi
node 0 --head --port="$PORT" --include-dashboard=false --temp-dir="$folder/ray"
for _ in $(seq 120); do if up; then break; fi; sleep 0.5; done
up || { cat "$folder/node-0.log" >&2; exit 3; }
for number in $(seq 1 $((NODES - 1))); do node "$number" --address="127.0.0.1:$PORT"; done
# `evaluation.evaluators: auto` counts the cores there are when the driver starts.
python3 - "127.0.0.1:$PORT" "$NODES" << 'END' || { cat "$folder"/node-*.log >&2; exit 3; }
import sys, time, ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
deadline = time.monotonic() + 120
while sum(node["Alive"] for node in ray.nodes()) < int(sys.argv[2]):
    if time.monotonic() > deadline:
        sys.exit(f"fewer than {sys.argv[2]} nodes came up")
    time.sleep(0.2)
END

evofool run "${ARGUMENTS[@]}" --address "127.0.0.1:$PORT" --resume auto &
driver=$!
while kill -0 "$driver" 2> /dev/null; do wait "$driver" || true; done # a trapped signal ends `wait` early
code=0
wait "$driver" || code=$?
exit "$code"
