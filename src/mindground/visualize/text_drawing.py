"""Text on images, in any script for which this machine has a font.

Fonts are looked up by file name in the system's font folders; `MINDGROUND_FONT` names one more file,
which is tried first. Without any font, Pillow's built-in Latin font is used. A character that no font has
is drawn as a small box, and one warning says so: the sentence itself is never changed.
"""

from __future__ import annotations

import functools
import logging
import os
import re
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

__all__ = ["Word", "draw_text", "fit_lines", "line_height", "missing_characters", "text_width"]

_LOG = logging.getLogger("mindground")
_REGULAR = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf", "Arial.ttf", "Helvetica.ttc")
_BOLD = ("DejaVuSans-Bold.ttf", "NotoSans-Bold.ttf", "LiberationSans-Bold.ttf", "Arial Bold.ttf", "arialbd.ttf")
_EAST_ASIAN = (
    "NotoSansCJK-Regular.ttc",
    "NotoSansCJKsc-Regular.otf",
    "NotoSansSC-Regular.otf",
    "SourceHanSansSC-Regular.otf",
    "wqy-microhei.ttc",
    "wqy-zenhei.ttc",
    "DroidSansFallbackFull.ttf",
    "PingFang.ttc",
    "msyh.ttc",
    "simhei.ttf",
    "Arial Unicode.ttf",
)
_SYMBOLS = ("NotoEmoji-Regular.ttf", "Symbola.ttf", "NotoSansSymbols2-Regular.ttf", "seguisym.ttf")
# East Asian characters may be broken anywhere, other words only between them.
_PIECES = re.compile(r"[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef]|\s+|[^\s\u2e80-\u9fff\uac00-\ud7af]+")

Word = tuple[float, float, str, int, tuple[int, int, int], bool]


@functools.lru_cache(maxsize=64)
def _fonts(size: int, bold: bool) -> tuple[ImageFont.FreeTypeFont | ImageFont.ImageFont, ...]:
    """Fonts to try for a character, best first."""
    chosen = os.environ.get("MINDGROUND_FONT", "")
    found = []
    groups = ((chosen,) if chosen else (), _BOLD + _REGULAR if bold else _REGULAR, _EAST_ASIAN, _SYMBOLS)
    for group in groups:
        for name in group:
            try:
                found.append(ImageFont.truetype(name, size))
            except OSError:
                if name == chosen:
                    _LOG.warning("MINDGROUND_FONT=%s is not a font file; the system's fonts are used", chosen)
                continue
            break  # one font of each group is enough
    return (*found, ImageFont.load_default(size))


@functools.lru_cache(maxsize=8192)
def _font_index(character: str, bold: bool) -> int:
    """Which of `_fonts` has the character; -1 when none has."""
    if character.isspace():
        return 0
    for index, font in enumerate(_fonts(24, bold)):
        glyph = font.getmask(character)
        # Pillow does not report coverage; a font without the character draws its own "missing" box.
        missing = font.getmask("\uffff")
        if glyph.size != missing.size or bytes(glyph) != bytes(missing):
            return index
    return -1


def missing_characters(text: str, bold: bool = False) -> str:
    """Characters of `text` that no font here can draw, each once, in order."""
    return "".join(dict.fromkeys(c for c in text if _font_index(c, bold) < 0))


@functools.lru_cache(maxsize=1)
def _warn_missing(_: str = "") -> None:
    _LOG.warning(
        "no font on this machine can draw some characters of the captions; they appear as boxes. "
        "Install a font that has them (for Chinese: Noto Sans CJK) or name one in MINDGROUND_FONT"
    )


def _runs(text: str, bold: bool) -> list[tuple[int, str]]:
    """Neighbouring characters that share a font: (index in `_fonts`, text)."""
    runs: list[tuple[int, str]] = []
    for character in text:
        index = _font_index(character, bold)
        if index < 0:
            _warn_missing()
            index, character = 0, "□" if _font_index("□", bold) == 0 else "?"
        if runs and runs[-1][0] == index:
            runs[-1] = (index, runs[-1][1] + character)
        else:
            runs.append((index, character))
    return runs


def text_width(text: str, size: int, *, bold: bool = False) -> float:
    """Width in pixels of one line of text."""
    fonts = _fonts(size, bold)
    return float(sum(fonts[index].getlength(run) for index, run in _runs(text, bold)))


def line_height(size: int) -> int:
    """Distance in pixels from one line to the next."""
    return round(size * 1.35)


def fit_lines(text: str, size: int, width: float, most: int, *, bold: bool = False) -> list[str]:
    """Break text into at most `most` lines of at most `width` pixels; a truncated text ends in an ellipsis."""
    # Control characters have no glyph, and nobody can read a caption of thousands of characters.
    text = " ".join("".join(c if c.isprintable() else " " for c in text[:2000]).split())
    lines, line = [], ""
    for piece in _PIECES.findall(text):
        while text_width(line + piece, size, bold=bold) > width and (line.strip() or len(piece) > 1):
            if line.strip():
                lines.append(line.rstrip())
                line, piece = "", piece.lstrip()
                continue
            cut = _longest_prefix(piece, size, width, bold)
            lines.append(piece[:cut])
            piece = piece[cut:]
        line += piece if line or not piece.isspace() else ""
        if len(lines) > most:
            break
    if line.strip():
        lines.append(line.rstrip())
    if len(lines) <= most:
        return lines
    last = lines[most - 1]
    while last and text_width(last + "…", size, bold=bold) > width:
        last = last[:-1]
    return [*lines[: most - 1], last.rstrip() + "…"]


def _longest_prefix(piece: str, size: int, width: float, bold: bool) -> int:
    """Characters of an overlong word that fit one line, at least one."""
    cut = 1
    while cut < len(piece) and text_width(piece[: cut + 1], size, bold=bold) <= width:
        cut += 1
    return cut


def draw_text(image: np.ndarray, words: Sequence[Word], background: tuple[int, int, int] | None = None) -> np.ndarray:
    """A copy of the image with words on it.

    Args:
        image: (H, W, 3) uint8 RGB.
        words: (left, top, text, size, colour, bold) each, in pixels.
        background: colour of a rectangle behind every word; None draws none.
    """
    canvas = Image.fromarray(image)
    pen = ImageDraw.Draw(canvas)
    for left, top, text, size, colour, bold in words:
        if background is not None:
            end = left + text_width(text, size, bold=bold)
            pen.rounded_rectangle((left - 3, top - 1, end + 3, top + line_height(size) - 1), 3, fill=background)
        fonts, x = _fonts(size, bold), left
        baseline = top + round(size * 1.05)
        for index, run in _runs(text, bold):
            font = fonts[index]
            if isinstance(font, ImageFont.FreeTypeFont):
                pen.text((x, baseline), run, font=font, fill=colour, anchor="ls")
            else:
                pen.text((x, top), run, font=font, fill=colour)
            x += font.getlength(run)
    return np.array(canvas)
