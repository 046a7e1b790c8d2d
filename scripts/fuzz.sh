#!/bin/sh
# A long run of mutated files over every reader of files of others, each in a process with limits of time and memory:
#   scripts/fuzz.sh --inputs 200000 --seed 1 --out runs/fuzz [READER ...]
#   scripts/fuzz.sh --hostile ''            the files made by hand; a part of a name chooses among them
# Prints a table of readers and outcomes and writes the bytes of every finding to the folder. Status 1 = a finding.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/scripts/environment.sh"

install_requirements requirements.txt requirements-test.txt
PYTHONPATH="$root/src:$root/tests" exec python -m attack.fuzz "$@"
