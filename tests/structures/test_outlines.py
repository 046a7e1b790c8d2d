"""Outlines from files: what is understood, what is refused, and that nothing of it reaches C code unchecked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from mindground.errors import DataError
from mindground.structures import check_outline, decode_segmentation, encode_mask, mask_box, outline_box

SQUARE = [1, 1, 9, 1, 9, 8, 1, 8]
SIZE = (12, 20)
WHOLE = {"size": [12, 20], "counts": [0, 240]}


@pytest.mark.parametrize(
    ("given", "understood", "dropped"),
    [
        (None, None, 0),
        ([], None, 0),
        ([SQUARE], [SQUARE], 0),
        (SQUARE, [SQUARE], 0),
        ([[[1, 1], [9, 1], [9, 8], [1, 8]]], [SQUARE], 0),
        ([[1, 1], [9, 1], [9, 8], [1, 8]], [SQUARE], 0),
        ([[1, 1, 9, 1], SQUARE, [5, 6]], [SQUARE], 2),
        ([[1, 1, 9, 1], [5, 6]], None, 2),
        ([[]], None, 1),
        (np.asarray([SQUARE], np.float32), [SQUARE], 0),
        (WHOLE, WHOLE, 0),
        ([WHOLE, SQUARE], [WHOLE, SQUARE], 0),
        ({"size": [12, 20], "counts": b"0`7"}, {"size": [12, 20], "counts": "0`7"}, 0),
    ],
)
def test_what_is_understood(given: Any, understood: Any, dropped: int) -> None:
    assert check_outline(given, SIZE) == (understood, dropped)


BAD = {
    "text": "zzz",
    "number": 5,
    "null in it": [None],
    "text in it": ["1,2,3"],
    "text as a coordinate": [["a"] * 6],
    "object as a coordinate": [[{}, 1, 2, 3, 4, 5]],
    "null as a coordinate": [[None, 1, 2, 3, 4, 5]],
    "truth values": [[True] * 6],
    "three levels of points": [[[[1, 1], [9, 1], [9, 8]]]],
    "odd count": [[1, 1, 9, 1, 9, 8, 1]],
    "NaN": [[0, 0, float("nan"), 0, 1, 1]],
    "NaN first": [[float("nan"), 0, 3, 0, 1, 1]],
    "infinite": [[0, 0, float("inf"), 0, 1, 1]],
    "both infinities": [[0, 0, float("inf"), -float("inf"), 1, 1]],
    "1e9": [[0, 0, 1e9, 0, 1e9, 1e9]],
    "-2e9": [[0, 0, -2e9, 0, 1, 1]],
    "thousands of digits": [[0.5, 0, 10**5000, 0, 1, 1]],
    "too long an outline": [[0, 0, 1e6, 1e6] * 50],
    "too many parts": [SQUARE] * 10001,
    "RLE without counts": {"size": [12, 20]},
    "RLE without size": {"counts": [240]},
    "RLE of size 0": {"size": [0, 5], "counts": "12"},
    "RLE of negative size": {"size": [-12, 20], "counts": [240]},
    "RLE of a huge size": {"size": [99999, 99999], "counts": [99999 * 99999]},
    "RLE whose size is text": {"size": "12x20", "counts": [240]},
    "RLE whose size is null": {"size": [None, 20], "counts": [240]},
    "RLE of another size": {"size": [20, 12], "counts": [240]},
    "short counts": {"size": [12, 20], "counts": [100, 20]},
    "long counts": {"size": [12, 20], "counts": [100, 200]},
    "negative counts": {"size": [12, 20], "counts": [250, -10]},
    "huge counts": {"size": [12, 20], "counts": [10**5000]},
    "float counts": {"size": [12, 20], "counts": [240.0]},
    "text counts": {"size": [12, 20], "counts": ["240"]},
    "null counts": {"size": [12, 20], "counts": None},
    "no counts": {"size": [12, 20], "counts": []},
    "empty compressed counts": {"size": [12, 20], "counts": ""},
    "short compressed counts": {"size": [12, 20], "counts": "PP2"},
    "cut compressed counts": {"size": [12, 20], "counts": "0P"},
    "endless number": {"size": [12, 20], "counts": "P" * 1000 + "1"},
    "characters below": {"size": [12, 20], "counts": "0 7"},
    "no ASCII": {"size": [12, 20], "counts": "0é7"},
    "half a surrogate pair": {"size": [12, 20], "counts": "0\ud8007"},
    "one of two RLEs short": [{"size": [12, 20], "counts": [240]}, {"size": [12, 20], "counts": "PP2"}],
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_what_is_refused(name: str) -> None:
    for read in (check_outline, decode_segmentation):
        with pytest.raises(DataError) as error:
            read(BAD[name], SIZE)
        assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_runs_are_what_pycocotools_makes_of_them() -> None:
    random = np.random.default_rng(0)
    for turn in range(400):
        height, width = (int(n) for n in random.integers(1, 50, 2))
        mask = (random.random((height, width)) < random.random()).astype(np.uint8)
        if turn % 3 == 0:
            mask[:] = 0
            mask[: random.integers(0, height + 1), random.integers(0, width) :] = 1
        packed = encode_mask(mask)
        plain = coco_mask.decode({**packed, "counts": packed["counts"].encode()})
        assert (decode_segmentation(packed, (height, width)) == plain).all() and (plain == mask).all()
        assert outline_box(packed) == (mask_box(mask).tolist() if mask.any() else None)


def test_polygons_are_drawn_as_pycocotools_draws_them() -> None:
    random = np.random.default_rng(1)
    for _ in range(200):
        parts = [(random.random(2 * int(random.integers(3, 9))) * 60 - 10).tolist() for _ in range(3)]
        drawn = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(parts, 30, 40)))
        assert (decode_segmentation(parts, (30, 40)) == drawn).all()


HOSTILE = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (3 << 30,) * 2)
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
import sys
sys.path[:0] = {folders!r}
from structures.test_outlines import BAD, SIZE
from mindground.errors import DataError
from mindground.structures import decode_segmentation
for outline in BAD.values():
    try:
        decode_segmentation(outline, SIZE)
    except DataError:
        continue
    sys.exit("accepted")
# The most that is accepted: many parts, the longest edges, the most points.
for outline in ([[0, 0, 30, 0, 15, 10]] * 10000, [[-1e5, -1e5, 1e6, 9e5, 0, 5e5]], [[1, 1, 2, 2] * 100000]):
    decode_segmentation(outline, SIZE)
print("whole")
"""


def test_the_interpreter_survives_all_of_them() -> None:
    """In a process of its own, with a limit on memory and on processor time: NaN once killed it, an RLE held it."""
    tests = Path(__file__).parents[1]
    program = HOSTILE.format(folders=[str(tests), str(tests.parent / "src")])
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0 and done.stdout.strip() == "whole", done.stderr[-2000:]
