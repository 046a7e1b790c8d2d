"""ResNet with bottlenecks (He et al., arXiv 1512.03385), stride in the 3x3 convolution, as torchvision builds it."""

from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
from mindspore import nn, ops

from mindground.nn import init
from mindground.nn.batch_norm import BatchNorm2d
from mindground.nn.conv import Conv2d
from mindground.weights.maps import WeightMap

__all__ = ["TORCHVISION_RESNET_MAP", "Bottleneck", "ResNet"]

_EXPANSION = 4


def _conv(channels: int, out: int, kernel: int, stride: int = 1) -> Conv2d:
    conv = Conv2d(channels, out, kernel, stride, kernel // 2, bias=False)
    conv.weight.set_data(init.normal(conv.weight.shape, (2.0 / (out * kernel**2)) ** 0.5))
    return conv


class Bottleneck(nn.Cell):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut, which is a convolution where shapes differ.

    Args:
        channels: C before.
        inner: channels of the 3x3 convolution; four times as many come out.
        stride: step of the 3x3 convolution.
        norms: kind of BatchNorm, see `BatchNorm2d`.
    """

    def __init__(self, channels: int, inner: int, stride: int, norms: str) -> None:
        super().__init__()
        out = inner * _EXPANSION
        self.conv1, self.bn1 = _conv(channels, inner, 1), BatchNorm2d(inner, kind=norms)
        self.conv2, self.bn2 = _conv(inner, inner, 3, stride), BatchNorm2d(inner, kind=norms)
        self.conv3, self.bn3 = _conv(inner, out, 1), BatchNorm2d(out, kind=norms)
        self.changes = stride != 1 or channels != out
        if self.changes:
            self.downsample = nn.SequentialCell(_conv(channels, out, 1, stride), BatchNorm2d(out, kind=norms))

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """(B, C, h, w) -> (B, 4 inner, h / stride, w / stride)."""
        y = ops.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(ops.relu(self.bn2(self.conv2(y)))))
        return ops.relu(y + (self.downsample(x) if self.changes else x))


class ResNet(nn.Cell):
    """Image -> four maps of strides 4, 8, 16, 32.

    Args:
        depths: blocks of the four stages; (3, 4, 6, 3) is ResNet-50.
        width: channels after the stem.
        norms: "frozen" normalises by running statistics in training, too, as detectors do; "local" by the batch.
        frozen_stages: -1 = everything learns, 0 = the stem does not, n = nor do the first n stages.
    """

    def __init__(
        self, depths: Sequence[int] = (3, 4, 6, 3), width: int = 64, norms: str = "frozen", frozen_stages: int = 1
    ) -> None:
        super().__init__()
        if not -1 <= frozen_stages <= len(depths):
            raise ValueError(f"frozen_stages={frozen_stages}; choose from -1 to {len(depths)}")
        self.channels = tuple(width * _EXPANSION * 2**stage for stage in range(len(depths)))
        self.conv1, self.bn1 = _conv(3, width, 7, 2), BatchNorm2d(width, kind=norms)
        # Zeros around the map do no harm: what is pooled is not negative.
        self.pool = nn.MaxPool2d(3, 2, pad_mode="pad", padding=1)
        stages, before = [], width
        for stage, depth in enumerate(depths):
            inner, blocks = width * 2**stage, []
            for index in range(depth):
                blocks.append(Bottleneck(before, inner, 2 if stage and not index else 1, norms))
                before = inner * _EXPANSION
            stages.append(nn.SequentialCell(*blocks))
        self.layers = nn.CellList(stages)
        frozen: list[nn.Cell] = [self.conv1, self.bn1] if frozen_stages >= 0 else []
        for cell in (*frozen, *stages[: max(frozen_stages, 0)]):
            for parameter in cell.get_parameters():
                parameter.requires_grad = False

    def construct(self, image: ms.Tensor) -> tuple[ms.Tensor, ...]:
        """Normalised image (B, 3, H, W), sides multiples of 32 -> maps (B, 4 width 2^s, H / 2^(s+2), W / 2^(s+2))."""
        x = self.pool(ops.relu(self.bn1(self.conv1(image))))
        maps = ()
        for stage in self.layers:
            x = stage(x)
            maps = maps + (x,)
        return maps


_NORM = (("weight", "gamma"), ("bias", "beta"), ("running_mean", "moving_mean"), ("running_var", "moving_variance"))
TORCHVISION_RESNET_MAP = WeightMap(
    "torchvision ResNet",
    backbone="resnet",
    rules=(
        ("conv1.weight", "conv1.weight"),
        *((f"bn1.{a}", f"bn1.{b}") for a, b in _NORM),
        *(
            pair
            for number in range(1, 5)
            for pair in (
                (f"layer{number}.{{n}}.conv{{k}}.weight", f"layers.{number - 1}.{{n}}.conv{{k}}.weight"),
                (f"layer{number}.{{n}}.downsample.0.weight", f"layers.{number - 1}.{{n}}.downsample.0.weight"),
                *((f"layer{number}.{{n}}.bn{{k}}.{a}", f"layers.{number - 1}.{{n}}.bn{{k}}.{b}") for a, b in _NORM),
                *(
                    (f"layer{number}.{{n}}.downsample.1.{a}", f"layers.{number - 1}.{{n}}.downsample.1.{b}")
                    for a, b in _NORM
                ),
            )
        ),
    ),
    ignored=(
        (r"(.*\.)?num_batches_tracked", "a counter that nothing reads"),
        (r"fc\.(weight|bias)", "classifier of the pre-training"),
    ),
)
