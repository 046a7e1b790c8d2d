"""Half precision inside the pieces of a network, float32 between them.

A piece is what is compiled and called on its own: the network, one of its encoders, its head. Inside, MindSpore's
`auto` policy computes matrix products and convolutions in the half type and keeps norms, softmax and the like in
float32; weights stay float32. The outputs of a piece are float32, so losses, caches and metrics never get a half type.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mindspore as ms
from mindspore import amp, nn, ops

from mindground.errors import DeviceError

__all__ = ["PRECISIONS", "as_float32", "in_precision"]

PRECISIONS = ("float32", "float16", "bfloat16")

_float32_of = ops.MultitypeFuncGraph("float32_of")


@_float32_of.register("Tensor")
def _widened(value: ms.Tensor) -> ms.Tensor:
    if value.dtype == ms.float16 or value.dtype == ms.bfloat16:
        return ops.cast(value, ms.float32)
    return value


@_float32_of.register("None")
def _nothing(value: None) -> None:
    return value


_map = ops.HyperMap()


def as_float32(values: Any) -> Any:
    """A tensor, or tensors in tuples, with half types cast to float32; other types stay. Works in graphs, too."""
    return _map(_float32_of, values)


class _Piece(nn.Cell):
    def __init__(self, piece: Callable[..., Any]) -> None:
        # The model's parameters keep their names.
        super().__init__(auto_prefix=False)
        self.piece = piece

    def construct(self, *arrays: ms.Tensor) -> Any:
        return as_float32(self.piece(*arrays))


def in_precision(piece: Callable[..., Any], precision: str) -> Callable[..., Any]:
    """`piece` computed in `precision` with float32 outputs; gradients flow through it.

    Args:
        piece: a Cell or a method of one (`model`, `model.encode_image`, `model.head`). Takes tensors, returns a
            tensor or (nested) tuples of tensors.
        precision: float32 returns `piece` itself, so that nothing changes.

    Raises:
        DeviceError: an unknown precision. `device.apply` checks whether the device has it.
    """
    if precision not in PRECISIONS:
        raise DeviceError(f"precision={precision!r} is unknown; choose one of {', '.join(PRECISIONS)}")
    if precision == "float32":
        return piece
    return amp.auto_mixed_precision(_Piece(piece), "auto", getattr(ms, precision))
