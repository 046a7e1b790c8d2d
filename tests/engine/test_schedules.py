"""Learning-rate schedules: segments, the short keys that stand for them, and the schedules of published trainings."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindground.config import Segment, TrainConfig
from mindground.config.schedule import check_schedule
from mindground.engine.schedules import lr_factor, schedule_list, segments_of
from mindground.errors import ConfigError


def factor_of_schema_1(config: Any, step: int, steps_per_epoch: int, total_steps: int) -> float:
    """What the short keys meant before there were segments; trainings must not change by a bit."""
    epoch = step // max(1, steps_per_epoch)
    if step < config.warmup_steps:
        return config.warmup_ratio + (1.0 - config.warmup_ratio) * step / config.warmup_steps
    if config.lr_scheduler == "step":
        drops = sum(step >= after * steps_per_epoch for after in config.drop_epochs)
        return float(config.drop_rate**drops)
    if config.lr_scheduler == "constant":
        return 1.0
    if config.lr_scheduler == "exponential":
        return float(config.lr_exponential**epoch)
    if config.lr_scheduler == "halfdecay":
        epochs = total_steps // max(1, steps_per_epoch)
        return float(0.5 ** (epoch // max(1, epochs // 10)))
    if config.lr_by_epoch:
        step = max(epoch * steps_per_epoch, config.warmup_steps)
    progress = (step - config.warmup_steps) / max(1, total_steps - config.warmup_steps)
    progress = min(max(progress, 0.0), 1.0)
    shape = (1 + math.cos(math.pi * progress)) / 2
    if config.lr_scheduler == "poly":
        shape = (1 - progress) ** config.poly_power
    return config.min_lr_ratio + (1.0 - config.min_lr_ratio) * shape


SHARE = st.floats(0, 1)
SHORT = st.builds(
    TrainConfig,
    lr_scheduler=st.sampled_from(["step", "cosine", "poly", "constant", "exponential", "halfdecay"]),
    warmup_steps=st.integers(0, 60),
    warmup_ratio=SHARE,
    drop_epochs=st.lists(st.integers(0, 12), unique=True, max_size=4).map(sorted),
    drop_rate=SHARE,
    poly_power=st.floats(0, 4),
    lr_exponential=SHARE,
    lr_by_epoch=st.booleans(),
    min_lr_ratio=SHARE,
)


@settings(max_examples=300, deadline=None)
@given(SHORT, st.integers(1, 13), st.integers(1, 120))
def test_short_keys_give_the_factors_that_they_always_gave(
    train: TrainConfig, steps_per_epoch: int, total_steps: int
) -> None:
    segments = segments_of(train)
    check_schedule(segments)
    # Beyond the end, too: a finished run may be lengthened by max_steps.
    for step in range(total_steps + 20):
        expected = factor_of_schema_1(train, step, steps_per_epoch, total_steps)
        assert lr_factor(segments, step, steps_per_epoch, total_steps) == expected


def test_an_unknown_short_schedule_is_named() -> None:
    with pytest.raises(ConfigError, match="noam"):
        segments_of(TrainConfig(lr_scheduler="noam"))  # type: ignore[arg-type]


def test_segments_follow_each_other_in_steps_and_epochs() -> None:
    segments = [
        Segment("linear", steps=2, start=0.5),
        Segment("constant", epochs=1, start=0.8),
        Segment("cosine", steps=4, start=0.8, end=0.2),
        Segment("poly", start=0.2, end=0.1, power=1.0),
    ]
    check_schedule(segments)
    expected = [0.5, 0.75, 0.8, 0.8, 0.8, 0.8, 0.5 + 0.3 * math.sqrt(0.5), 0.5, 0.5 - 0.3 * math.sqrt(0.5)]
    expected += [0.2, 0.175, 0.15, 0.125]
    assert schedule_list(segments, 3, 13) == pytest.approx(expected)
    # After the last segment its end stays.
    assert lr_factor(segments, 99, 3, 13) == pytest.approx(0.1)
    assert lr_factor([Segment("linear", steps=4, start=1.0, end=0.0)], 99, 3, 100) == 0.0


def test_step_and_exponential_count_from_the_start_of_the_run() -> None:
    by_steps = [Segment("constant", steps=2), Segment("step", milestones=[3, 5], gamma=0.5, by_epoch=False)]
    assert schedule_list(by_steps, 4, 7) == [1, 1, 1, 0.5, 0.5, 0.25, 0.25]
    by_epochs = [Segment("constant", steps=2), Segment("step", milestones=[1], gamma=0.5, start=0.4)]
    assert schedule_list(by_epochs, 4, 6) == pytest.approx([1, 1, 0.4, 0.4, 0.2, 0.2])
    assert schedule_list([Segment("exponential", gamma=0.5, by_epoch=False)], 4, 3) == [1, 0.5, 0.25]


@pytest.mark.parametrize("growth", [1, 2])
def test_a_cosine_restarts_as_torch_has_it(growth: int) -> None:
    """CosineAnnealingWarmRestarts(T_0=3, T_mult=growth, eta_min=0.05): by epochs, and within epochs where it moves."""
    wanted = {
        1: [1.0, 0.7625, 0.2875] * 6 + [1.0, 0.7625],
        2: [1.0, 0.7625, 0.2875, 1.0, 0.936362, 0.7625, 0.525, 0.2875, 0.113638, 1.0, 0.983815, 0.936362, 0.860876,
            0.7625, 0.647939, 0.525, 0.402061, 0.2875, 0.189124, 0.113638],
    }[growth]  # fmt: skip
    still = [Segment("cosine_restarts", period=3, growth=growth, end=0.05, by_epoch=True)]
    factors = np.asarray(schedule_list(still, 4, 80)).reshape(20, 4)
    assert (factors == factors[:, :1]).all() and factors[:, 0] == pytest.approx(wanted, abs=1e-6)
    moving = schedule_list([Segment("cosine_restarts", period=3, growth=growth, end=0.05)], 4, 80)
    assert moving[::4] == pytest.approx(wanted, abs=1e-6) and moving[2] == pytest.approx(0.936362, abs=1e-6)
    later = [Segment("linear", epochs=1, start=0.5), *still]
    assert schedule_list(later, 1, 21)[1:] == pytest.approx(wanted, abs=1e-6)


def test_segments_side_by_side_multiply() -> None:
    segments = [Segment("linear", steps=4, start=0.5, beside=True), Segment("step", milestones=[1], gamma=0.1)]
    assert schedule_list(segments, 2, 6) == pytest.approx([0.5, 0.625, 0.075, 0.0875, 0.1, 0.1])


@pytest.mark.parametrize(
    ("segments", "says"),
    [
        ([Segment("cosine", milestones=[1])], r"schedule\[0\].milestones does nothing for kind=cosine"),
        ([Segment("step", end=0.0)], "end does nothing"),
        ([Segment("constant", power=2.0)], "power does nothing"),
        ([Segment("linear", steps=1, epochs=1)], "both steps=1 and epochs=1"),
        ([Segment("linear", steps=-1)], "steps=-1 must be at least 0"),
        ([Segment("cosine"), Segment("constant")], "never reached"),
        ([Segment("step", milestones=[4, 2])], r"milestones=\[4, 2\] must rise"),
        ([Segment("linear", steps=2, beside=True)], "beside the last"),
        ([Segment("cosine_restarts")], "period=0"),
        ([Segment("cosine_restarts", period=2, growth=0)], "growth=0"),
        ([Segment("cosine", period=2)], "period does nothing for kind=cosine"),
    ],
)
def test_segments_that_cannot_act_are_refused(segments: list[Segment], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        check_schedule(segments)


# ---- published schedules, as their authors' code gives them -------------------------------------------------------


def test_vglaw_warms_up_and_drops() -> None:
    segments = [
        Segment("linear", steps=9, start=0.01),
        Segment("step", milestones=[3], gamma=0.1),
    ]
    rates = np.asarray(schedule_list(segments, 7, 35)) * 1e-4
    np.testing.assert_allclose(rates[:10], np.linspace(1e-6, 1e-4, 10))
    np.testing.assert_allclose(rates[10:], [1e-4] * 11 + [1e-5] * 14)


def test_clipvg_moves_by_epochs() -> None:
    """110 epochs, from the rate of the authors' script; PyTorch's schedulers are called once an epoch."""
    epochs = np.arange(110)
    for segment, expected in (
        (Segment("cosine", by_epoch=True), (1 + np.cos(np.pi * epochs / 110)) / 2),
        (Segment("poly", by_epoch=True, power=0.9), (1 - epochs / 110) ** 0.9),
        (Segment("halfdecay"), 0.5 ** (epochs // 11)),
        (Segment("exponential", gamma=0.9), 0.9**epochs),
        (Segment("step", milestones=[60], gamma=0.1), np.where(epochs < 60, 1, 0.1)),
    ):
        factors = np.asarray(schedule_list([segment], 3, 330)).reshape(110, 3)
        np.testing.assert_allclose(factors, np.repeat(expected[:, None], 3, 1), rtol=1e-12)


def test_rmsin_decays_by_steps() -> None:
    factors = schedule_list([Segment("poly", power=0.9)], 40, 400)
    np.testing.assert_allclose(factors, (1 - np.arange(400) / 400) ** 0.9)


def test_rsprompter_warms_up_beside_a_cosine_by_epochs() -> None:
    """50 iterations of warm-up reach into the cosine, which begins with the second epoch and ends at a thousandth."""
    segments = [
        Segment("linear", steps=49, start=0.001, beside=True),
        Segment("constant", epochs=1),
        Segment("cosine", epochs=8, end=0.001, by_epoch=True),
    ]
    check_schedule(segments)
    factors = np.asarray(schedule_list(segments, 12, 96))
    # 1e4 x the rates that the authors' schedulers set at these iterations, the full rate being 2e-4.
    recorded = {0: 0.002, 1: 0.04277551, 12: 0.49130613, 23: 0.93983674, 24: 0.94336605, 35: 1.3748603, 36: 1.2549804}
    recorded |= {48: 1.3552263, 49: 1.3834313, 60: 1.0010945, 72: 0.61875755, 84: 0.294628, 95: 0.294628}
    # Theirs multiplies rate by rate, which moves the floor of a thousandth during the warm-up.
    np.testing.assert_allclose(factors[list(recorded)] * 2, list(recorded.values()), rtol=1e-4)


def test_seqtr_warms_up_by_epochs() -> None:
    """Epoch e of w has the factor (e + 1) / (w + 1); a drop after "epoch 50" acts in the fiftieth already."""
    segments = [
        Segment("linear", epochs=5, start=1 / 6, by_epoch=True),
        Segment("step", milestones=[49], gamma=0.1),
    ]
    factors = np.asarray(schedule_list(segments, 4, 240)).reshape(60, 4)
    expected = np.concatenate([np.arange(1, 6) / 6, np.ones(44), np.full(11, 0.1)])
    np.testing.assert_allclose(factors, np.repeat(expected[:, None], 4, 1))
    decay = [Segment("linear", epochs=3, start=0.25, by_epoch=True), Segment("linear", end=0.0, by_epoch=True)]
    factors = np.asarray(schedule_list(decay, 4, 80))[::4]
    np.testing.assert_allclose(factors, [0.25, 0.5, 0.75, *(1 - np.arange(17) / 17)])
