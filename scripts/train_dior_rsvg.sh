#!/bin/sh
# CLIP-VG on DIOR-RSVG. RANKS=4 sh scripts/train_dior_rsvg.sh --train.batch_size=32 changes ranks and any key.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/scripts/environment.sh"
use_environment
cd "$root"
exec mpirun -n "${RANKS:-8}" python src/train.py --config "configs/clipvg/dior_rsvg.yaml" "$@"
