"""Pieces in half precision. The CPU computes float16 products, slowly: enough to see which side of a border is half."""

from __future__ import annotations

from typing import Any

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn, ops

from mindground.errors import DeviceError
from mindground.runtime.precision import as_float32, in_precision

# 1.0001 is 1 in float16.
X = np.full((2, 8), 1.0001, np.float32)
ONES = np.ones((8, 8), np.float32)


class Model(nn.Cell):
    """An encoder, a head with a nested answer, and a loss with a matrix product and large numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Dense(8, 8, weight_init="ones", bias_init="zeros")
        self.top = nn.Dense(8, 4, weight_init="ones", bias_init="zeros")

    def encode_image(self, x: ms.Tensor) -> ms.Tensor:
        return self.encoder(x)

    def head(self, features: ms.Tensor) -> tuple[Any, ...]:
        return self.top(features), (features, ops.ones((3,), ms.int32))

    def construct(self, x: ms.Tensor) -> tuple[Any, ...]:
        return self.head(self.encode_image(x))

    def loss(self, outputs: tuple[Any, ...], matrix: ms.Tensor) -> tuple[ms.Tensor, ...]:
        # (2, 8) @ (8, 8): 8.0008 where the product runs in float32 on 1.0001, 8 in float16.
        product = ops.matmul(outputs[1][0] * 0.0 + 1.0001, matrix).mean()
        return ops.square(outputs[0] * 100.0).sum() * product, product


class Loss(nn.Cell):
    """As the training step puts it together: the forward piece, then the loss outside of it."""

    def __init__(self, model: Model, precision: str) -> None:
        super().__init__(auto_prefix=False)
        self.model, self.forward = model, in_precision(model, precision)

    def construct(self, scale: ms.Tensor, x: ms.Tensor, matrix: ms.Tensor) -> tuple[ms.Tensor, ...]:
        total, product = self.model.loss(self.forward(x), matrix)
        return total * scale, total, product


def _call(function: Any, mode: str, *arrays: np.ndarray) -> Any:
    def run(*values: ms.Tensor) -> Any:
        return function(*values)

    return (ms.jit(run) if mode == "graph" else run)(*(ms.Tensor(array) for array in arrays))


@pytest.mark.parametrize("name", ["construct", "encode_image", "head"])
def test_every_piece_computes_in_half_and_answers_in_float32(mode: str, name: str) -> None:
    model = Model()
    piece = model if name == "construct" else getattr(model, name)
    halved, whole = _call(in_precision(piece, "float16"), mode, X), _call(piece, mode, X)
    first, exact = (value if name == "encode_image" else value[0] for value in (halved, whole))
    assert first.dtype == ms.float32 and exact.dtype == ms.float32
    expected = {"construct": 64.0, "encode_image": 8.0, "head": 8.0}[name]
    assert (first.asnumpy() == expected).all(), "the product rounded 1.0001 to 1"
    np.testing.assert_allclose(exact.asnumpy(), expected * 1.0001, rtol=1e-6)
    if name != "encode_image":
        features, count = halved[1]
        assert features.dtype == ms.float32 and count.dtype == ms.int32


def test_the_loss_is_float32_and_gradients_reach_the_weights(mode: str) -> None:
    model = Model()
    weights = tuple(model.trainable_params())
    found = {}
    for precision in ("float16", "float32"):
        gradients = ms.value_and_grad(Loss(model, precision), None, weights, has_aux=True)
        # A small scale keeps the gradients inside float16, as the step's own scale does.
        found[precision] = _call(gradients, mode, np.float32(1e-4), X, ONES)
    (_, total, product), grads = found["float16"]
    assert total.dtype == ms.float32 and product.dtype == ms.float32
    # 8 outputs of 6400 squared, times 8.0008: the sum is far beyond float16, and the product was not rounded.
    assert float(product.asnumpy()) == pytest.approx(8.0008, abs=1e-5)
    assert float(total.asnumpy()) == pytest.approx(8 * 6400.0**2 * 8.0008, rel=1e-5)
    (_, exact, _), exact_grads = found["float32"]
    assert float(total.asnumpy()) != float(exact.asnumpy())
    for ours, theirs, weight in zip(grads, exact_grads, weights, strict=True):
        assert ours.dtype == weight.dtype == ms.float32
        np.testing.assert_allclose(ours.asnumpy(), theirs.asnumpy(), rtol=2e-3)


def test_pieces_leave_the_model_as_it_is(mode: str) -> None:
    model = Model()
    names = [p.name for p in model.get_parameters()]
    pieces = [in_precision(piece, "float16") for piece in (model, model.encode_image, model.head)]
    assert [p.name for p in model.get_parameters()] == names
    for piece in pieces:
        _call(piece, mode, X)
    np.testing.assert_allclose(_call(model, mode, X)[0].asnumpy(), 64 * 1.0001, rtol=1e-6)


def test_float32_is_the_piece_itself() -> None:
    model = Model()
    assert in_precision(model, "float32") is model
    method = model.encode_image
    assert in_precision(method, "float32") is method


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(DeviceError, match=r"'half'.*float32, float16, bfloat16"):
        in_precision(Model(), "half")


def test_half_types_become_float32_and_others_stay() -> None:
    half, counts = ms.Tensor([1.5], ms.float16), ms.Tensor([2], ms.int64)
    widened, (kept, nothing) = as_float32((half, (counts, None)))
    assert widened.dtype == ms.float32 and kept.dtype == ms.int64 and nothing is None
    assert as_float32(half).dtype == ms.float32
