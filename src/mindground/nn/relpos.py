"""Decomposed relative positions on a grid, as ViTDet and SAM use them.

Selecting, cropping and interpolating rows of a table are all linear, so each is a product with one constant matrix
built on the host; its gradient is a product too.
"""

from __future__ import annotations

from functools import lru_cache

import mindspore as ms
import numpy as np
from mindspore import ops

from mindground.nn.resize import linear_matrix
from mindground.nn.swap import swap_middle

__all__ = ["centre_crop", "grid_indicator", "grid_terms", "relative_matrix"]


def centre_crop(table: np.ndarray, length: int) -> np.ndarray:
    """Middle `length` rows of a table of relative positions: every kept row still stands for the same offset."""
    start = (len(table) - length) // 2
    return table[start : start + length]


@lru_cache(maxsize=256)
def relative_matrix(queries: int, keys: int, length: int, resize: str = "crop") -> np.ndarray:
    """(queries * keys, length) matrix M so that (M @ table)[i * keys + j] is the row of query i against key j.

    Args:
        queries: grid positions of queries along this axis.
        keys: grid positions of keys along this axis.
        length: rows of the table; 2 * max(queries, keys) - 1 fits exactly.
        resize: what to do with a table that does not fit: "interpolate" resizes it linearly, "crop" takes the
            middle of a longer table (offsets keep their meaning) and interpolates only a shorter one.

    Raises:
        ValueError: an unknown `resize`.
    """
    if resize not in ("crop", "interpolate"):
        raise ValueError(f"resize={resize!r}; choose crop or interpolate")
    wanted = 2 * max(queries, keys) - 1
    if resize == "crop" and length > wanted:
        fitted = centre_crop(np.eye(length, dtype=np.float32), wanted)
    elif length != wanted:
        fitted = linear_matrix(length, wanted)
    else:
        fitted = np.eye(length, dtype=np.float32)
    query = np.arange(queries)[:, None] * max(keys / queries, 1.0)
    key = np.arange(keys)[None, :] * max(queries / keys, 1.0)
    offset = (query - key) + (keys - 1) * max(queries / keys, 1.0)
    return np.ascontiguousarray(fitted[offset.astype(np.int64).reshape(-1)])


@lru_cache(maxsize=64)
def grid_indicator(rows: int, columns: int) -> np.ndarray:
    """(rows * columns, rows + columns) of 0/1: the row and the column of every flattened position."""
    by_row = np.repeat(np.eye(rows, dtype=np.float32), columns, 0)
    by_column = np.tile(np.eye(columns, dtype=np.float32), (rows, 1))
    return np.concatenate([by_row, by_column], 1)


def grid_terms(
    q: ms.Tensor, offsets_h: ms.Tensor, offsets_w: ms.Tensor, grid: tuple[int, int]
) -> tuple[ms.Tensor, ms.Tensor]:
    """Products of every query with the relative positions of key rows and key columns.

    Args:
        q: (G, rows * columns, d), unscaled queries on the grid.
        offsets_h: (rows, key rows, d).
        offsets_w: (columns, key columns, d).
        grid: (rows, columns) of the queries.

    Returns:
        rel_h (G, rows * columns, key rows) and rel_w (G, rows * columns, key columns).
    """
    groups, _, width = q.shape
    rows, columns = grid
    product = ops.BatchMatMul(transpose_b=True)
    by_row = swap_middle(q.reshape((1, groups, rows, columns * width)))
    rel_h = product(by_row.reshape((rows, groups * columns, width)), offsets_h)
    rel_h = swap_middle(rel_h.reshape((1, rows, groups, -1)))
    by_column = swap_middle(q.reshape((1, groups * rows, columns, width)))
    rel_w = product(by_column.reshape((columns, groups * rows, width)), offsets_w)
    rel_w = swap_middle(rel_w.reshape((1, columns, groups * rows, -1)))
    shape = (groups, rows * columns, -1)
    return rel_h.reshape(shape), rel_w.reshape(shape)
