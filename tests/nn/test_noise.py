"""Dropout noise: a function of seed, step, micro-batch, rank and position, without repetitions."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from mindground.nn import noise as module
from mindground.nn.noise import Dropout, StepNoise

LARGE = 3_000_000


class Two(nn.Cell):
    """Two dropouts of equal size."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.first, self.second = Dropout(rate), Dropout(rate)


def _kept(cell: Dropout, count: int, graph: bool = False) -> np.ndarray:
    run = ms.jit(cell) if graph else cell
    return run(ms.Tensor(np.ones(count, np.float32))).asnumpy() > 0


def _agreement(a: np.ndarray, b: np.ndarray) -> tuple[float, int]:
    """Largest share of equal values over all lags at which at least a sixth of both overlaps, and the lag.

    Correlation by Fourier transform: all lags at once.
    """
    size = 1 << int(np.ceil(np.log2(2 * len(a))))
    signs = [np.where(values, 1.0, -1.0) for values in (a, b)]
    spectra = [np.fft.rfft(values, size) for values in signs]
    products = np.fft.irfft(spectra[0] * np.conj(spectra[1]), size)
    lags = np.arange(len(a) * 5 // 6)
    best = (0.0, 0)
    for sign in (1, -1):
        overlap = len(a) - lags
        shares = (products[sign * lags] / overlap + 1) / 2
        if a is b:
            shares[0] = 0.0
        lag = int(np.argmax(shares))
        best = max(best, (float(shares[lag]), sign * lag))
    return best


@pytest.mark.parametrize("count", [LARGE, module._LARGE])
def test_no_lag_repeats(count: int) -> None:
    model = Two(0.5).set_train(True)
    StepNoise(model, seed=0).renew(3)
    first, second = _kept(model.first, count), _kept(model.second, count)
    for kept in (first, second):
        assert abs(kept.mean() - 0.5) < 5 / np.sqrt(count)
    # Independent values agree half of the time; the largest of millions of lags strays by 5 to 6 deviations.
    limit = 0.5 + 7 * 0.5 / np.sqrt(count / 6)
    for a, b in ((first, first), (first, second)):
        share, lag = _agreement(a, b)
        assert share < limit, f"{share:.4f} equal at lag {lag}"


def test_the_measure_sees_a_repetition() -> None:
    values = np.random.default_rng(0).random(200_000) > 0.5
    shifted = np.concatenate([values[-5000:], values[:-5000]])
    share, lag = _agreement(shifted, values)
    assert share > 0.97 and lag == 5000


@pytest.mark.parametrize("rate", [0.1, 0.9])
def test_shares_are_as_asked(rate: float) -> None:
    model = Two(rate).set_train(True)
    StepNoise(model, seed=1).renew(0)
    for count in (1000, 400_000, 700_000, LARGE):
        dropped = 1 - _kept(model.first, count).mean()
        assert abs(dropped - rate) < 5 * np.sqrt(rate * (1 - rate) / count)


def test_what_it_depends_on() -> None:
    model = Two(0.3).set_train(True)
    noise = StepNoise(model, seed=1)

    def drawn(seed_noise: StepNoise, *position: int) -> np.ndarray:
        seed_noise.renew(*position)
        return _kept(model.first, 600_000)

    first = drawn(noise, 4, 1, 2)
    for other in ((5, 1, 2), (4, 0, 2), (4, 1, 0)):
        share = float((drawn(noise, *other) == first).mean())
        assert abs(share - 0.58) < 0.01, "0.7^2 + 0.3^2 where independent"
    assert abs(float((drawn(StepNoise(model, seed=2), 4, 1, 2) == first).mean()) - 0.58) < 0.01
    np.testing.assert_array_equal(drawn(noise, 4, 1, 2), first)
    again = Two(0.3).set_train(True)
    StepNoise(again, seed=1).renew(4, 1, 2)
    np.testing.assert_array_equal(_kept(again.first, 600_000), first)
    assert abs(float((_kept(again.second, 600_000) == first).mean()) - 0.58) < 0.01


@pytest.mark.parametrize("count", [100, 300_000, 1_200_000])
def test_both_modes_draw_the_same(count: int) -> None:
    model = Two(0.4).set_train(True)
    StepNoise(model, seed=1).renew(2)
    np.testing.assert_array_equal(_kept(model.first, count, graph=True), _kept(model.first, count))


def test_small_draws_are_stretches_of_the_table() -> None:
    """What trainings of earlier versions drew, so that they repeat to the bit."""
    import zlib

    model = Two(0.4).set_train(True)
    StepNoise(model, seed=7).renew(11, 1, 3)
    key = np.random.SeedSequence([7, 11, 1, 3])
    table = np.random.Generator(np.random.Philox(key)).random(1 << 20, dtype=np.float32)
    for count in (5, 131_072, (1 << 19) - 1):
        start = zlib.crc32(b"first") % (1 << 20) % ((1 << 20) - count)
        np.testing.assert_array_equal(_kept(model.first, count), table[start : start + count] >= np.float32(0.4))


def test_large_draws_are_fractions_of_sums() -> None:
    model = Two(0.4).set_train(True)
    StepNoise(model, seed=7).renew(1)
    table = module.step_table().asnumpy().astype(np.float64)
    first, second = table[: 1 << 19], table[1 << 19 : (1 << 20) - 1]
    places = np.arange(1_500_000)
    a = first[(places + model.first.start) % len(first)]
    b = second[(places + model.first.second_start) % len(second)]
    sums = (a + b).astype(np.float32)
    np.testing.assert_array_equal(_kept(model.first, 1_500_000), sums - np.floor(sums) >= np.float32(0.4))
