"""The parser of a verb: it says the verb's name in its mistakes and suggests the nearest option."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from mindground.errors import ConfigError

__all__ = ["VerbParser", "add_overwrite", "add_style", "at_least", "band_list", "name_list", "share"]


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """The option of every command that writes files; see `files.outputs`."""
    parser.add_argument("--overwrite", action="store_true", help="replace earlier results (inputs are never replaced)")


def add_style(parser: argparse.ArgumentParser) -> None:
    """The option of every command that draws figures; see `visualize.drawing.STYLES`."""
    parser.add_argument(
        "--style",
        choices=("frame", "contour"),
        default="frame",
        help="of the figures: boxes and light masks (frame), or strong masks with a dark contour and no boxes, as "
        "LAVT's demo draws them (contour)",
    )


def name_list(text: str) -> list[str]:
    """Type of an option that lists names between commas, each once."""
    names = [name.strip() for name in text.split(",")]
    if "" in names:
        raise argparse.ArgumentTypeError(f"{text!r} holds an empty name; write the names with one comma between them")
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise argparse.ArgumentTypeError(f"{twice!r} stands there twice")
    return names


def share(text: str) -> float:
    """Type of an option that is a share, a score or an overlap: a number from 0 to 1."""
    value = _number(text, float, "a number")
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} must lie between 0 and 1")
    return value


def at_least(low: int) -> Callable[[str], int]:
    """Type of an option that counts from `low`."""

    def count(text: str) -> int:
        value = _number(text, int, "a whole number")
        if value < low:
            raise argparse.ArgumentTypeError(f"{text} must be at least {low}")
        return value

    return count


def band_list(text: str) -> list[int]:
    """Type of an option that names bands of an image: three numbers from 1 between commas, or one."""
    bands = [_number(part, int, "a band number") for part in text.split(",")]
    if len(bands) not in (1, 3) or min(bands) < 1:
        raise argparse.ArgumentTypeError(f"{text} must be three band numbers from 1, such as 4,3,2, or one")
    return bands


def _number(text: str, kind: type, called: str) -> Any:
    try:
        return kind(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not {called}") from error


class VerbParser(argparse.ArgumentParser):
    """Parser whose mistakes are ConfigErrors with the name under which the verb was called.

    Importing it imports no other part of the package, so that `mindground doctor` runs where packages are missing.

    Args:
        prog: that name, such as "mindground data check"; None takes the name of the running program.
        description: the text of `--help`, shown as it is written.
    """

    def __init__(self, prog: str | None, description: str | None) -> None:
        super().__init__(
            prog=prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
        )
        # `run_command` takes it off the command line; it stands here for `--help`.
        self.add_argument("--debug", action="store_true", help="show the trace of a mistake as well")

    def error(self, message: str) -> NoReturn:
        """Raises ConfigError."""
        raise ConfigError(f"{self.prog}: {message}")

    # typeshed's overloads concern the type of a given namespace alone.
    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> Any:
        """As `ArgumentParser.parse_args`; an unknown option is answered with the nearest known one."""
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            first = unknown[0].partition("=")[0]
            near = difflib.get_close_matches(first, [n for n in self._option_string_actions if n.startswith("--")], 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return options
