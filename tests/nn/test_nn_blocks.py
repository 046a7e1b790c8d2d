"""Building blocks against PyTorch, values and gradients, in both modes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn, ops

from mindground.nn import init, kernels
from mindground.nn.activations import Gelu, QuickGelu
from mindground.nn.attention import Attention, GridAttention, attention_core
from mindground.nn.dropout import DropPath
from mindground.nn.linear import Linear
from mindground.nn.mlp import MultiLayerPerceptron
from mindground.nn.norm import ChannelNorm, LayerNorm
from mindground.nn.packed_attention import PackedAttention
from mindground.nn.relpos import grid_indicator
from mindground.nn.resize import BilinearResize, bicubic_matrix, linear_matrix
from mindground.nn.swap import swap_middle
from mindground.nn.window import merge_windows, split_windows

torch = pytest.importorskip("torch")


pytestmark = pytest.mark.usefixtures("mode")


@pytest.fixture(params=["fast", "native"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Build blocks in the CPU form or in the form for accelerators."""
    for module in ("activations", "attention", "linear", "norm", "swap"):
        monkeypatch.setattr(f"mindground.nn.{module}.fast_cpu_kernels", lambda: request.param == "fast")
    return request.param


class _Scalar(nn.Cell):
    """sum(cell(*inputs) * weight)."""

    def __init__(self, cell: nn.Cell, weight: np.ndarray) -> None:
        super().__init__()
        self.cell = cell
        self.weight = ms.Tensor(weight)

    def construct(self, *inputs: ms.Tensor) -> ms.Tensor:
        return ops.sum(self.cell(*inputs) * self.weight)


def _random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _compare(cell: nn.Cell, reference: Callable[..., Any], inputs: list[np.ndarray], module: Any = None) -> None:
    """Values, input gradients and (with a torch module of the same parameter order) parameter gradients."""
    tensors = [torch.tensor(value, requires_grad=True) for value in inputs]
    theirs = reference(*tensors)
    weight = _random(*theirs.shape, seed=9)
    (theirs * torch.tensor(weight)).sum().backward()
    values = [ms.Tensor(value) for value in inputs]
    _close(cell(*values).asnumpy(), theirs.detach().numpy())
    scalar = _Scalar(cell, weight)
    scalar.set_train(cell.training)
    parameters = list(cell.trainable_params())
    positions = tuple(range(len(inputs)))
    if parameters:
        gradients, parameter_gradients = ms.grad(scalar, positions, parameters)(*values)
        for ours, other in zip(parameter_gradients, module.parameters(), strict=True):
            _close(ours.asnumpy(), other.grad.numpy())
    else:
        gradients = ms.grad(scalar, positions)(*values)
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    for ours, other in zip(gradients, tensors, strict=True):
        _close(ours.asnumpy(), other.grad.numpy())


def _close(ours: np.ndarray, theirs: np.ndarray, tolerance: float = 1e-5) -> None:
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= tolerance * max(1.0, np.abs(theirs).max())


def _copy(cell: nn.Cell, module: Any) -> None:
    for ours, theirs in zip(cell.trainable_params(), module.parameters(), strict=True):
        ours.set_data(ms.Tensor(theirs.detach().numpy()))


@pytest.mark.parametrize("bias", [True, False])
def test_linear(form: str, bias: bool) -> None:
    module = torch.nn.Linear(5, 7, bias=bias)
    cell = Linear(5, 7, bias=bias)
    _copy(cell, module)
    _compare(cell, module, [_random(2, 3, 5)], module)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("rows", "outputs"), [(1500, 3), (1499, 3), (1500, 513)])
def test_linear_of_many_rows(form: str, bias: bool, rows: int, outputs: int) -> None:
    """On both sides of the bounds behind which the weight is turned first."""
    module = torch.nn.Linear(5, outputs, bias=bias)
    cell = Linear(5, outputs, bias=bias)
    _copy(cell, module)
    _compare(cell, module, [_random(rows, 5)], module)


def test_gelu(form: str) -> None:
    _compare(Gelu(), torch.nn.functional.gelu, [np.linspace(-9, 9, 2001, dtype=np.float32)])


def test_gelu_slope_at_zero_in_every_compilation() -> None:
    """The compiler merges nearly equal Python constants in some compilations, by the order of its hash tables."""
    for _ in range(12):
        cell = Gelu()
        assert ms.grad(cell)(ms.Tensor(np.zeros(4, np.float32))).asnumpy() == pytest.approx(0.5, abs=1e-6)


def test_gelu_at_zero_and_far_out() -> None:
    x = np.array([0.0, -0.0, 1e-20, -1e-20, 30.0, -30.0, 1e4, -1e4], np.float32)
    _compare(Gelu(), torch.nn.functional.gelu, [x])


