"""From the last feature map to a box and a mask (paper section 3.3)."""

from __future__ import annotations

import mindspore as ms
from mindspore import nn, ops

from mindground.nn import init
from mindground.nn.activations import Gelu
from mindground.nn.linear import Linear
from mindground.nn.norm import LayerNorm

__all__ = ["AdaptivePool", "DoublingConv", "MaskHead"]


class AdaptivePool(nn.Cell):
    """Language-adaptive pooling: one attention step from the sentence over the visual tokens.

    Args:
        query_dim, key_dim: widths of the sentence feature and of the tokens.
        attn_dim: width in which they are compared.
    """

    def __init__(self, query_dim: int, key_dim: int, attn_dim: int = 64) -> None:
        super().__init__()
        self.q_proj = Linear(query_dim, attn_dim, start="kaiming_uniform")
        self.k_proj = Linear(key_dim, attn_dim, start="kaiming_uniform")
        self.scale = attn_dim**-0.5

    def construct(self, query: ms.Tensor, tokens: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        """(B, Q), (B, N, C) -> pooled (B, C) and attention (B, N)."""
        q = self.q_proj(query).expand_dims(1) * self.scale
        scores = ops.bmm(q, self.k_proj(tokens).transpose(0, 2, 1))  # (B, 1, N)
        attention = ops.softmax(scores, -1)
        return ops.bmm(attention, tokens).squeeze(1), attention.squeeze(1)


class DoublingConv(nn.Cell):
    """Transposed convolution 2x2 with stride 2, channel-last.

    Kernel windows do not overlap, so it is one matrix product and a rearrangement. Parameters keep
    the (in, out, 2, 2) layout of PyTorch and MindSpore.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.weight = init.parameter(init.normal((in_channels, out_channels, 2, 2), 0.01), "weight")
        self.bias = init.parameter(init.normal((out_channels,), 0.01), "bias")

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """(B, H, W, C) -> (B, 2H, 2W, out)."""
        batch, height, width, _ = x.shape
        kernel = self.weight.transpose(0, 2, 3, 1).reshape(self.in_channels, 4 * self.out_channels)
        y = ops.matmul(x.reshape(-1, self.in_channels), kernel)
        y = ops.bias_add(y.reshape(-1, self.out_channels), self.bias)
        y = y.reshape(batch, height, width, 2, 2, self.out_channels).transpose(0, 1, 3, 2, 4, 5)
        return y.reshape(batch, 2 * height, 2 * width, self.out_channels)

    def project(self, x: ms.Tensor, query: ms.Tensor) -> ms.Tensor:
        """Dot product of every output pixel with one vector per sample, without forming the pixels.

        The product is moved inside the convolution: (x W + b) . q = x (W q) + b . q, which needs
        out_channels times less work than the features themselves.

        Args:
            x: (B, H, W, C).
            query: (B, out).
        Returns:
            (B, 2H, 2W).
        """
        batch, height, width, _ = x.shape
        kernel = self.weight.transpose(0, 2, 3, 1).reshape(self.in_channels * 4, self.out_channels)
        kernel = ops.matmul(query, kernel.transpose(1, 0)).reshape(batch, self.in_channels, 4)
        shift = ops.matmul(query, self.bias.expand_dims(1)).expand_dims(1)  # (B, 1, 1)
        y = ops.bmm(x.reshape(batch, height * width, self.in_channels), kernel)
        y = y + ops.broadcast_to(shift, y.shape)
        y = y.reshape(batch, height, width, 2, 2).transpose(0, 1, 3, 2, 4)
        return y.reshape(batch, 2 * height, 2 * width)


class MaskHead(nn.SequentialCell):
    """Up-sampling to a quarter of the image and a dot product with the sentence feature."""

    def __init__(self, embed_dim: int, text_dim: int, channels: int = 256, norm_eps: float = 1e-6) -> None:
        super().__init__(
            [DoublingConv(embed_dim, channels), LayerNorm(channels, norm_eps), Gelu(), DoublingConv(channels, text_dim)]
        )

    def pixel_embed(self, features: ms.Tensor) -> ms.Tensor:
        """(B, G, G, C) -> (B, 4G, 4G, T) pixel embeddings; `construct` gives the same products sooner."""
        return self[3](self[2](self[1](self[0](features))))

    def construct(self, features: ms.Tensor, sentence: ms.Tensor) -> ms.Tensor:
        """(B, G, G, C), (B, T) -> logits (B, 4G, 4G)."""
        return self[3].project(self[2](self[1](self[0](features))), sentence)
