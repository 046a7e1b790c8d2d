"""The two forms of window attention and of instance normalisation, and resizing with constant matrices."""

from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn, ops

from mindground.nn import norm, window_attention
from mindground.nn.conv import Conv2d, Pointwise
from mindground.nn.norm import InstanceNorm
from mindground.nn.resize import pool_matrix, resize_maps
from mindground.nn.window_attention import window_core

pytestmark = pytest.mark.usefixtures("mode")


class _Scalar(nn.Cell):
    """sum(cell(*inputs) * weight)."""

    def __init__(self, cell: nn.Cell, weight: np.ndarray) -> None:
        super().__init__()
        self.cell, self.weight = cell, ms.Tensor(weight)

    def construct(self, *inputs: ms.Tensor) -> ms.Tensor:
        return ops.sum(self.cell(*inputs) * self.weight)


def _random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _results(cell: nn.Cell, inputs: Sequence[np.ndarray], wanted: Sequence[int]) -> list[np.ndarray]:
    """Value, and gradients by some of the inputs."""
    tensors = [ms.Tensor(value) for value in inputs]
    value = cell(*tensors).asnumpy()
    gradients = ms.grad(_Scalar(cell, _random(*value.shape, seed=9)), tuple(wanted))(*tensors)
    return [value, *(item.asnumpy() for item in (gradients if isinstance(gradients, tuple) else (gradients,)))]


@pytest.mark.parametrize("masked", [False, True])
def test_both_forms_of_window_attention(masked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two images of three windows with two heads."""
    groups, count, width, heads, windows = 12, 5, 4, 2, 3
    inputs = [_random(groups, count, width, seed=seed) for seed in range(3)] + [_random(heads, count, count, seed=3)]
    if masked:
        inputs.append(np.where(_random(windows, count, count, seed=4) > 0, 0, -100).astype(np.float32))
    found = []
    for fast in (True, False):
        monkeypatch.setattr(window_attention, "fast_cpu_kernels", lambda fast=fast: fast)
        found.append(_results(window_core(0.3, masked), inputs, range(4)))
    q, k, v, bias = inputs[:4]
    logits = (0.3 * q @ k.transpose(0, 2, 1)).reshape(2, windows, heads, count, count) + bias
    logits = logits + inputs[4][:, None] if masked else logits
    share = np.exp(logits - logits.max(-1, keepdims=True))
    share = (share / share.sum(-1, keepdims=True)).reshape(groups, count, count)
    assert np.allclose(found[0][0], share @ v, atol=1e-5)
    for ours, native in zip(*found, strict=True):
        assert np.allclose(ours, native, atol=2e-5)


def test_both_forms_of_instance_normalisation(monkeypatch: pytest.MonkeyPatch) -> None:
    x, found = _random(2, 7, 3) * 3 + 5, []
    for fast in (True, False):
        monkeypatch.setattr(norm, "fast_cpu_kernels", lambda fast=fast: fast)
        found.append(_results(InstanceNorm(), [x], [0]))
    expected = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    assert np.allclose(found[0][0], expected, atol=1e-5)
    for ours, native in zip(*found, strict=True):
        assert np.allclose(ours, native, atol=2e-5)


def test_a_pointwise_layer_is_a_convolution_of_kernel_one() -> None:
    layer, conv = Pointwise(5, 3), Conv2d(5, 3)
    conv.weight.set_data(ms.Tensor(layer.weight.asnumpy()[..., None]))
    conv.bias.set_data(ms.Tensor(layer.bias.asnumpy()))
    x = _random(2, 6, 5)
    theirs = conv(ms.Tensor(np.ascontiguousarray(x.transpose(0, 2, 1)[:, :, None]))).asnumpy()
    assert np.allclose(layer(ms.Tensor(x)).asnumpy(), theirs[:, :, 0].transpose(0, 2, 1), atol=1e-5)


def test_a_map_of_the_wanted_size_is_returned_as_it_is() -> None:
    x = ms.Tensor(_random(1, 2, 3, 4))
    assert np.array_equal(resize_maps(x, (3, 4)).asnumpy(), x.asnumpy())
    assert np.allclose(resize_maps(x, (1, 1), "pool").asnumpy()[..., 0, 0], x.asnumpy().mean((2, 3)), atol=1e-6)
    assert np.allclose(pool_matrix(7, 3).sum(1), 1) and pool_matrix(7, 3)[1].nonzero()[0].tolist() == [2, 3, 4]