def test_gelu_error_bound() -> None:
    x = np.linspace(-12, 12, 200001, dtype=np.float32)
    exact = torch.nn.functional.gelu(torch.tensor(x, dtype=torch.float64)).numpy()
    assert np.abs(Gelu()(ms.Tensor(x)).asnumpy() - exact).max() <= 6e-7


def test_quick_gelu(form: str) -> None:
    far = np.array([[0.0, -0.0, 1e-20, -1e-20, 30.0, -30.0, 1e4, -1e4]], np.float32)
    for x in (_random(4, 9), np.linspace(-12, 12, 2001, dtype=np.float32), far):
        _compare(QuickGelu(), lambda x: x * torch.sigmoid(1.702 * x), [x])


def _perturb(module: Any) -> None:
    """Weights and biases other than ones and zeros."""
    with torch.no_grad():
        for number, parameter in enumerate(module.parameters()):
            parameter += torch.tensor(_random(*parameter.shape, seed=20 + number))


@pytest.mark.parametrize("eps", [1e-12, 1e-5])
def test_layer_norm(form: str, eps: float) -> None:
    module = torch.nn.LayerNorm(6, eps=eps)
    _perturb(module)
    cell = LayerNorm(6, eps)
    _copy(cell, module)
    for x in (_random(2, 3, 6), _random(1, 6), 10 + _random(4, 6)):
        module.zero_grad()
        _compare(cell, module, [x], module)


def test_layer_norm_of_equal_values_is_its_bias(form: str) -> None:
    cell = LayerNorm(4, 1e-5)
    cell.beta.set_data(ms.Tensor(np.array([1, 2, 3, 4], np.float32)))
    assert cell(ms.Tensor(np.full((3, 4), 7, np.float32))).asnumpy() == pytest.approx(np.tile([1, 2, 3, 4], (3, 1)))


def test_layer_norm_of_many_rows_keeps_its_digits(form: str) -> None:
    """Sums over 2000 rows, against float64."""
    module = torch.nn.LayerNorm(16, eps=1e-5).double()
    _perturb(module)
    cell = LayerNorm(16, 1e-5)
    for ours, theirs in zip(cell.trainable_params(), module.parameters(), strict=True):
        ours.set_data(ms.Tensor(theirs.detach().numpy().astype(np.float32)))
    x, weight = 3 + _random(2000, 16), _random(2000, 16, seed=9)
    tensor = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    (module(tensor) * torch.tensor(weight)).sum().backward()
    d_x, d_parameters = ms.grad(_Scalar(cell, weight), 0, list(cell.trainable_params()))(ms.Tensor(x))
    _close(d_x.asnumpy(), tensor.grad.numpy())
    for ours, theirs in zip(d_parameters, module.parameters(), strict=True):
        _close(ours.asnumpy(), theirs.grad.numpy())


def test_channel_norm(form: str) -> None:
    module = torch.nn.LayerNorm(6, eps=1e-6)
    _compare(ChannelNorm(6), lambda x: module(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), [_random(2, 6, 3, 4)], module)


def test_perceptron() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    cell = MultiLayerPerceptron([5, 8, 3])
    _copy(cell, module)
    _compare(cell, module, [_random(4, 5)], module)
    assert [p.name for p in cell.trainable_params()][0].endswith("layers.0.weight")


def test_attention_core(form: str) -> None:
    def reference(q: Any, k: Any, v: Any) -> Any:
        return torch.softmax(0.5 * q @ k.transpose(1, 2), -1) @ v

    _compare(attention_core(0.5), reference, [_random(3, 5, 4), _random(3, 6, 4, seed=1), _random(3, 6, 7, seed=2)])


def test_biased_core(form: str) -> None:
    def reference(q: Any, k: Any, v: Any, bias: Any) -> Any:
        return torch.softmax(0.5 * q @ k.transpose(1, 2) + bias, -1) @ v

    inputs = [_random(3, 5, 4), _random(3, 6, 4, seed=1), _random(3, 6, 7, seed=2), _random(3, 5, 6, seed=3)]
    _compare(attention_core(0.5, "biased"), reference, inputs)


