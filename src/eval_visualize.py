"""`mindground show` as a file: python src/eval_visualize.py --help."""

from __future__ import annotations

import sys

from mindground.cli.exit_codes import run_command
from mindground.cli.show import main

if __name__ == "__main__":
    sys.exit(run_command(main))
