"""Images cut into patches: a convolution whose stride is its kernel, as one matrix product."""

from __future__ import annotations

import mindspore as ms
from mindspore import nn, ops

from mindground.nn import init
from mindground.nn.linear import PlainProduct, affine_kernel

__all__ = ["PatchEmbed", "PatchProjection"]


class PatchProjection(nn.Cell):
    """The convolution's parameters, `weight` (width, channels, patch, patch) and optionally `bias` (width).

    construct: (B, channels, H, W) -> (B, H / patch, W / patch, width).
    """

    def __init__(self, channels: int, patch: int, width: int, bias: bool = True) -> None:
        super().__init__()
        self.patch, self.width, self.has_bias = patch, width, bias
        self.weight = init.parameter(init.trunc_normal((width, channels, patch, patch)), "weight")
        if bias:
            self.bias = init.parameter(init.constant((width,)), "bias")
            self.kernel = affine_kernel()
        else:
            self.kernel = PlainProduct()

    def construct(self, image: ms.Tensor) -> ms.Tensor:
        """See the class.

        Raises:
            ValueError: the image is not a whole number of patches high and wide.
        """
        batch, channels, height, width = image.shape
        patch = self.patch
        if height % patch != 0 or width % patch != 0:
            raise ValueError("image height and width must be multiples of the patch size")
        rows, columns = height // patch, width // patch
        x = ops.transpose(image.reshape((batch, channels, rows, patch, columns, patch)), (0, 2, 4, 1, 3, 5))
        x = x.reshape((batch * rows * columns, channels * patch * patch))
        weight = self.weight.reshape((self.width, -1))
        x = self.kernel(x, weight, self.bias) if self.has_bias else self.kernel(x, weight)
        return x.reshape((batch, rows, columns, self.width))


class PatchEmbed(nn.Cell):
    """A `PatchProjection` under the name `proj`, as vision transformers store it."""

    def __init__(self, patch_size: int, width: int, channels: int = 3) -> None:
        super().__init__()
        self.proj = PatchProjection(channels, patch_size, width)

    def construct(self, image: ms.Tensor) -> ms.Tensor:
        """(B, channels, H, W) -> (B, H / patch, W / patch, width)."""
        return self.proj(image)
