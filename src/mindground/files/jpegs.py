"""Whether a JPEG is damaged inside although it begins and ends as it should.

Decoders fill the holes of such a file with wrong colours, and libjpeg only prints a line without the file's name to the
standard error stream. No binding hands that line out, so a second Python process decodes the file and reports it.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import BinaryIO, cast

from mindground.errors import ImageError, one_line, printable
from mindground.files.regular import read_regular

__all__ = ["jpeg_damage", "warn_of_damage"]

_LOG = logging.getLogger("mindground")

# argv: sys.path as JSON. In: length of a file (8 bytes), its bytes. Out: length of a text, the text.
_CHILD = """
import json, os, struct, sys, tempfile
sys.path[:] = json.loads(sys.argv[1])
import cv2, numpy
cv2.setNumThreads(1)
source, answer = sys.stdin.buffer, sys.stdout.buffer
said = tempfile.TemporaryFile(buffering=0)
os.dup2(said.fileno(), 2)
while True:
    head = source.read(8)
    if len(head) < 8:
        break
    data = source.read(struct.unpack("<Q", head)[0])
    said.seek(0)
    said.truncate()
    try:
        cv2.imdecode(numpy.frombuffer(data, numpy.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        pass
    said.seek(0)
    text = said.read(2000)
    answer.write(struct.pack("<Q", len(text)) + text)
    answer.flush()
"""
_SAYS = ("Corrupt JPEG", "Premature end", "Invalid", "Inconsistent", "Unsupported")


class _Child:
    """The second process; one for this one, started when the first JPEG is checked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._warned = False

    def ask(self, data: bytes) -> str:
        """What libjpeg says of these bytes; empty where it says nothing or the process cannot be run."""
        with self._lock:
            try:
                process = self._process = self._process or self._start()
                stdin, stdout = cast(BinaryIO, process.stdin), cast(BinaryIO, process.stdout)
                stdin.write(struct.pack("<Q", len(data)) + data)
                stdin.flush()
                (size,) = struct.unpack("<Q", stdout.read(8))
                return stdout.read(size).decode("ascii", "replace")
            except (OSError, struct.error) as error:
                self._close()
                if not self._warned:
                    _LOG.warning("JPEG files are not checked for damage inside: %s", one_line(error))
                self._warned = True
                return ""

    def _start(self) -> subprocess.Popen[bytes]:
        atexit.register(self._close)
        return subprocess.Popen(
            [sys.executable, "-c", _CHILD, json.dumps([entry for entry in sys.path if entry])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def _close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            for stream in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    cast(BinaryIO, stream).close()
            process.terminate()
            process.wait()


_CHECK = _Child()


def jpeg_damage(path: str | Path) -> str:
    """What the JPEG library warns of when it decodes this file, in one line; empty for whole files and other formats.

    It costs one more decode of the file, and 0.2 s once for the second process.

    Raises:
        ImageError: the file cannot be read.
    """
    data = read_regular(path)
    if data[:3] != b"\xff\xd8\xff":
        return ""
    lines = [line for line in _CHECK.ask(data).splitlines() if line.startswith(_SAYS)]
    return one_line("; ".join(dict.fromkeys(lines))) if lines else ""


def warn_of_damage(path: str | Path) -> None:
    """Log a warning that names a JPEG which is damaged inside; see `jpeg_damage`."""
    try:
        damage = jpeg_damage(path)
    except ImageError:
        return  # reading it will say so
    if damage:
        _LOG.warning(
            "%s is damaged, parts of it may show wrong colours (%s); fetch it again", printable(path, 300), damage
        )
