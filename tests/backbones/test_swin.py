"""Swin in every published size: what it builds, the sizes of its maps, its files."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from mindground.backbones.swin import SWIN_SIZES, Swin, relative_index, shift_mask
from mindground.backbones.swin_weights import MICROSOFT_MAP, fit_bias_table
from mindground.models.rmsin.config import SWIN_PRESETS
from mindground.weights.load import load_into, parameter_arrays, parameter_shapes

# Parameters of the dense backbone: those of the published classifiers without head and norm, with four norms of maps.
_MILLIONS = {"tiny": 27.5, "small": 48.8, "base": 86.7, "large": 195.0}


def test_configurations_name_the_same_sizes() -> None:
    """They are read without MindSpore, so RMSIN's configuration keeps a list of its own."""
    assert SWIN_PRESETS == SWIN_SIZES


@pytest.mark.parametrize("window", [7, 12])
@pytest.mark.parametrize("size", SWIN_SIZES)
def test_every_size_and_window_is_built_and_runs(size: str, window: int) -> None:
    width, depths, heads = SWIN_SIZES[size]
    net = Swin(width, depths, heads, window)
    net.set_train(False)
    assert [len(layer.blocks) for layer in net.layers] == list(depths)
    count = sum(int(np.prod(shape)) for shape in parameter_shapes(net).values())
    assert abs(count / 1e6 - _MILLIONS[size]) < 0.6, count
    table = net.layers[3].blocks[0].attn.relative_position_bias_table
    assert table.shape == ((2 * window - 1) ** 2, heads[3])
    maps = net(ms.Tensor(np.random.default_rng(0).standard_normal((1, 3, 36, 50), np.float32)))
    assert [item.shape for item in maps] == [
        (1, 9, 13, width), (1, 5, 7, 2 * width), (1, 3, 4, 4 * width), (1, 2, 2, 8 * width)
    ]  # fmt: skip
    assert all(np.isfinite(item.asnumpy()).all() for item in maps)


class _Half(nn.Cell):
    """A hook that exports what it is given and hands on half of it, plus a number from outside."""

    def construct(self, x: ms.Tensor, extra: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        return x * 1.0, x * 0.5 + extra


@pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE], ids=["graph", "pynative"])
def test_a_hook_decides_what_leaves_and_what_goes_on(mode: int) -> None:
    before = ms.get_context("mode")
    ms.set_context(mode=mode)
    try:
        ms.set_seed(0)
        plain = Swin(8, (1, 1), (1, 2), 4)
        hooked = Swin(8, (1, 1), (1, 2), 4, hooks=lambda stage, width: _Half() if stage == 0 else None)
        load_into(hooked, parameter_arrays(plain))
        for net in (plain, hooked):
            net.set_train(False)
        image = ms.Tensor(np.random.default_rng(0).standard_normal((2, 3, 20, 28), np.float32))
        extra = ms.Tensor(np.float32(0.3))
        ours, theirs = hooked(image, extra), plain(image)
        assert np.allclose(ours[0].asnumpy(), theirs[0].asnumpy(), atol=1e-6)
        assert not np.allclose(ours[1].asnumpy(), theirs[1].asnumpy(), atol=1e-3)
    finally:
        ms.set_context(mode=before)


def test_only_the_named_maps_leave() -> None:
    net = Swin(8, (1, 1, 1), (1, 2, 4), 4, exports=(0, 2))
    assert not any(name.startswith("norm1") for name in parameter_shapes(net))
    maps = net(ms.Tensor(np.zeros((1, 3, 32, 32), np.float32)))
    assert [item.shape for item in maps] == [(1, 8, 8, 8), (1, 2, 2, 32)]


def test_index_and_mask_say_what_belongs_together() -> None:
    index = relative_index(3)
    assert index.shape == (9, 9) and index[0, 0] == index[4, 4] == 12
    # The token right below another one, wherever the two stand.
    assert index[3, 0] == index[8, 5] == 17
    mask = shift_mask(8, 8, 4)
    # The first window lies within one region; the last one holds four.
    assert not mask[0].any() and len(np.unique(mask[3], axis=0)) == 4


def test_files_in_wrappers_and_of_another_window_are_read() -> None:
    net = Swin(8, (1, 1), (1, 2), 4)
    other = Swin(8, (1, 1), (1, 2), 3)
    theirs = MICROSOFT_MAP.to_theirs(parameter_arrays(other))
    for wrapper in ("", "backbone.", "encoder."):
        adapted = MICROSOFT_MAP.to_ours(
            {wrapper + name: value for name, value in theirs.items()}, parameter_shapes(net)
        )
        report = load_into(net, adapted)
        assert not report.missing and len(report.reshaped) == 2
    table = "layers.0.blocks.0.attn.relative_position_bias_table"
    ours = parameter_arrays(net)[table]
    middle = parameter_arrays(other)[table].reshape(5, 5)[2, 2]
    assert abs(ours.reshape(7, 7)[3, 3] - middle) < 0.02


def test_a_table_of_other_heads_does_not_fit() -> None:
    assert fit_bias_table(np.zeros((169, 3), np.float32), (529, 4)) is None
    assert fit_bias_table(np.zeros((168, 3), np.float32), (529, 3)) is None
