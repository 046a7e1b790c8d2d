"""What only RMSIN and LAVT have: the last gates, the layers of BERT that learn, masks of one difference of logits."""

from __future__ import annotations

from typing import Any

import mindspore as ms
import numpy as np
import pytest

from mindground.errors import ConfigError
from mindground.models.rmsin.builder import build_network, coarsest_side
from mindground.models.rmsin.config import CimConfig, RmsinConfig, SwinConfig, TextConfig
from mindground.models.rmsin.decode import decode_masks, nearest_indexes
from mindground.models.rmsin.losses import two_class_cross_entropy, two_class_dice
from mindground.models.rmsin.network import Rmsin
from mindground.models.rmsin.rotated_convolution import _coefficients, rotation_matrix, sampling_matrix
from mindground.models.rmsin.weights import UPSTREAM_MAP
from mindground.structures import Batch, Geometry, Sample
from mindground.weights.load import parameter_arrays

IDLE = tuple(f"backbone.layers.3.hook.{part}" for part in ("res_gate", "visual_gate", "visual_residual"))


def _config(**changes: Any) -> RmsinConfig:
    swin = SwinConfig(embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4, drop_path_rate=0.0)
    text = TextConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=16, dropout=0.0, train_layers=changes.pop("train_layers", 2),
    )  # fmt: skip
    return RmsinConfig(swin=swin, text=text, cim=changes.pop("cim", CimConfig(heads=2, key_dim=4)), **changes)


@pytest.fixture(scope="module")
def net() -> Rmsin:
    ms.set_seed(0)
    built = build_network(_config(), img_size=64)
    built.set_train(False)
    return built


def _inputs(side: int = 64) -> list[ms.Tensor]:
    rng = np.random.default_rng(0)
    ids, mask = rng.integers(5, 40, (2, 6)).astype(np.int32), np.ones((2, 6), np.int32)
    mask[1, 4:] = 0
    return [ms.Tensor(ids), ms.Tensor(mask), ms.Tensor(rng.standard_normal((2, 3, side, side), np.float32))]


def test_words_matter_and_padding_does_not(net: Rmsin) -> None:
    ids, mask, image = _inputs()
    first = net(ids, mask, image)[0].asnumpy()
    assert first.shape == (2, 1, 64, 64)
    changed = ids.asnumpy().copy()
    changed[1, 4:] = 7
    assert np.array_equal(net(ms.Tensor(changed), mask, image)[0].asnumpy(), first)
    changed[1, 1] = changed[1, 1] % 30 + 6
    second = net(ms.Tensor(changed), mask, image)[0].asnumpy()
    assert np.array_equal(second[0], first[0]) and np.abs(second[1] - first[1]).max() > 1e-6


def test_other_sizes_run_on_the_grid_of_the_weights(net: Rmsin) -> None:
    assert [coarsest_side(side) for side in (480, 896, 448, 130)] == [15, 28, 14, 5]
    ids, mask, _ = _inputs()
    image = ms.Tensor(np.zeros((2, 3, 70, 90), np.float32))
    assert net(ids, mask, image)[0].shape == (2, 1, 70, 90)


def test_the_last_gates_are_kept_and_do_not_learn(net: Rmsin) -> None:
    idle = [item for name, item in net.parameters_and_names() if name.startswith(IDLE)]
    assert len(idle) > 20 and not any(item.requires_grad for item in idle)
    assert not any(item is other for group in net.parameter_groups() for item in idle for other in group.parameters)
    names = UPSTREAM_MAP.to_theirs(parameter_arrays(net))
    assert "backbone.layers.3.res_gate.2.weight" in names and "backbone.cim.fusion.3.bn3.running_var" in names


def test_the_first_layers_of_the_text_encoder_learn(net: Rmsin) -> None:
    groups = {group.name: group for group in net.parameter_groups()}
    assert set(groups) == {"backbone_no_decay", "backbone", "decoder", "text"}
    names = {id(item): name for name, item in net.parameters_and_names()}
    layers = {names[id(item)].split(".")[3] for item in groups["text"].parameters}
    assert layers == {"0", "1"} and groups["backbone_no_decay"].weight_decay == 0.0
    assert not net.is_frozen("text")


def test_a_frozen_text_encoder_can_be_kept() -> None:
    frozen = build_network(_config(variant="lavt", train_layers=0), img_size=64)
    frozen.set_train(True)
    assert frozen.is_frozen("text") and not frozen.text_encoder.training and frozen.backbone.training
    assert not hasattr(frozen, "cim") and frozen.term_names == ("ce",)


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(ConfigError, match="fusion_heads"):
        build_network(_config(fusion_heads=[3, 1, 1, 1]), img_size=64)
    for weights in ([1.0], [-0.1, 1.0], [0.0, 0.0]):
        with pytest.raises(ConfigError, match="class_weights"):
            _config(class_weights=weights)


