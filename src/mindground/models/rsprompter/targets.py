"""Objects of one example, in fixed shapes."""

from __future__ import annotations

import numpy as np

from mindground.errors import DataError
from mindground.structures import Example

__all__ = ["Objects", "encode_objects", "objects_of"]

# A box with a side up to this many pixels is no object.
_LEAST_SIDE = 1e-5


def encode_objects(example: Example, max_objects: int, classes: int) -> dict[str, np.ndarray]:
    """The arrays of `Objects`, filled up to M = `max_objects`, masks as packed bits, and the size of what is seen.

    Returns:
        object_boxes (M, 4) in canvas pixels, object_labels (M,) from 0, object_count (), object_masks (M, bytes),
        seen_size (2,): height and width of the canvas without the padding behind the image.

    Raises:
        DataError: more objects than there is room for, a class that the network does not have, or no outlines.
    """
    boxes, labels = example.boxes_xyxy, example.labels - 1  # category ids of the data set count from 1
    sides = boxes[:, 2:] - boxes[:, :2]
    kept = np.flatnonzero((sides > _LEAST_SIDE).all(1))
    height, width = example.geometry.canvas_size
    name = example.sample.sample_id
    if len(kept) > max_objects:
        raise DataError(f"sample {name!r} has {len(kept)} objects; set model.max_objects={len(kept)} or more")
    if len(kept) and not 0 <= labels[kept].min() <= labels[kept].max() < classes:
        found = sorted({int(label) for label in example.labels})
        raise DataError(f"sample {name!r} has the categories {found}, and model.classes={classes} gives 1 to {classes}")
    if len(kept) and example.masks is None:
        raise DataError(f"sample {name!r} has an object without an outline; this family learns from masks")
    arrays: dict[str, np.ndarray] = {
        "object_boxes": np.zeros((max_objects, 4), np.float32),
        "object_labels": np.zeros(max_objects, np.int32),
        "object_count": np.asarray(len(kept), np.int32),
        "object_masks": np.zeros((max_objects, -(-height * width // 8)), np.uint8),
    }
    if len(kept) and example.masks is not None:
        arrays["object_boxes"][: len(kept)], arrays["object_labels"][: len(kept)] = boxes[kept], labels[kept]
        masks = np.asarray(example.masks())[kept] != 0
        arrays["object_masks"][: len(kept)] = np.packbits(masks.reshape(len(kept), -1), axis=1)
    arrays["seen_size"] = np.asarray(example.geometry.visible()[2:], np.float32)
    return arrays


class Objects:
    """Objects of one image of a batch: boxes (G, 4), labels (G,) from 0, and masks, unpacked one by one."""

    def __init__(self, boxes: np.ndarray, labels: np.ndarray, packed: np.ndarray, size: tuple[int, int]) -> None:
        self.boxes, self.labels, self._packed, self._size = boxes, labels, packed, size

    def masks(self, indexes: np.ndarray) -> np.ndarray:
        """(K, H, W) uint8 of the objects at `indexes` (K,)."""
        count = self._size[0] * self._size[1]
        bits = np.unpackbits(self._packed[np.asarray(indexes, np.int64)], axis=1, count=count)
        return bits.reshape(len(bits), *self._size)


def objects_of(arrays: dict[str, np.ndarray], image: int, size: tuple[int, int]) -> Objects:
    """Objects of image `image` of a batch's arrays on a canvas of (height, width) `size`."""
    count = int(arrays["object_count"][image])
    names = ("object_boxes", "object_labels", "object_masks")
    boxes, labels, packed = (np.asarray(arrays[name][image][:count]) for name in names)
    return Objects(boxes, labels, packed, size)
