"""How an image lies on the network's canvas, and the exact way back to original pixels."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from mindground.structures.boxes import clip_boxes

__all__ = ["Geometry"]


@dataclass(frozen=True)
class Geometry:
    """How one image lies on the network's canvas, and the exact way back.

    canvas_x = (flip(original_x)) * scale_x + offset_x, likewise for y. The resized image may be
    larger than the canvas (a crop: negative offset) or smaller (padding: positive offset).

    Attributes:
        original_size, resized_size, canvas_size: (height, width) in pixels.
        offset: (x, y) of the resized image's corner on the canvas; whole pixels unless `window` is given.
        scale: (x, y) factors that map original pixels to resized pixels. For VG-LAW both are the
            unrounded ratio, so that boxes come back exactly.
        flipped: True when the image was mirrored left to right before being resized.
        upside_down: True when it was mirrored top to bottom.
        window: (top, left, bottom, right) of the canvas on which an image lies that was resized, cut and resized
            again; None = where the resized image covers the canvas.
    """

    original_size: tuple[int, int]
    resized_size: tuple[int, int]
    canvas_size: tuple[int, int]
    offset: tuple[float, float] = (0, 0)
    scale: tuple[float, float] = (1.0, 1.0)
    flipped: bool = False
    upside_down: bool = False
    window: tuple[int, int, int, int] | None = None

    def visible(self) -> tuple[int, int, int, int]:
        """Top, left, bottom, right of the part of the canvas on which the image lies; the rest is padding."""
        if self.window is not None:
            return self.window
        (height, width), (x, y) = self.resized_size, (int(self.offset[0]), int(self.offset[1]))
        return max(0, y), max(0, x), min(self.canvas_size[0], y + height), min(self.canvas_size[1], x + width)

    def _mirror(self, boxes: np.ndarray) -> np.ndarray:
        """(N, 4) in pixels of the resized image, before or after mirroring; changed in place."""
        if self.flipped:
            boxes[:, [0, 2]] = self.resized_size[1] - boxes[:, [2, 0]]
        if self.upside_down:
            boxes[:, [1, 3]] = self.resized_size[0] - boxes[:, [3, 1]]
        return boxes

    def mirror(self, pixels: np.ndarray) -> np.ndarray:
        """(H, W, ...) of the resized image, mirrored as this geometry says; twice gives it back."""
        pixels = pixels[:, ::-1] if self.flipped else pixels
        return pixels[::-1] if self.upside_down else pixels

    def boxes_to_canvas(self, boxes_xyxy: np.ndarray) -> np.ndarray:
        """(N, 4) original pixels -> canvas pixels; not clipped."""
        boxes = self._mirror(np.array(boxes_xyxy, np.float64).reshape(-1, 4) * (*self.scale, *self.scale))
        return (boxes + (*self.offset, *self.offset)).astype(np.float32)

    def boxes_to_original(self, boxes_xyxy: np.ndarray, clip: bool = True) -> np.ndarray:
        """(N, 4) canvas pixels -> original pixels, moved inside the image unless `clip` is False."""
        boxes = self._mirror(np.array(boxes_xyxy, np.float64).reshape(-1, 4) - (*self.offset, *self.offset))
        boxes = (boxes / (*self.scale, *self.scale)).astype(np.float32)
        return clip_boxes(boxes, self.original_size) if clip else boxes

    def map_to_original(self, canvas: np.ndarray) -> np.ndarray:
        """(H, W) float map on the canvas -> (H, W) of the original image, bilinear.

        What a crop cut away is filled with the map's lowest value.
        """
        if self.window is not None:
            return self._window_to_original(canvas)
        x, y = int(self.offset[0]), int(self.offset[1])
        whole = np.full(self.resized_size, canvas.min(), np.float32)
        top, left, bottom, right = self.visible()
        whole[top - y : bottom - y, left - x : right - x] = canvas[top:bottom, left:right]
        whole = self.mirror(whole)
        size = (self.original_size[1], self.original_size[0])
        return cv2.resize(np.ascontiguousarray(whole), size, interpolation=cv2.INTER_LINEAR)

    def _window_to_original(self, canvas: np.ndarray) -> np.ndarray:
        height, width = self.original_size
        top, left, bottom, right = self.window or self.visible()
        # Pixel centres of the original on the canvas; a box without area is a point, and every axis is for itself.
        steps = np.arange(max(height, width)) + 0.5
        points = self.boxes_to_canvas(np.stack([steps] * 4, 1))
        columns, rows = points[:width, 0], points[:height, 1]
        part = np.ascontiguousarray(canvas[top:bottom, left:right], np.float32)
        at_x, at_y = np.meshgrid(columns - np.float32(left + 0.5), rows - np.float32(top + 0.5))
        found = cv2.remap(part, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        cut_x, cut_y = (columns < left) | (columns > right), (rows < top) | (rows > bottom)
        return np.where(cut_y[:, None] | cut_x[None], np.float32(canvas.min()), found)