def test_a_loss_that_teaches_nothing_is_refused() -> None:
    for name in ("cross_entropy_coef", "dice_coef"):
        with pytest.raises(ConfigError, match=f"model.{name}=-1"):
            _config(**{name: -1.0})
    with pytest.raises(ConfigError, match="both 0"):
        _config(variant="lavt", cross_entropy_coef=0.0)
    assert _config(variant="lavt", cross_entropy_coef=0.0, dice_coef=1.0).coefficients() == (0.0, 1.0)


def test_losses_by_hand() -> None:
    rng = np.random.default_rng(0)
    logits, target = rng.standard_normal((2, 2, 30)), (rng.random((2, 30)) > 0.6).astype(np.float64)
    probability = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    chosen = np.where(target > 0, probability[:, 1], probability[:, 0])
    weights = np.where(target > 0, 1.1, 0.9)
    ce = -(weights * np.log(chosen)).sum() / weights.sum()
    classes = np.stack([1 - target, target], 1)
    dice = (2 * (probability * classes).sum(2) + 1e-6) / (probability.sum(2) + classes.sum(2) + 1e-6)
    given = [ms.Tensor(x.astype(np.float32)) for x in (logits[:, 1] - logits[:, 0], target, np.ones(2))]
    assert abs(float(two_class_cross_entropy(*given).asnumpy()) - ce) < 1e-5
    assert abs(float(two_class_dice(*given).asnumpy()) - (1 - dice).sum()) < 1e-5
    assert abs(float(two_class_dice(*given, reduction="mean").asnumpy()) - (1 - dice).mean()) < 1e-5
    # A sample without a mask counts in neither.
    given[2] = ms.Tensor(np.asarray([1, 0], np.float32))
    alone = -(weights * np.log(chosen))[0].sum() / weights[0].sum()
    assert abs(float(two_class_cross_entropy(*given).asnumpy()) - alone) < 1e-5
    assert abs(float(two_class_dice(*given).asnumpy()) - (1 - dice)[0].sum()) < 1e-5


@pytest.mark.parametrize("degrees", [-40.0, -13.0, -0.5, 0.0, 7.0, 39.9])
def test_turned_taps_are_sampled_bilinearly(degrees: float) -> None:
    theta = np.radians(degrees)
    ours = rotation_matrix(ms.Tensor(np.asarray([[theta]], np.float32))).asnumpy()[0, 0]
    assert np.allclose(ours, sampling_matrix(theta), atol=1e-6)
    assert np.allclose(ours.sum(1), 1, atol=1e-6)
    assert set(np.unique(_coefficients())) == {-1.0, 0.0, 1.0}


def _decoded(resize: str, logits: np.ndarray, size: tuple[int, int]) -> Any:
    side = logits.shape[0]
    geometry = Geometry(size, (side, side), (side, side), (0, 0), (side / size[1], side / size[0]))
    batch = Batch({}, [Sample("a", "0", "a", "the ship")], [geometry], 1)
    return decode_masks({"mask_logits": logits[None, None].astype(np.float32)}, batch, resize)[0]


def test_masks_reach_original_pixels_by_nearest_or_bilinear() -> None:
    logits = np.full((8, 8), -3.0)
    logits[2:6, 4:] = 2.0
    found = _decoded("nearest", logits, (20, 12))
    rows, columns = np.arange(20) * 8 // 20, np.arange(12) * 8 // 12
    assert np.array_equal(found.mask_arrays()[0], logits[rows][:, columns] > 0)
    assert found.boxes_xyxy[0].tolist() == [6, 5, 12, 15] and found.extras["boxes_from_masks"]
    assert abs(found.scores[0] - 1 / (1 + np.exp(-2.0))) < 1e-6
    smooth = _decoded("bilinear", logits, (20, 12))
    assert smooth.mask_arrays()[0].sum() != found.mask_arrays()[0].sum() and smooth.scores[0] < found.scores[0]


def test_an_empty_mask_has_no_box_and_no_score() -> None:
    found = _decoded("nearest", np.full((8, 8), -1.0), (20, 12))
    assert found.boxes_xyxy[0].tolist() == [0, 0, 0, 0] and found.scores[0] == 0


def test_nearest_pixels_of_a_mirrored_and_padded_canvas() -> None:
    geometry = Geometry((4, 6), (8, 12), (16, 16), (2, 4), (2.0, 2.0), flipped=True)
    rows, columns = nearest_indexes(geometry)
    assert rows.tolist() == [4, 6, 8, 10] and columns.tolist() == [13, 11, 9, 7, 5, 3]
