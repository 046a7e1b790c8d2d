"""What CLIP-VG's golden cases do not reach: shorter sentences, what learns, larger images, the fork's box code."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest

from mindground.backbones.clip_weights import position_adapter
from mindground.errors import ConfigError
from mindground.models.clipvg.builder import build_network
from mindground.models.clipvg.config import ClipVGConfig, TowersConfig
from mindground.models.clipvg.decode import decode_box, dior_legacy_to_xyxy
from mindground.models.clipvg.network import ClipVG
from mindground.models.clipvg.weights import UPSTREAM_MAP
from mindground.structures import Batch, Geometry, Sample
from mindground.weights.load import load_into, parameter_arrays, parameter_shapes

SIDE = 32


def network(side: int = SIDE, context: int = 20, **settings: object) -> ClipVG:
    towers = TowersConfig(
        patch_size=8, vision_width=16, vision_layers=3, vision_heads=2, vocab_size=30, context_length=context,
        text_width=16, text_layers=1, text_heads=2, embed_dim=16,
    )  # fmt: skip
    settings = {"vl_nheads": 2, "vl_dim_feedforward": 32, "vl_enc_layers": 2, "vl_dropout": 0.0, **settings}
    settings.setdefault("extract_layers", [0, 2])
    settings.setdefault("max_query_len", 20)
    net = build_network(ClipVGConfig(clip_model="", clip=towers, **settings), img_size=side)
    net.set_train(False)
    return net


def inputs(words: tuple[int, ...] = (5, 7), length: int = 20, side: int = SIDE) -> list[np.ndarray]:
    """Image, tokens, mask, padding; the lower third of every image is padding."""
    rng = np.random.default_rng(0)
    rows = len(words)
    mask = (np.arange(length) < np.asarray(words)[:, None]).astype(np.int32)
    ids = rng.integers(1, 30, (rows, 20))[:, :length].astype(np.int32) * mask
    padding = np.zeros((rows, side, side), np.uint8)
    padding[:, -side // 3 :] = 1
    return [rng.normal(size=(rows, 3, side, side)).astype(np.float32), ids, mask, padding]


def tensors(arrays: list[np.ndarray]) -> list[ms.Tensor]:
    return [ms.Tensor(array) for array in arrays]


@pytest.mark.usefixtures("mode")
def test_what_follows_the_longest_sentence_does_not_matter() -> None:
    net = network()
    image, ids, mask, padding = inputs()
    whole = net(*tensors([image, ids, mask, padding]))[0].asnumpy()
    garbage = np.where(mask > 0, ids, 29).astype(np.int32)
    assert np.allclose(net(*tensors([image, garbage, mask, padding]))[0].asnumpy(), whole, atol=1e-6)
    short = [image, ids[:, :8].copy(), mask[:, :8].copy(), padding]
    assert np.allclose(net(*tensors(short))[0].asnumpy(), whole, atol=1e-6)
    # And what does not follow it does.
    assert not np.allclose(net(*tensors([image, ids[:, ::-1].copy(), mask, padding]))[0].asnumpy(), whole, atol=1e-4)


@pytest.mark.usefixtures("mode")
def test_one_image_serves_many_sentences() -> None:
    net = network()
    image, ids, mask, padding = inputs()
    same = [np.repeat(image[:1], 2, 0), ids, mask, np.repeat(padding[:1], 2, 0)]
    whole = net(*tensors(same))[0].asnumpy()
    features = net.encode_image(ms.Tensor(image[:1]))
    once = net.head(features, net.encode_text(ms.Tensor(ids)), *tensors([mask, padding[:1]]))[0].asnumpy()
    assert np.allclose(once, whole, atol=1e-6)


@pytest.mark.parametrize(
    ("train_clip", "learns", "rests"),
    [
        ("nothing", ("ml_visu_proj.weight", "reg_token"), ("clip.visual.positional_embedding", "visu_proj.weight")),
        ("visual_positions", ("clip.visual.positional_embedding",), ("clip.visual.class_embedding",)),
        ("all", ("clip.text.token_embedding", "clip.visual.conv1.weight"), ("clip.visual.proj", "clip.logit_scale")),
    ],
)
def test_what_learns(train_clip: str, learns: tuple[str, ...], rests: tuple[str, ...]) -> None:
    net = network(train_clip=train_clip, extract_layers=[0, 1])
    trained = {name for name, parameter in net.parameters_and_names() if parameter.requires_grad}
    assert trained.issuperset(learns) and not trained.intersection(rests)
    # A block behind the last extracted one takes no part.
    assert not any(name.startswith("clip.visual.transformer.resblocks.2.") for name in trained)
    assert all(net.is_frozen(name) for name in net.encoders) == (train_clip == "nothing")


def test_every_trained_parameter_receives_a_gradient() -> None:
    net = network(train_clip="all", attention_loss_coef=1.0)
    net.set_train(True)
    box = ms.Tensor(np.asarray([[0.4, 0.3, 0.2, 0.2], [0.6, 0.3, 0.3, 0.2]], np.float32))
    named = {name: p for name, p in net.parameters_and_names() if p.requires_grad}

    def total(*arrays: ms.Tensor) -> ms.Tensor:
        return net.loss(net(*arrays), box)[0]

    gradients = ms.value_and_grad(total, None, list(named.values()))(*tensors(inputs()))[1]
    idle = [name for name, gradient in zip(named, gradients, strict=True) if not gradient.asnumpy().any()]
    assert idle == []
    assert net.term_names == ("bbox", "giou", "attention")


def test_attention_of_the_summary_lies_on_real_patches_only() -> None:
    net = network(attention_loss_coef=1.0)
    attention = net(*tensors(inputs()))[1].asnumpy()
    assert attention.shape == (2, 16) and (attention.sum(1) < 1).all()
    assert (attention[:, :8] > 0).all() and not attention[:, -4:].any()


def test_weights_go_to_larger_images_and_back_to_their_names() -> None:
    small, large = network(max_query_len=77, context=77), network(64, max_query_len=77, context=77)
    theirs = UPSTREAM_MAP.to_theirs(parameter_arrays(small))
    assert theirs["vl_pos_embed.weight"].shape == (79 + 16, 16)
    report = load_into(large, UPSTREAM_MAP.to_ours(theirs, parameter_shapes(large)))
    assert set(report.reshaped) == {"clip.visual.positional_embedding", "vl_pos_embed"}
    before, after = parameter_arrays(small)["vl_pos_embed"], parameter_arrays(large)["vl_pos_embed"]
    assert np.array_equal(before[:79], after[:79]) and after.shape == (79 + 64, 16)


def test_a_position_table_keeps_its_mean_and_refuses_what_is_no_grid() -> None:
    fit = position_adapter(1)
    table = np.full((17, 3), 2.0, np.float32)
    resized, note = fit(table, (50, 3)) or pytest.fail("not resized")
    assert resized.shape == (50, 3) and np.allclose(resized, 2.0) and "4 x 4" in note and "7 x 7" in note
    assert fit(table, (51, 3)) is None and fit(table, (50, 4)) is None and fit(table[:10, 0], (50,)) is None


def test_boxes_of_the_fork_are_decoded_as_it_trained_them() -> None:
    xmin, ymin, xmax, ymax = 100.0, 50.0, 300.0, 250.0
    code = np.asarray([[xmin + xmax / 2, ymin + ymax / 2, xmax, ymax]], np.float32) / 800
    assert np.allclose(dior_legacy_to_xyxy(code) * 800, [[xmin, ymin, xmax, ymax]], atol=1e-3)
    geometry = Geometry((800, 800), (800, 800), (800, 800))
    batch = Batch({}, [Sample("", "a", "a", "x")], [geometry], 1)
    assert np.allclose(decode_box(code, batch, "dior_legacy")[0].boxes_xyxy, [[xmin, ymin, xmax, ymax]], atol=1e-3)
    assert not np.allclose(decode_box(code, batch)[0].boxes_xyxy, [[xmin, ymin, xmax, ymax]], atol=1)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"clip_model": "ViT-Z/3"}, "ViT-Z/3.*ViT-B/16"),
        ({"vl_nheads": 7}, "vl_nheads=7 must divide the width 512"),
        ({"extract_layers": [3, 0]}, "extract_layers"),
        ({"extract_layers": [0, 12]}, "extract_layers.*0 ... 11"),
        ({"max_query_len": 80}, "77"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        ClipVGConfig(**settings)


def test_published_blocks() -> None:
    assert ClipVGConfig().blocks() == [0, 3, 7, 11]
    assert ClipVGConfig(clip_model="ViT-L/14").blocks() == [0, 7, 15, 23]
