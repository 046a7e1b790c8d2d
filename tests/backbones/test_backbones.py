"""What the golden cases do not show: start values, training-only randomness, errors, weight maps."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from mindground.backbones.bert import HUGGINGFACE_MAP, Bert
from mindground.backbones.clip import ResidualBlock
from mindground.backbones.vitdet import DETECTRON2_MAP, MAE_MAP, ViTDet, fit_relative_table
from mindground.nn.linear import Linear
from mindground.nn.noise import StepNoise
from mindground.weights.load import parameter_arrays, parameter_shapes


def _small(**changes: object) -> ViTDet:
    settings: dict = {
        "img_size": 64, "embed_dim": 16, "depth": 3, "num_heads": 2, "window_size": 3, "window_block_indexes": (0, 2),
        "pretrain_img_size": 48,
    }  # fmt: skip
    return ViTDet(**(settings | changes))


def test_start_values() -> None:
    arrays = parameter_arrays(_small())
    assert 0.01 < arrays["blocks.0.attn.qkv.weight"].std() < 0.03
    assert abs(arrays["blocks.0.attn.qkv.weight"].mean()) < 0.005
    assert not arrays["blocks.1.attn.rel_pos_h"].any() and not arrays["blocks.0.mlp.fc1.bias"].any()
    assert arrays["blocks.1.attn.rel_pos_h"].shape == (7, 8)
    assert arrays["blocks.0.attn.rel_pos_h"].shape == (5, 8)


def test_clip_starts_as_its_published_code() -> None:
    block = parameter_arrays(ResidualBlock(128, 4, 2))
    inverse_variances = {"attn.in_proj_weight": 128, "attn.out_proj.weight": 512, "mlp.c_fc.weight": 256}
    for name, inverse in (inverse_variances | {"mlp.c_proj.weight": 512}).items():
        assert block[name].std() == pytest.approx(inverse**-0.5, rel=0.05), name


def test_every_vitdet_parameter_learns(mode: str) -> None:
    net = _small()
    for name, parameter in net.parameters_and_names():
        if "rel_pos" in name:
            parameter.set_data(ms.Tensor(np.random.default_rng(0).normal(size=parameter.shape).astype(np.float32)))
    image = ms.Tensor(np.random.default_rng(1).normal(size=(2, 3, 64, 64)).astype(np.float32))

    class Loss(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def construct(self, x: ms.Tensor) -> ms.Tensor:
            return (self.net(x) ** 2).sum()

    gradients = ms.grad(Loss(), None, list(net.trainable_params()))(image)
    dead = [p.name for p, g in zip(net.trainable_params(), gradients, strict=True) if not np.abs(g.asnumpy()).max() > 0]
    assert not dead


def test_drop_path_acts_only_in_training(mode: str) -> None:
    net = _small(drop_path_rate=0.9)
    image = ms.Tensor(np.random.default_rng(1).normal(size=(2, 3, 64, 64)).astype(np.float32))
    net.set_train(False)
    assert np.array_equal(net(image).asnumpy(), net(image).asnumpy())
    still = net(image).asnumpy()
    net.set_train(True)
    assert not all(np.array_equal(net(image).asnumpy(), still) for _ in range(4))


def test_extras_reach_the_projection(mode: str) -> None:
    class Shifted(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Linear(16, 48)

        def construct(self, x: ms.Tensor, shift: ms.Tensor) -> ms.Tensor:
            return self.inner(x) + shift

    net = _small(qkv_layers=lambda index: Shifted())
    net.set_train(False)
    image = ms.Tensor(np.random.default_rng(1).normal(size=(2, 3, 64, 64)).astype(np.float32))
    zeros = tuple((ms.Tensor(np.zeros((2, 1, 48), np.float32)),) for _ in range(3))
    ones = np.ones((2, 1, 48), np.float32)
    ones[0] = 0
    moved = tuple((ms.Tensor(ones),) for _ in range(3))
    plain, changed = net(image, zeros).asnumpy(), net(image, moved).asnumpy()
    assert np.allclose(plain[0], changed[0], atol=1e-6)
    assert not np.allclose(plain[1], changed[1], atol=1e-4)


def test_image_must_be_whole_patches() -> None:
    with pytest.raises(ValueError, match="patch"):
        _small()(ms.Tensor(np.zeros((1, 3, 60, 64), np.float32)))


def test_detectron_names_round_trip() -> None:
    net = _small()
    theirs = DETECTRON2_MAP.to_theirs(parameter_arrays(net))
    assert all(name.startswith("backbone.net.") for name in theirs)
    theirs["backbone.simfp_2.0.weight"] = np.zeros(3, np.float32)
    theirs["backbone.net.blocks.1.attn.rel_pos_h"] = np.arange(15 * 8, dtype=np.float32).reshape(15, 8)
    adapted = DETECTRON2_MAP.with_prefix(ours="visual_encoder.").to_ours(
        theirs, {"visual_encoder." + name: shape for name, shape in parameter_shapes(net).items()}
    )
    assert not adapted.unexpected and "backbone.simfp_2.0.weight" in adapted.ignored
    cropped = adapted.tensors["visual_encoder.blocks.1.attn.rel_pos_h"]
    assert np.array_equal(cropped, theirs["backbone.net.blocks.1.attn.rel_pos_h"][4:11])
    assert "crop" in adapted.reshaped["visual_encoder.blocks.1.attn.rel_pos_h"]


def test_mae_lacks_relative_positions() -> None:
    net = _small()
    arrays = {name: value for name, value in parameter_arrays(net).items() if "rel_pos" not in name}
    theirs = MAE_MAP.to_theirs(arrays) | {"cls_token": np.zeros((1, 1, 16)), "norm.weight": np.zeros(16)}
    adapted = MAE_MAP.to_ours(theirs, parameter_shapes(net))
    assert not adapted.unexpected and len(adapted.missing) == 6


def test_short_table_is_interpolated() -> None:
    fitted = fit_relative_table(np.ones((5, 4), np.float32), (9, 4))
    assert fitted is not None and fitted[0].shape == (9, 4) and "interpolation" in fitted[1]
    assert fit_relative_table(np.ones((5, 4), np.float32), (9, 8)) is None


def _bert(**changes: object) -> Bert:
    settings: dict = {
        "vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
        "max_position_embeddings": 12,
    }  # fmt: skip
    return Bert(**(settings | changes))


def test_bert_ignores_padding_and_takes_any_length(mode: str) -> None:
    net = _bert()
    net.set_train(False)
    ids = np.array([[3, 4, 5]], np.int32)
    short = net(ms.Tensor(ids), ms.Tensor(np.ones_like(ids))).asnumpy()
    padded = np.array([[3, 4, 5, 0, 0]], np.int32)
    mask = np.array([[1, 1, 1, 0, 0]], np.int32)
    long = net(ms.Tensor(padded), ms.Tensor(mask)).asnumpy()
    assert np.allclose(short, long[:, :3], atol=1e-6)


def test_bert_dropout_only_in_training(mode: str) -> None:
    net = _bert(dropout=0.5)
    ids = ms.Tensor(np.array([[3, 4, 5]], np.int32))
    ones = ms.Tensor(np.ones((1, 3), np.int32))
    net.set_train(False)
    assert np.array_equal(net(ids, ones).asnumpy(), net(ids, ones).asnumpy())
    plain = net(ids, ones).asnumpy()
    net.set_train(True)
    noise = StepNoise(net, seed=0)
    noise.renew(1)
    first = net(ids, ones).asnumpy()
    assert not np.array_equal(first, plain)
    assert np.array_equal(first, net(ids, ones).asnumpy())
    noise.renew(2)
    assert not np.array_equal(first, net(ids, ones).asnumpy())


def test_bert_refuses_too_many_tokens() -> None:
    ids = ms.Tensor(np.zeros((1, 13), np.int32))
    with pytest.raises(ValueError, match="position table"):
        _bert()(ids, ids)


def test_bert_reads_old_and_new_names() -> None:
    net = _bert()
    theirs = HUGGINGFACE_MAP.to_theirs(parameter_arrays(net))
    assert "embeddings.LayerNorm.weight" in theirs
    old = {
        "bert." + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for name, value in theirs.items()
    }
    old["cls.predictions.bias"] = np.zeros(3)
    old["bert.encoder.layer.7.output.dense.bias"] = np.zeros(16)
    adapted = HUGGINGFACE_MAP.to_ours(old, parameter_shapes(net))
    assert not adapted.unexpected and len(adapted.tensors) == len(theirs) and len(adapted.ignored) == 2