def test_dropped_core(form: str) -> None:
    keep = (np.random.default_rng(4).random((3, 5, 6)) > 0.3).astype(np.float32) / 0.7

    class Fixed(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.core = attention_core(0.5, "dropped")
            self.keep = ms.Tensor(keep)

        def construct(self, q: ms.Tensor, k: ms.Tensor, v: ms.Tensor, bias: ms.Tensor) -> ms.Tensor:
            return self.core(q, k, v, bias, self.keep)

    def reference(q: Any, k: Any, v: Any, bias: Any) -> Any:
        return (torch.softmax(0.5 * q @ k.transpose(1, 2) + bias, -1) * torch.tensor(keep)) @ v

    inputs = [_random(3, 5, 4), _random(3, 6, 4, seed=1), _random(3, 6, 7, seed=2), _random(3, 5, 6, seed=3)]
    _compare(Fixed(), reference, inputs)


def test_grid_attention(form: str) -> None:
    class OnGrid(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.core = GridAttention(0.5)
            self.indicator = ms.Tensor(grid_indicator(2, 3))

        def construct(self, q: ms.Tensor, k: ms.Tensor, v: ms.Tensor, rel_h: ms.Tensor, rel_w: ms.Tensor) -> ms.Tensor:
            return self.core(q, k, v, rel_h, rel_w, self.indicator)

    def reference(q: Any, k: Any, v: Any, rel_h: Any, rel_w: Any) -> Any:
        bias = (rel_h[..., :, None] + rel_w[..., None, :]).reshape(4, 6, 6)
        return torch.softmax(0.5 * q @ k.transpose(1, 2) + bias, -1) @ v

    inputs = [_random(4, 6, 5, seed=i) for i in range(3)] + [_random(4, 6, 2, seed=3), _random(4, 6, 3, seed=4)]
    _compare(OnGrid(), reference, inputs)


class _Placed(nn.Cell):
    """One of the two forms with positions, on (x, positions)."""

    def __init__(self, ignored: np.ndarray, first: bool, shared: int = 0) -> None:
        super().__init__()
        self.attention = PackedAttention(8, 2)
        self.bias = ms.Tensor(np.where(ignored, -1e4, 0.0).astype(np.float32)[:, None, None])
        self.first, self.shared = first, shared

    def construct(self, x: ms.Tensor, positions: ms.Tensor) -> ms.Tensor:
        if self.first:
            return self.attention.first_with_positions(x, x + positions, self.bias)[0]
        return self.attention.with_positions(x, x + positions, self.bias, self.shared)


@pytest.mark.parametrize("first", [False, True])
def test_attention_with_positions(form: str, first: bool) -> None:
    module = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    torch.nn.init.normal_(module.in_proj_bias)
    ignored = np.random.default_rng(5).random((3, 5)) < 0.4
    ignored[:, 0] = False
    cell = _Placed(ignored, first)
    _copy(cell, module)

    def reference(x: Any, positions: Any) -> Any:
        placed = x + positions
        out = module(placed, placed, x, key_padding_mask=torch.tensor(ignored), need_weights=False)[0]
        return out[:, :1] if first else out

    _compare(cell, reference, [_random(3, 5, 8), _random(3, 5, 8, seed=1)], module)


def test_where_the_first_row_looks() -> None:
    module = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    cell = PackedAttention(8, 2)
    _copy(cell, module)
    x = _random(3, 5, 8)
    where = cell.first_with_positions(ms.Tensor(x), ms.Tensor(x), ms.Tensor(np.zeros((3, 1, 1, 5), np.float32)))[1]
    theirs = module(torch.tensor(x), torch.tensor(x), torch.tensor(x))[1][:, 0]
    _close(where.asnumpy(), theirs.detach().numpy())


def test_dropped_keys_take_their_share_of_the_bias() -> None:
    """All rows are equal: the output is scaled by the sum of the remaining probabilities."""
    cell = PackedAttention(8, 2, dropout=0.5)
    cell.in_proj_bias.set_data(ms.Tensor(_random(24)))
    cell.out_proj.weight.set_data(ms.Tensor(np.eye(8, dtype=np.float32)))
    cell.set_train(True)
    x = ms.Tensor(np.broadcast_to(_random(1, 1, 8), (1, 6, 8)).copy())
    out = cell.first_with_positions(x, x, ms.Tensor(np.zeros((1, 1, 1, 6), np.float32)))[0].asnumpy()[0, 0]
    value = x.asnumpy()[0, 0] @ cell.in_proj_weight.asnumpy()[16:].T + cell.in_proj_bias.asnumpy()[16:]
    shares = (out / value).reshape(2, 4)
    _close(shares, np.broadcast_to(shares[:, :1], (2, 4)))
    # Six keys, each kept whole or dropped: 2 / 6 a kept one.
    _close(shares * 3, np.round(shares * 3))


def test_rows_that_samples_share_are_projected_once() -> None:
    ignored = np.zeros((3, 5), bool)
    plain, once = _Placed(ignored, False), _Placed(ignored, False, shared=3)
    for ours, other in zip(once.trainable_params(), plain.trainable_params(), strict=True):
        ours.set_data(other)
    x, positions = _random(3, 5, 8), _random(1, 5, 8, seed=1)
    x[:, 2:] = x[:1, 2:]
    inputs = ms.Tensor(x), ms.Tensor(np.broadcast_to(positions, x.shape).copy())
    _close(once(*inputs).asnumpy(), plain(*inputs).asnumpy())


def test_masked_keys_do_not_matter() -> None:
    attention = Attention(2, 4)
    q, k, v = (_random(2, 5, 8, seed=i) for i in range(3))
    bias = np.zeros((2, 1, 1, 5), np.float32)
    bias[..., 3:] = -10000.0
    first = attention(ms.Tensor(q), ms.Tensor(k), ms.Tensor(v), ms.Tensor(bias)).asnumpy()
    k[:, 3:] += 5
    v[:, 3:] -= 3
    second = attention(ms.Tensor(q), ms.Tensor(k), ms.Tensor(v), ms.Tensor(bias)).asnumpy()
    _close(first, second)


def test_drop_path_only_in_training() -> None:
    ms.set_seed(3)
    drop = DropPath(0.5)
    x = ms.Tensor(np.ones((64, 3), np.float32))
    drop.set_train(False)
    assert np.array_equal(drop(x).asnumpy(), x.asnumpy())
    drop.set_train(True)
    rows = drop(x).asnumpy()
    assert set(np.unique(rows)) == {0.0, 2.0}
    assert (rows == rows[:, :1]).all()


@pytest.mark.parametrize("align", [True, False])
@pytest.mark.parametrize("target", [(8, 12), (3, 5), (28, 28)])
def test_bilinear_resize(align: bool, target: tuple[int, int]) -> None:
    def reference(x: Any) -> Any:
        return torch.nn.functional.interpolate(x, size=target, mode="bilinear", align_corners=align)

    _compare(BilinearResize((4, 6), target, align), reference, [_random(2, 3, 4, 6)])


@pytest.mark.parametrize("align", [True, False])
@pytest.mark.parametrize(("source", "target"), [(14, 28), (14, 9), (4, 7)])
def test_resize_matrices(source: int, target: int, align: bool) -> None:
    x = torch.tensor(_random(1, 1, source, source))
    cubic = torch.nn.functional.interpolate(x, size=(target, target), mode="bicubic", align_corners=align)
    matrix = bicubic_matrix(source, target, align)
    _close(matrix @ x[0, 0].numpy() @ matrix.T, cubic[0, 0].numpy())
    linear = torch.nn.functional.interpolate(x[0], size=target, mode="linear", align_corners=align)
    _close(x[0, 0].numpy() @ linear_matrix(source, target, align).T, linear[0].numpy())


def test_kernel_choice_is_boolean() -> None:
    assert kernels.fast_cpu_kernels() in (True, False)


def test_standardised_positions_are_coordinates() -> None:
    """Row and column of every cell of a grid can be read linearly, and no channel is nearly constant."""
    rows, columns, width = 8, 6, 64
    plain = init.sincos_positions(rows, columns, width)
    table = init.sincos_positions(rows, columns, width, standardised=True)
    assert table.shape == plain.shape == (48, 64)
    assert np.abs(table.mean(0)).max() < 1e-5
    assert (plain.std(0) < 0.01).mean() > 0.4 and (table.std(0) > 0.9).mean() > 0.8
    y, x = np.divmod(np.arange(48), columns)
    for channels, coordinate in ((table[:, : width // 2], y), (table[:, width // 2 :], x)):
        assert np.abs(np.corrcoef(channels.T, coordinate)[-1, :-1]).max() > 0.9999
    with pytest.raises(ValueError, match="multiple of 4"):
        init.sincos_positions(rows, columns, 62)


class _Swap(nn.Cell):
    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return swap_middle(x)


@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (2, 5, 3, 4), (1, 3, 3, 2), (3, 1, 4, 2), (2, 4, 1, 3)])
def test_middle_axes_are_swapped(form: str, shape: tuple[int, ...]) -> None:
    _compare(_Swap(), lambda x: x.transpose(1, 2), [_random(*shape)])


class _Windows(nn.Cell):
    def construct(self, x: ms.Tensor) -> ms.Tensor:
        windows = split_windows(x, 2)
        return merge_windows(windows * windows, 2, (3, 5))


def test_windows_are_put_together_where_they_were_cut(form: str) -> None:
    _compare(_Windows(), lambda x: x * x, [_random(2, 3, 5, 4)])
    windows = split_windows(ms.Tensor(np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)), 2).asnumpy()
    assert windows[0, :, :, 0].tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
