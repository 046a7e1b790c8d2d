"""SeqTR and MSAM: every option has a forward and a loss, decoding with a cache, targets, files of weights."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import mindspore as ms
import numpy as np
import pytest

from mindground.backbones.darknet import Darknet
from mindground.backbones.darknet_weights import DARKNET_MAP, network_order
from mindground.config import load_config
from mindground.engine.forward import Runner
from mindground.errors import ConfigError, WeightsError
from mindground.files.darknet import VALUES
from mindground.files.weights import read_weights
from mindground.inference.forms import Forms, written
from mindground.models.seqtr.builder import build_network
from mindground.models.seqtr.config import (
    BertConfig,
    DarknetConfig,
    FusionConfig,
    GruConfig,
    HeadConfig,
    SeqtrConfig,
    SwinConfig,
    TextConfig,
    VisualConfig,
)
from mindground.models.seqtr.contours import sample_vertices
from mindground.models.seqtr.decode import decode_sequences
from mindground.models.seqtr.generate import choose
from mindground.models.seqtr.losses import place_weights
from mindground.models.seqtr.sequences import Layout, sequence_of, shuffled_points
from mindground.models.seqtr.targets import shuffled_batch
from mindground.structures import Batch, Geometry, Prediction, Sample
from mindground.weights.load import parameter_shapes

BATCH, SIDE, WORDS = 2, 64, 6


@pytest.fixture(autouse=True)
def _pynative() -> None:
    ms.set_context(mode=ms.PYNATIVE_MODE)


def settings(**changes: Any) -> SeqtrConfig:
    """A network of seconds; `head`, `fusion`, `text` and `visual` take dictionaries."""
    head = {"width": 32, "heads": 2, "hidden": 32, "encoder_layers": 1, "decoder_layers": 2, "dropout": 0.0}
    head |= {"num_bin": 20, "num_ray": 4, **changes.get("head", {})}
    return SeqtrConfig(
        task=changes.get("task", "box"),
        visual=changes.get("visual", VisualConfig("darknet", DarknetConfig(2, [1, 0, 1, 1, 0, 1], None))),
        text=changes.get("text", TextConfig("gru", 12, gru=GruConfig(8, 32, freeze_embedding=False))),
        fusion=FusionConfig(**changes.get("fusion", {})),
        head=HeadConfig(**head),
    )


def arrays(layout: Layout) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    padding = np.zeros((BATCH, SIDE, SIDE), np.uint8)
    padding[1, 40:] = 1
    mask = np.ones((BATCH, WORDS), np.int32)
    mask[1, 3:] = 0
    found = {
        "image": rng.random((BATCH, 3, SIDE, SIDE), np.float32),
        "padding": padding,
        "token_ids": (rng.integers(3, 12, (BATCH, WORDS)) * mask).astype(np.int32),
        "token_mask": mask,
    }
    vertices = np.asarray([[5, 30, 20, -1], [8, 9, 40, -1]], np.float32)
    rows = [sequence_of(layout, (SIDE, SIDE), np.asarray([4.0, 5, 40, 50]), vertices)] * BATCH
    return found | {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def total(net: Any, given: dict[str, np.ndarray]) -> tuple[float, np.ndarray]:
    tensors = [ms.Tensor(given[name]) for name in net.input_names]
    outputs = net(*tensors)
    loss = net.loss(outputs, ms.Tensor(given["sequence"]))
    return float(loss[0].asnumpy()), outputs[0].asnumpy()


OPTIONS = {
    "plain": {},
    "to_mid": {"fusion": {"direction": "to_mid"}},
    "none": {"fusion": {"direction": "none"}},
    "absolute": {"head": {"mapping": "absolute"}},
    "det_coord": {"head": {"det_coord": [0, 3, 4]}},
    "det_coord_weight": {"head": {"det_coord_weight": 3.0}},
    "neg_factor": {"head": {"neg_factor": 0.0}},
    "contour": {"task": "contour"},
    "end_weight": {"task": "contour", "head": {"end_weight": 1.0}},
    "multi": {"task": "multi"},
    "mean": {"text": TextConfig("gru", 12, gru=GruConfig(8, 32, "mean"))},
    "last": {"text": TextConfig("gru", 12, gru=GruConfig(8, 32, "last"))},
    "kernels": {"fusion": {"type": "kernels", "head_dim": 8, "window": 2}},
    "sk": {"fusion": {"type": "kernels", "head_dim": 8, "window": 2, "aggregate": "sk", "mode": "mixed"}},
    "qb": {"fusion": {"type": "kernels", "head_dim": 8, "window": 2, "mode": "qb", "activation": "tanh"}},
    "ca": {"fusion": {"type": "kernels", "head_dim": 8, "window": 2, "mode": "ca"}},
    "attention": {"text": TextConfig("gru", 12, gru=GruConfig(8, 32, attention=True, masked_attention=True))},
    "bert": {"text": TextConfig("bert", 12, bert=BertConfig(16, 1, 2, 16, 8, 0.0, 0))},
    "static": {"text": TextConfig("bert", 12, bert=BertConfig(16, 1, 2, 16, 8, 0.0, 0, static=True))},
    "swin": {
        "visual": VisualConfig("swin", swin=SwinConfig(8, [1, 1, 1, 1], [1, 1, 2, 2], 2)),
        "fusion": {"type": "kernels", "head_dim": 8, "window": 2},
    },
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_has_a_forward_and_a_loss(name: str) -> None:
    ms.set_seed(3)
    net = build_network(settings(**OPTIONS[name]))
    net.set_train(False)
    loss, logits = total(net, arrays(net.layout))
    assert logits.shape == (BATCH, net.layout.length, 21)
    assert np.isfinite(logits).all() and 1.0 < loss < 20.0
    if name in ("plain", "contour", "multi"):
        return
    of_loss = ("det_coord", "det_coord_weight", "neg_factor", "end_weight")
    ms.set_seed(3)
    plain = build_network(settings(task=OPTIONS[name].get("task", "box")))
    plain.set_train(False)
    other, same = total(plain, arrays(plain.layout))
    if name in of_loss:
        np.testing.assert_allclose(same, logits, atol=1e-6)
    else:
        assert np.abs(same - logits).max() > 1e-4
    assert abs(other - loss) > 1e-4


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.task", "segment"),
        ("model.fusion.direction", "up"),
        ("model.fusion.mode", "kc"),
        ("model.head.mapping", "polar"),
        ("model.head.top_p", "1.5"),
        ("model.head.shuffle_fraction", "-0.1"),
        ("model.head.det_coord", "[5]"),
        ("model.head.det_coord_weight", "-1"),
        ("model.head.unknown", "1"),
        ("model.visual.type", "resnet"),
        ("model.visual.darknet.freeze_layer", "15"),
    ],
)
def test_an_unknown_value_is_an_error(key: str, value: str) -> None:
    from mindground.models import family_facts

    with pytest.raises(ConfigError, match=key.rsplit(".", 1)[-1]):
        load_config(family_facts("seqtr").default_file, [f"--{key}={value}"])


def test_sizes_that_do_not_fit_together_are_errors() -> None:
    with pytest.raises(ConfigError, match="multiple of 32"):
        build_network(settings(head={"width": 48}))
    with pytest.raises(ConfigError, match="make them equal"):
        build_network(settings(text=TextConfig("gru", 12, gru=GruConfig(8, 20))))
    with pytest.raises(ConfigError, match="head_dim"):
        build_network(settings(fusion={"type": "kernels", "head_dim": 7}))


@pytest.mark.parametrize("task", ["box", "contour", "multi"])
def test_decoding_with_a_cache_gives_the_tokens_of_the_whole_prefix(task: str) -> None:
    ms.set_seed(5)
    net = build_network(settings(task=task))
    net.set_train(False)
    given, layout = arrays(net.layout), net.layout
    tokens = net.infer(Runner(net, graph=False), given)
    # Feed the answer back: at every place, the token must be the best one behind the whole prefix.
    previous = np.array(given["previous"])
    first = 0
    if task != "contour":
        previous[:, 1:5] = tokens["box_tokens"]
        first = 5
    if task != "box":
        previous[:, first + 1 :] = tokens["mask_tokens"][:, :-1]
    _, logits = total(net, {**given, "previous": previous})
    if task != "contour":
        np.testing.assert_array_equal(logits[:, :4, :-1].argmax(-1), tokens["box_tokens"])
    if task != "box":
        best = logits[:, first:].argmax(-1)
        spared = 4 if task == "multi" else 0
        best[:, :spared] = logits[:, first : first + spared, :-1].argmax(-1)
        np.testing.assert_array_equal(best, tokens["mask_tokens"])
    assert layout.length == previous.shape[1]


def test_drawn_tokens_repeat_and_stay_among_the_most_probable() -> None:
    logits = np.log(np.asarray([[0.5, 0.3, 0.15, 0.05, 1e-9]]))
    rng = np.random.default_rng(0)
    drawn = {int(choose(logits, True, 0.7, rng)[0][0]) for _ in range(200)}
    assert drawn == {0, 1}
    assert choose(logits, True)[0][0] == 0
    assert choose(logits[:, ::-1], False)[0][0] == 3
    net = build_network(settings(head={"top_p": 0.9}))
    net.set_train(False)
    given = arrays(net.layout)
    one, two = (net.infer(Runner(net, graph=False), given) for _ in range(2))
    np.testing.assert_array_equal(one["box_tokens"], two["box_tokens"])


def test_a_sentence_without_a_word_is_a_vector_of_zeros() -> None:
    net = build_network(settings())
    ids = ms.Tensor(np.zeros((1, WORDS), np.int32))
    sentence, _, _ = net.text_encoder(ids, ids)
    assert not sentence.asnumpy().any()


def test_statistics_of_frozen_layers_follow_the_batches_unless_they_are_held() -> None:
    for held in (False, True):
        visual = VisualConfig("darknet", DarknetConfig(2, [1, 0, 1, 1, 0, 1], 0), hold_statistics=held)
        net = build_network(settings(visual=visual))
        assert not net.visual_encoder.trainable_params()
        assert net.is_frozen("image") == held
        before = net.visual_encoder.layers[0].bn.moving_mean.asnumpy().copy()
        net.set_train(True)
        total(net, arrays(net.layout))
        after = net.visual_encoder.layers[0].bn.moving_mean.asnumpy()
        assert np.array_equal(before, after) == held


def test_groups_of_the_optimiser() -> None:
    both = {group.name: group for group in build_network(settings()).parameter_groups()}
    assert both["visual"].lr_factor == 0.1 and both["visual"].parameters
    frozen = VisualConfig("darknet", DarknetConfig(2, [1, 0, 1, 1, 0, 1], 2))
    one = {group.name: group for group in build_network(settings(visual=frozen)).parameter_groups()}
    assert not one["visual"].parameters
    assert any("layers.13" in parameter.name for parameter in one["base"].parameters)


def test_shuffled_vertices_stay_before_absent_ones_and_inputs_follow_them() -> None:
    for task in ("contour", "multi"):
        layout = Layout(task, 20, 4)
        given = arrays(layout)
        shuffled = shuffled_points(given["sequence"][0], layout, np.asarray([3, 2, 0, 1]))
        first = 5 if task == "multi" else 0
        points = shuffled[first : first + 8].reshape(4, 2)
        np.testing.assert_array_equal(points[3], [layout.end] * 2)
        np.testing.assert_array_equal(points[0], given["sequence"][0][first + 4 : first + 6])
        changed = []
        for seed in range(6):
            batch = shuffled_batch(given, layout, 0.5, np.random.default_rng(seed))
            np.testing.assert_array_equal(batch["previous"][:, first + 1 :], batch["sequence"][:, first:-1])
            changed.append((batch["sequence"] != given["sequence"]).any(1).sum())
        # One of two samples is shuffled; some orders are those of before.
        assert max(changed) == 1
        assert shuffled_batch(given, layout, 0.4, np.random.default_rng(1)) == {}


def test_places_of_a_box_weigh_what_is_asked() -> None:
    np.testing.assert_allclose(place_weights(Layout("box"), (0, 4), 2.0), [2, 1, 1, 1, 2])
    assert place_weights(Layout("contour", 20, 4), (0,), 2.0).max() == 1
    weights = place_weights(Layout("multi", 20, 4), (0,), 2.0)
    assert weights[0] == 2 and weights[1:].max() == 1


def test_a_contour_is_drawn_in_original_pixels_with_a_score() -> None:
    layout = Layout("multi", 100, 4)
    geometry = Geometry((80, 160), (32, 64), (64, 64), (0, 0), (0.4, 0.4))
    sample = Sample("", "a", "a", "it", np.asarray([[0, 0, 10, 10]], np.float32))
    square = np.asarray([[0, 0], [50, 0], [50, 50], [0, 50]]).reshape(-1)
    outputs = {
        "box_tokens": np.asarray([[50, 100, 0, 0]]), "box_probabilities": np.full((1, 4), 0.5, np.float32),
        "mask_tokens": np.asarray([[*square, 100]]), "mask_probabilities": np.full((1, 9), 0.5, np.float32),
    }  # fmt: skip
    (found,) = decode_sequences(outputs, Batch({}, [sample], [geometry], 1), layout)
    # The padded image is 64 wide and 32 high; a half of it is 80 and 40 original pixels.
    np.testing.assert_allclose(found.boxes_xyxy[0], [0, 0, 80, 80], atol=1e-4)
    assert found.scores[0] == pytest.approx(0.5**4)
    assert int(found.mask_arrays().sum()) == 80 * 40
    np.testing.assert_allclose(found.extras["polygon"][2], [80, 40], atol=1e-4)
    for forms in (Forms(), Forms(masks=("polygon",))):
        (record,) = forms.records(found, 1)
        assert record["contour"] == [[0, 0, 80, 0, 80, 40, 0, 40]]
        assert record["token_probabilities"] == {"contour": [0.5] * 9, "box": [0.5] * 4}
        assert record["token_scores"] == {"contour": round(0.5**9, 6), "box": 0.0625} and record["score"] == 0.0625
    # The polygon that was written, not the outline of its pixels.
    assert record["segmentation"] == record["contour"] and isinstance(
        Forms().records(found, 1)[0]["segmentation"], dict
    )
    assert written(Prediction((4, 4), [[0, 0, 1, 1]], [1.0])) == {}


def test_vertices_lie_on_the_outline() -> None:
    mask = np.zeros((40, 60), np.uint8)
    mask[10:30, 20:50] = 1
    for by_rays in (False, True):
        x, y = sample_vertices(mask, 12, by_rays)
        assert ((x >= 19) & (x <= 50) & (y >= 9) & (y <= 30))[x >= 0].all()
        assert (x >= 0).sum() >= 8
    assert (sample_vertices(np.zeros((5, 5)), 4) == -1).all()


# ---- files of weights ------------------------------------------------------------------------------------------------


def write_darknet(path: Any, count: int, minor: int = 2) -> Any:
    header = struct.pack("<3i", 0, minor, 0) + struct.pack("<q" if minor >= 2 else "<i", 7)
    path.write_bytes(header + np.arange(count, dtype="<f4").tobytes())
    return path


@pytest.mark.parametrize("minor", [1, 2])
def test_a_darknet_file_is_read_in_the_order_of_the_network(tmp_path: Any, minor: int) -> None:
    net = Darknet(2, [1, 0, 1, 1, 0, 1])
    shapes = parameter_shapes(net)
    needed = sum(int(np.prod(shape)) for shape in shapes.values())
    found = read_weights(write_darknet(tmp_path / "a.weights", needed + 3, minor))
    assert found.format == "darknet" and found.metadata["seen"] == 7
    adapted = DARKNET_MAP.to_ours(found.tensors, shapes)
    assert set(adapted.tensors) == set(shapes)
    assert adapted.tensors["layers.0.bn.beta"].tolist() == [0, 1]
    assert adapted.tensors["layers.0.bn.gamma"].tolist() == [2, 3]
    assert adapted.tensors["layers.0.conv.weight"].reshape(-1)[0] == 8
    assert "3 of" in adapted.ignored[VALUES]
    assert [name for _, name in network_order(shapes)][:3] == ["layers.0.", "layers.1.", "layers.2.blocks.0.0."]


def test_a_darknet_file_that_ends_within_a_module_is_refused(tmp_path: Any) -> None:
    shapes = parameter_shapes(Darknet(2, [1, 0, 1, 1, 0, 1]))
    first = sum(int(np.prod(s)) for name, s in shapes.items() if name.startswith("layers.0."))
    found = read_weights(write_darknet(tmp_path / "a.weights", first))
    adapted = DARKNET_MAP.to_ours(found.tensors, shapes)
    assert set(adapted.missing) == {name for name in shapes if not name.startswith("layers.0.")}
    found = read_weights(write_darknet(tmp_path / "b.weights", first + 1))
    with pytest.raises(WeightsError, match="module 1"):
        DARKNET_MAP.to_ours(found.tensors, shapes)
    cut = tmp_path / "c.weights"
    cut.write_bytes((tmp_path / "b.weights").read_bytes()[:-1])
    with pytest.raises(WeightsError):
        read_weights(cut)


def test_the_interface_follows_the_task() -> None:
    from mindground.models.seqtr import interface

    answers = {
        task: interface(SimpleNamespace(model=SimpleNamespace(task=task))).answers
        for task in ("box", "contour", "multi")
    }
    assert answers == {"box": ("box",), "contour": ("mask",), "multi": ("box", "mask")}
