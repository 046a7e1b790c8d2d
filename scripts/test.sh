#!/bin/sh
# The whole test suite, in the environment of quickstart.sh with the test extras. Arguments go to pytest.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/scripts/environment.sh"

install_requirements requirements.txt requirements-test.txt
allow_mpirun
cd "$root"
exec python -m pytest -q tests "$@"
