"""Adapters: what learns, files that belong to one base, several of them, merging to the bit."""

from __future__ import annotations

from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from mindground.errors import WeightsError
from mindground.files.safetensors import write_safetensors_atomic
from mindground.files.weights import read_weights
from mindground.nn.linear import Linear
from mindground.nn.lora import Adapters, LoraLinear, freeze_base


class _Net(nn.Cell):
    def __init__(self, seed: int = 0, rank: int = 2) -> None:
        super().__init__()
        self.qkv, self.out = LoraLinear(6, 9, rank, 4.0, 0.1), Linear(9, 3)
        rng = np.random.default_rng(seed)
        for parameter in self.get_parameters():
            parameter.set_data(ms.Tensor(rng.standard_normal(parameter.shape).astype(np.float32)))

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return self.out(self.qkv(x))


X = ms.Tensor(np.random.default_rng(9).standard_normal((4, 6)).astype(np.float32))


def _values(net: nn.Cell) -> dict[str, np.ndarray]:
    return {name: value.asnumpy().copy() for name, value in net.parameters_and_names()}


def _with_adapter(seed: int) -> _Net:
    """The same base with another adapter."""
    net, other = _Net(), _Net(seed)
    net.qkv.lora_a.set_data(other.qkv.lora_a)
    net.qkv.lora_b.set_data(other.qkv.lora_b)
    net.set_train(False)
    return net


def test_a_new_layer_computes_what_its_base_does_and_only_adapters_learn() -> None:
    layer, plain = LoraLinear(6, 9, 2, 4.0), Linear(6, 9)
    plain.weight.set_data(layer.weight)
    plain.bias.set_data(layer.bias)
    assert np.array_equal(layer(X).asnumpy(), plain(X).asnumpy())
    net = _Net()
    assert freeze_base(net) == 2 * 6 + 9 * 2
    assert {parameter.name for parameter in net.trainable_params()} == {"qkv.lora_a", "qkv.lora_b"}


def test_dropout_acts_on_the_adapter_alone() -> None:
    net = _with_adapter(3)
    quiet = net(X).asnumpy()
    net.set_train(True)
    assert not np.array_equal(net(X).asnumpy(), quiet)
    net.qkv.lora_b.set_data(ms.Tensor(np.zeros((9, 2), np.float32)))
    trained = net(X).asnumpy()
    net.set_train(False)
    assert np.array_equal(trained, net(X).asnumpy())


def test_merging_and_back_leaves_every_bit() -> None:
    net = _with_adapter(3)
    before, answer = _values(net), net(X).asnumpy()
    adapters = Adapters(net)
    base = adapters.base_hash()
    adapters.merge()
    assert net(X).asnumpy() == pytest.approx(answer, abs=1e-4) and not net.qkv.lora_b.asnumpy().any()
    assert adapters.base_hash() == base
    for refused in (adapters.merge, lambda: adapters.use(""), lambda: adapters.save("never.safetensors")):
        with pytest.raises(WeightsError, match="merged"):
            refused()
    adapters.unmerge()
    assert all(np.array_equal(value, before[name]) for name, value in _values(net).items())
    with pytest.raises(WeightsError, match="no adapter is merged"):
        adapters.unmerge()


def test_several_adapters_on_one_encoder(tmp_path: Path) -> None:
    files, answers = {}, {}
    for name, seed in (("ships", 3), ("roofs", 4)):
        net = _with_adapter(seed)
        files[name], answers[name] = Adapters(net).save(tmp_path / f"{name}.safetensors"), net(X).asnumpy()
    net = _with_adapter(5)
    first, adapters = net(X).asnumpy(), Adapters(net)
    assert [adapters.load(path) for path in files.values()] == ["ships", "roofs"]
    assert adapters.names == ("", "ships", "roofs")
    for name in ("roofs", "ships", "roofs", ""):
        adapters.use(name)
        assert np.array_equal(net(X).asnumpy(), answers.get(name, first))
    with pytest.raises(WeightsError, match="choose one of"):
        adapters.use("cars")


def _changed(path: Path, out: Path, **metadata: str) -> Path:
    content = read_weights(path)
    return write_safetensors_atomic(out, content.tensors, {**content.metadata, **metadata})


def test_an_adapter_of_other_weights_is_refused(tmp_path: Path) -> None:
    path = Adapters(_with_adapter(3)).save(tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match="other weights"):
        Adapters(_Net(8)).load(path)
    adapters = Adapters(_Net())
    with pytest.raises(WeightsError, match="scale"):
        adapters.load(_changed(path, tmp_path / "b.safetensors", lora_scale="3.0"))
    tensors = {name: np.array(value) for name, value in read_weights(path).tensors.items()}
    metadata = {"lora_base": adapters.base_hash(), "lora_scale": "2.0"}
    for name, wrong in (("size", tensors["qkv.lora_a"][:, :3]), ("number", tensors["qkv.lora_a"] * np.nan)):
        changed = write_safetensors_atomic(tmp_path / f"{name}.st", {**tensors, "qkv.lora_a": wrong}, metadata)
        with pytest.raises(WeightsError, match="lora_a"):
            adapters.load(changed)
    with pytest.raises(WeightsError, match="no adapted layer"):
        Adapters(Linear(2, 2))
