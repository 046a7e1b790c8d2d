#!/bin/sh
# RMSIN's published training on RRSIS-D. RANKS=2 sh scripts/train_rrsisd.sh --train.batch_size=4 changes ranks and any key.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/scripts/environment.sh"
use_environment
cd "$root"
exec mpirun -n "${RANKS:-4}" python src/train.py --config "configs/rmsin/rrsisd.yaml" "$@"
