#!/bin/sh
# Ends a small training with kill -9 at random moments and resumes it, again and again:
#   scripts/kill_test.sh --kills 50 --seed 0
# Checks after every kill that last.ckpt and best.ckpt can be read and that nothing half-written stands under their
# names, and at the end of every run that its result is bit for bit that of a run without kills. Status 1 = it is not.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/scripts/environment.sh"

install_requirements requirements.txt requirements-test.txt
PYTHONPATH="$root/src:$root/tests" exec python -m attack.kill "$@"
