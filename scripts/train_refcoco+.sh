#!/bin/sh
# VG-LAW's published training on refcoco+. RANKS=4 sh scripts/train_refcoco+.sh --train.batch_size=2 changes ranks and any key.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/scripts/environment.sh"
use_environment
cd "$root"
exec mpirun -n "${RANKS:-8}" python src/train.py --config "configs/vglaw/refcoco+.yaml" "$@"
