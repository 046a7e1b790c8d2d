#!/bin/sh
# MSAM on DIOR-RSVG. RANKS=4 sh scripts/train_dior_rsvg_msam.sh --train.batch_size=4 changes ranks and any key.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/scripts/environment.sh"
use_environment
cd "$root"
exec mpirun -n "${RANKS:-1}" python src/train.py --config "configs/seqtr/dior_rsvg_msam.yaml" "$@"
