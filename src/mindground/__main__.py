"""`python -m mindground` is the command `mindground`."""

from __future__ import annotations

import sys

from mindground.cli import main

if __name__ == "__main__":
    sys.exit(main())
