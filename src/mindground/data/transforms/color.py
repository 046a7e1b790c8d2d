"""Operations on the pixels of an image, which move nothing: brightness, contrast, saturation, blur.

They are Pillow's, because the published recipes were trained with them and their rounding shows in the
numbers. Images are (H, W, 3) uint8 RGB in and out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

__all__ = ["ColorParams", "draw_color_params"]

_ENHANCERS = {
    "brightness": ImageEnhance.Brightness,
    "contrast": ImageEnhance.Contrast,
    "saturation": ImageEnhance.Color,
}
# Of every factor (TransVG and its descendants).
_FACTORS = (0.6, 1.4)
# Standard deviation of the blur in pixels.
_BLUR = (0.1, 2.0)


@dataclass(frozen=True)
class ColorParams:
    """What is done to the colours of one image.

    Attributes:
        enhance: (name, factor) in the order in which they are applied; names: brightness, contrast, saturation.
        blur: standard deviation of a Gaussian blur in pixels, after the colours, or None.
    """

    enhance: tuple[tuple[str, float], ...] = ()
    blur: float | None = None

    def apply(self, image: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 -> the same shape; the array itself when nothing is planned."""
        if not self.enhance and self.blur is None:
            return image
        changed = Image.fromarray(image)
        for name, factor in self.enhance:
            changed = _ENHANCERS[name](changed).enhance(factor)
        if self.blur is not None:
            changed = changed.filter(ImageFilter.GaussianBlur(self.blur))
        return np.asarray(changed)


def draw_color_params(rng: np.random.Generator, color_jitter_prob: float, blur_prob: float = 0.0) -> ColorParams:
    """Random colours for one training image; the number of draws is always the same."""
    jitter, blur, radius, *factors = rng.random(6)
    order = rng.permutation(len(_ENHANCERS))
    enhance: tuple[tuple[str, float], ...] = ()
    if jitter < color_jitter_prob:
        names = list(_ENHANCERS)
        enhance = tuple((names[at], float(_FACTORS[0] + factors[at] * (_FACTORS[1] - _FACTORS[0]))) for at in order)
    return ColorParams(enhance, float(_BLUR[0] + radius * (_BLUR[1] - _BLUR[0])) if blur < blur_prob else None)
