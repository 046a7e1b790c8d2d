"""The command line: `mindground <verb>`, one module a verb, and what every verb shares.

`verbs` lists them. Importing this package imports neither MindSpore nor a verb.
"""

from __future__ import annotations

from mindground.cli.verbs import main

__all__ = ["main"]
