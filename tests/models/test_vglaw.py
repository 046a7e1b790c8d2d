"""VG-LAW's own additions for training from random weights, and what the golden cases do not reach."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest

from mindground.losses import attention_loss
from mindground.models.vglaw.builder import build_network
from mindground.models.vglaw.config import TextConfig, VGLawConfig, VisualConfig
from mindground.models.vglaw.network import VGLaw

SIDE = 32


pytestmark = pytest.mark.usefixtures("mode")


def _network(**settings: object) -> VGLaw:
    vit = VisualConfig(
        patch_size=8, embed_dim=16, depth=1, num_heads=2, window_block_indexes=[], pretrain_img_size=SIDE
    )
    text = TextConfig(
        vocab_size=20, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=8, dropout=0.0,
    )  # fmt: skip
    for name in [name for name in settings if "." in name]:
        part, key = name.split(".")
        setattr({"vit": vit, "text": text}[part], key, settings.pop(name))
    config = VGLawConfig(vit=vit, text=text, generator_heads=2, law_rank=4, up_channels=8, box_hidden=8, **settings)
    return build_network(config, img_size=SIDE)


def _cover(box: np.ndarray, side: int) -> np.ndarray:
    """Share of each cell inside the box, by counting points."""
    points = (np.arange(side * 100) + 0.5) / (side * 100)
    across = np.abs(points - box[0]) * 2 < box[2]
    down = np.abs(points - box[1]) * 2 < box[3]
    inside = (down[:, None] & across[None]).astype(np.float64)
    return inside.reshape(side, 100, side, 100).mean((1, 3)).ravel()


def test_attention_loss_is_the_mass_inside_the_box() -> None:
    rng = np.random.default_rng(0)
    attention = rng.dirichlet(np.ones(25), 3).astype(np.float32)
    boxes = np.asarray([[0.5, 0.5, 0.4, 0.2], [0.13, 0.81, 0.2, 0.3], [0.9, 0.1, 0.3, 0.3]], np.float32)
    expected = np.mean([-np.log(np.dot(row, _cover(box, 5)) + 1e-6) for row, box in zip(attention, boxes, strict=True)])
    assert float(attention_loss(ms.Tensor(attention), ms.Tensor(boxes))) == pytest.approx(expected, rel=2e-2)
    # All of it inside, none of it inside: no loss, and a large but finite one.
    inside = np.zeros((1, 25), np.float32)
    inside[0, 12] = 1.0
    whole = ms.Tensor(np.asarray([[0.5, 0.5, 0.2, 0.2]], np.float32))
    assert float(attention_loss(ms.Tensor(inside), whole)) == pytest.approx(0.0, abs=1e-4)
    away = ms.Tensor(np.asarray([[0.1, 0.1, 0.2, 0.2]], np.float32))
    assert 10 < float(attention_loss(ms.Tensor(inside), away)) < 20


def test_the_attention_term_is_off_as_published_and_adds_to_the_total_when_on() -> None:
    plain = _network()
    assert plain.output_names == ("box", "mask_logits") and "attention" not in plain.term_names
    helped = _network(attention_loss_coef=0.5, focal_loss_coef=20.0)
    assert helped.output_names == ("box", "mask_logits", "attention") and helped.term_names[-1] == "attention"
    rng = np.random.default_rng(1)
    inputs = (
        ms.Tensor(rng.standard_normal((2, 3, SIDE, SIDE)).astype(np.float32)),
        ms.Tensor(rng.integers(1, 20, (2, 6)).astype(np.int32)),
        ms.Tensor(np.ones((2, 6), np.int32)),
    )
    outputs = helped(*inputs)
    assert outputs[2].shape == (2, 16) and np.allclose(outputs[2].asnumpy().sum(1), 1.0, atol=1e-5)
    targets = (
        ms.Tensor(np.asarray([[0.5, 0.5, 0.4, 0.2], [0.3, 0.6, 0.2, 0.3]], np.float32)),
        ms.Tensor((rng.random((2, 1, SIDE, SIDE)) > 0.5).astype(np.float32)),
        ms.Tensor(np.ones((2, 1), np.float32)),
    )
    total, *terms = (float(value) for value in helped.loss(outputs, *targets))
    assert total == pytest.approx(sum(c * t for c, t in zip(helped.coefficients, terms, strict=True)), rel=1e-5)
    assert terms[-1] == pytest.approx(float(attention_loss(outputs[2], targets[0])), rel=1e-5)


def test_start_settings_act() -> None:
    published = _network()
    table = _network(**{"vit.position_start": "sincos"}).visual_encoder.pos_embed.asnumpy()[0, 1:]
    assert np.abs(table).max() > 0.9 and len(np.unique(table.round(4), axis=0)) == 16
    assert np.abs(published.visual_encoder.pos_embed.asnumpy()).max() < 0.1
    wide = _network(**{"text.start_gain": 1.0})

    def deviation(network: VGLaw) -> float:
        return float(network.text_encoder.encoder.layer[0].intermediate.dense.weight.asnumpy().std())

    assert deviation(published) == pytest.approx(0.02, rel=0.25)
    assert deviation(wide) == pytest.approx(16**-0.5, rel=0.25)
