#!/bin/sh
# Training on Ascend or CUDA cards with msrun, on one machine or on several. Arguments go to src/train.py:
#   scripts/launch/msrun.sh --config configs/vglaw/refcoco.yaml                       # one machine of 8 cards
#   NODES=2 NODE_RANK=0 MASTER=10.0.0.1 scripts/launch/msrun.sh --config ...          # on each of two machines, with its NODE_RANK
# CARDS=8 a machine, PORT=8118, LOGS=runs/msrun. The first machine is the one with NODE_RANK=0 and the address MASTER.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
cards=${CARDS:-8} nodes=${NODES:-1}
if [ "$nodes" -gt 1 ] && { [ -z "${NODE_RANK:-}" ] || [ -z "${MASTER:-}" ]; }; then
    echo "$0: with NODES=$nodes say NODE_RANK (0 to $((nodes - 1))) and MASTER (address of the machine with NODE_RANK=0)" >&2
    exit 2
fi
if [ -x "$root/.venv/bin/python" ]; then
    PATH="$root/.venv/bin:$PATH"
    export PATH
fi
# --join: msrun waits, ends the others when a rank fails, and its exit code says so.
exec msrun --worker_num="$((cards * nodes))" --local_worker_num="$cards" --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER:-127.0.0.1}" --master_port="${PORT:-8118}" --log_dir="${LOGS:-runs/msrun}" --join=True \
    --cluster_time_out=600 "$root/src/train.py" "$@"
