#!/bin/sh
# The other pair of versions that belongs together, beside the pinned one, in an environment of its own (.venv-second):
#   scripts/second_versions.sh                      a small training with two ranks, and its evaluation
#   scripts/second_versions.sh GOLDEN [PATTERN]     the reference cases of a folder before that (by default all)
# MINDSPORE=2.9.0 and MINDFORMERS=1.9.0 choose others; MINDFORMERS= leaves it out.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/scripts/environment.sh"

mindspore=${MINDSPORE-2.9.0} mindformers=${MINDFORMERS-1.9.0}
venv=$root/.venv-second
[ -x "$venv/bin/python" ] || "$(find_python)" -m venv "$venv" || stop "cannot make $venv"
PATH="$venv/bin:$PATH"
VIRTUAL_ENV="$venv"
export PATH VIRTUAL_ENV

wanted=$venv/requirements.txt
{
    echo "mindspore==$mindspore"
    [ -z "$mindformers" ] || echo "mindformers==$mindformers"
    grep -v -e '^mindspore' -e '^mindformers' "$root/requirements.txt"
} >"$wanted.new"
if ! cmp -s "$wanted.new" "$venv/installed.txt"; then
    echo "installing mindspore $mindspore into $venv (some 3 GB, minutes) ..."
    python -m pip install --quiet --disable-pip-version-check -r "$wanted.new"
    mv "$wanted.new" "$venv/installed.txt"
fi
allow_mpirun
cd "$root"

if [ $# -gt 0 ]; then
    python tests/golden/run.py --root "$1" --case "${2:-*}"
fi
mpirun -n 2 python src/train.py --train.output_dir=runs/second --train.experiment_name=versions
python src/eval.py --ckpt runs/second/versions/best.ckpt --out runs/second/versions/eval.json --overwrite
echo "mindspore $mindspore: trained and evaluated, runs/second/versions/eval.json"
