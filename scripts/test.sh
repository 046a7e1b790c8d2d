#!/bin/sh
# The whole test suite, in the environment of quickstart.sh with the test extras. Arguments go to pytest; --all adds the
# full-size reference cases that no change since the main branch reaches, and every mode of the others.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/scripts/environment.sh"

install_requirements requirements.txt requirements-test.txt
allow_mpirun
cd "$root"
exec python -m pytest -q tests "$@"
