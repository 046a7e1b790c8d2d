"""`mindground eval` as a file: python src/eval.py --help."""

from __future__ import annotations

import sys

from mindground.cli.eval import main
from mindground.cli.exit_codes import run_command

if __name__ == "__main__":
    sys.exit(run_command(main))
