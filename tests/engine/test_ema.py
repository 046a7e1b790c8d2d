"""The average of weights and buffers, and its turn in the model's place."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn, ops

from mindground.engine.ema import averaged_weights
from mindground.engine.optim.base import OptimizerGroup
from mindground.engine.optim.build import build_optimizer
from mindground.nn.batch_norm import BatchNorm2d, buffers


class _Network(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.norm = BatchNorm2d(3)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return self.norm(x)


@pytest.mark.parametrize("graph", [True, False], ids=["graph", "pynative"])
def test_the_average_covers_buffers_and_gives_the_model_back(graph: bool) -> None:
    model = _Network()
    model.set_train(True)
    tensors = {**{p.name: p for p in model.trainable_params()}, **buffers(model)}
    assert set(tensors) == {"norm.gamma", "norm.beta", "norm.moving_mean", "norm.moving_variance"}
    group = OptimizerGroup("all", tuple(model.trainable_params()), 0.1, 0.0)
    optimizer = build_optimizer([group], ema_decay=0.99, buffers=tuple(buffers(model).values()))
    expected = {name: np.array(tensor.asnumpy(), np.float64) for name, tensor in tensors.items()}
    count = len(optimizer.host_scalars(1.0, 1.0))

    def update(*values: ms.Tensor) -> ms.Tensor:
        return optimizer(values[:count], values[count:])

    forward, step = (ms.jit(model), ms.jit(update)) if graph else (model, update)
    rng = np.random.default_rng(0)
    for number in range(4):
        forward(ms.Tensor(rng.standard_normal((2, 3, 4, 4)).astype(np.float32) * 2 + 1))
        step(*optimizer.host_scalars(1.0, 1.0), *(ops.ones_like(p) for p in optimizer.parameters))
        optimizer.updates += 1
        decay = (number + 1) / (number + 10)
        for name, tensor in tensors.items():
            expected[name] = decay * expected[name] + (1 - decay) * tensor.asnumpy()
    now = {name: np.array(tensor.asnumpy()) for name, tensor in tensors.items()}
    x = ms.Tensor(rng.standard_normal((2, 3, 4, 4)).astype(np.float32))
    model.set_train(False)
    evaluate = ms.jit(model.norm) if graph else model
    plain = evaluate(x).asnumpy()
    with averaged_weights(optimizer):
        for name, tensor in tensors.items():
            np.testing.assert_allclose(tensor.asnumpy(), expected[name], rtol=1e-5, atol=1e-7)
            assert not np.allclose(tensor.asnumpy(), now[name], rtol=1e-3), name
        scale = expected["norm.gamma"] / np.sqrt(expected["norm.moving_variance"] + 1e-5)
        centred = x.asnumpy() - expected["norm.moving_mean"].reshape(1, 3, 1, 1)
        by_hand = centred * scale.reshape(1, 3, 1, 1) + expected["norm.beta"].reshape(1, 3, 1, 1)
        averaged = evaluate(x).asnumpy()
        np.testing.assert_allclose(averaged, by_hand, rtol=1e-4, atol=1e-5)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(tensor.asnumpy(), now[name])
    np.testing.assert_array_equal(evaluate(x).asnumpy(), plain)
    assert not np.allclose(averaged, plain, rtol=1e-3)


def test_the_model_comes_back_after_an_error() -> None:
    model = _Network()
    optimizer = build_optimizer([OptimizerGroup("all", tuple(model.trainable_params()), 0.1, 0.0)], ema_decay=0.9)
    ops.assign(optimizer.average[0], ms.Tensor(np.full(3, 7, np.float32)))

    def fail() -> None:
        with averaged_weights(optimizer):
            assert model.norm.gamma.asnumpy().tolist() == [7, 7, 7]
            raise KeyError("evaluation failed")

    with pytest.raises(KeyError):
        fail()
    assert model.norm.gamma.asnumpy().tolist() == [1, 1, 1]


def test_integers_stay_integers() -> None:
    parameter = ms.Parameter(ms.Tensor(np.zeros(1, np.float32)), name="p")
    counter = ms.Parameter(ms.Tensor(np.array(9, np.int64)), name="n", requires_grad=False)
    optimizer = build_optimizer([OptimizerGroup("a", (parameter,), 0.1, 0.0)], ema_decay=0.9, buffers=(counter,))
    optimizer.buffer_average[0].set_data(ms.Tensor(np.array(3, np.int64)))
    optimizer.updates = 4
    optimizer(optimizer.host_scalars(1.0, 1.0), (ms.Tensor(np.zeros(1, np.float32)),))
    # 5/14 * 3 + 9/14 * 9 = 6.86, cut as an assignment to an integer tensor cuts it.
    assert optimizer.buffer_average[0].dtype == ms.int64 and int(optimizer.buffer_average[0].asnumpy()) == 6
