#!/bin/sh
# From a fresh machine to a trained model, its metrics and an image of samples: environment, training on the synthetic
# set with two ranks, evaluation with and without exchanged sentences. Run again, it reuses all of it.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/scripts/environment.sh"

install_requirements requirements.txt
allow_mpirun
cd "$root"

mpirun -n 2 python src/train.py
python src/eval.py --ckpt runs/quickstart/best.ckpt --with-shuffled --out runs/quickstart/eval.json
image=$(python src/eval_visualize.py --ckpt runs/quickstart/best.ckpt)

python - <<'END'
import json

with open("runs/quickstart/eval.json", encoding="utf-8") as stream:
    metrics = json.load(stream)
print(f"{'':14}{'sentences':>12}{'exchanged':>12}")
for name in ("prec@0.5", "mean_iou"):
    print(f"{name:14}{metrics[name]:12.4f}{metrics['shuffled'][name]:12.4f}")
END
echo "metrics: runs/quickstart/eval.json"
echo "image: $image"
