"""Convert annotations between formats; the sentence of an object travels with it.

    mindground data convert labels.json out/ --to yolo-seg --images images
    mindground data convert annotations.xml train.jsonl

Formats are recognised by content (--from names one); docs/data.md has the table of what each holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mindground.cli.parser import VerbParser, add_overwrite
from mindground.errors import printable
from mindground.files.outputs import guarded
from mindground.interchange import FORMATS, Context, convert

__all__ = ["main"]


def main(argv: Sequence[str], prog: str | None = None) -> int:
    """Parse, convert, print what was written and what could not be said."""
    parser = VerbParser(prog, __doc__)
    parser.add_argument("source", type=Path, metavar="A", help="a file, or a folder of annotations")
    parser.add_argument("target", type=Path, metavar="B", help="the file, or the folder, to write")
    parser.add_argument("--from", dest="read_as", default="", choices=FORMATS, metavar="FORMAT", help=_listed())
    parser.add_argument("--to", dest="write_as", default="", choices=FORMATS, metavar="FORMAT", help="the same names")
    parser.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="folder of the images, for coordinates that need their sizes or places",
    )
    parser.add_argument("--against", type=Path, metavar="FILE", help="COCO file whose ids a list of results uses")
    add_overwrite(parser)
    options = parser.parse_args(argv)
    inputs = [path for path in (options.source, options.against, options.images) if path is not None]
    with guarded(inputs, overwrite=options.overwrite):
        done = convert(
            options.source,
            options.target,
            options.read_as,
            options.write_as,
            Context(options.images, options.against),
        )
    shown = printable(done.files[0]) if len(done.files) == 1 else f"{len(done.files)} files below {options.target}"
    print(f"{done.source} -> {done.target}: {done.images} images, {done.objects} objects: {shown}")
    for line in done.notes:
        print(line)
    return 0


def _listed() -> str:
    return f"one of {', '.join(FORMATS)} (default: recognised by its content)"
