"""`mindground data convert-whu` as a file of a clone: python tools/convert_whu.py --help."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from mindground.cli.data.convert_whu import main  # noqa: E402
from mindground.cli.exit_codes import run_command  # noqa: E402

if __name__ == "__main__":
    sys.exit(run_command(main, label="error"))
