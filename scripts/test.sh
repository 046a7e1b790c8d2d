#!/bin/sh
# The whole test suite, in the environment of quickstart.sh with the test extras. Arguments go to pytest; --all adds the
# full-size reference cases that no change since the main branch reaches, and every mode of the others. Two processes
# share the test files; JOBS=1 runs them one after another.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/scripts/environment.sh"

install_requirements requirements.txt requirements-test.txt
allow_mpirun
cd "$root"
exec python -m pytest -q -n "${JOBS:-2}" --dist loadfile tests "$@"
