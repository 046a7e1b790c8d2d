"""Low-rank adaptation of linear layers (Hu et al., arXiv 2106.09685): y = x W^T + b + (alpha / r) B(A(dropout(x))).

mindformers has adapters of its own (`mindformers.pet`). They are not used: its adapter replaces MindSpore's `nn.Dense`
and mindformers' own layers alone, so it does not see the fused query-key-value layer of a `SamEncoder`; its dropout
draws from a generator that no seed reaches, so a resumed run would not repeat; and it neither merges an adapter into
the weights nor takes it out again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import nn

from mindground.errors import WeightsError, shown
from mindground.files.safetensors import write_safetensors_atomic
from mindground.files.weights import read_weights
from mindground.nn import init
from mindground.nn.linear import Linear, PlainProduct
from mindground.nn.noise import Dropout

__all__ = ["Adapters", "LoraLinear", "freeze_base", "lora_layers"]


class LoraLinear(Linear):
    """A `Linear` whose weight and bias are frozen, with a trained product of two thin matrices beside it.

    Parameters: those of `Linear`, `lora_a` (rank, in) and `lora_b` (out, rank). At the start `lora_b` is 0, so that the
    layer computes what its base does.

    Args:
        in_features, out_features, bias: see `Linear`.
        rank: r.
        alpha: the product is scaled by alpha / r.
        dropout: rate on the input of the product, in training only.
    """

    def __init__(
        self, in_features: int, out_features: int, rank: int, alpha: float, dropout: float = 0.0, bias: bool = True
    ) -> None:
        super().__init__(in_features, out_features, bias)
        if rank < 1:
            raise ValueError(f"rank={rank}; an adapter needs at least 1")
        self.rank, self.scale = rank, alpha / rank
        self.weight.requires_grad = False
        if bias:
            self.bias.requires_grad = False
        self.lora_a = init.parameter(init.kaiming_uniform((rank, in_features), in_features), "lora_a")
        self.lora_b = init.parameter(init.constant((out_features, rank)), "lora_b")
        self.dropout = Dropout(dropout)
        self.low, self.high = PlainProduct(), PlainProduct()

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """(..., in) -> (..., out)."""
        rows = x.reshape((-1, self.in_features))
        if self.has_bias:
            base = self.kernel(rows, self.weight, self.bias)
        else:
            base = self.kernel(rows, self.weight)
        beside = self.high(self.low(self.dropout(rows), self.lora_a), self.lora_b)
        return (base + beside * self.scale).reshape(x.shape[:-1] + (self.out_features,))

    def merged_weight(self) -> np.ndarray:
        """(out, in) float32: the weight of a plain layer that computes the same outside training."""
        product = self.lora_b.asnumpy() @ self.lora_a.asnumpy()
        return self.weight.asnumpy() + np.float32(self.scale) * product


def lora_layers(model: nn.Cell) -> dict[str, LoraLinear]:
    """Adapted layers by their name."""
    return {name: cell for name, cell in model.cells_and_names() if isinstance(cell, LoraLinear)}


def freeze_base(model: nn.Cell) -> int:
    """Only adapters learn; returns the number of numbers that do."""
    trained = 0
    for parameter in model.get_parameters():
        parameter.requires_grad = parameter.name.rsplit(".", 1)[-1] in ("lora_a", "lora_b")
        trained += parameter.size if parameter.requires_grad else 0
    return trained


class Adapters:
    """Several adapters of one model, each a file of its own; one is in use, or none, or one is merged.

    Args:
        model: has `LoraLinear` layers. What they hold now is the adapter "" ("as it was built").
    """

    def __init__(self, model: nn.Cell) -> None:
        self.layers = lora_layers(model)
        if not self.layers:
            raise WeightsError(f"{type(model).__name__} has no adapted layer; build it with a rank of at least 1")
        self.active = ""
        self._held: dict[str, dict[str, np.ndarray]] = {"": self._now()}
        self._bases: dict[str, np.ndarray] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Adapters that `use` takes."""
        return tuple(self._held)

    @property
    def merged(self) -> bool:
        """Whether the adapter in use stands in the weights."""
        return bool(self._bases)

    def base_hash(self) -> str:
        """SHA-256 of the frozen weights and biases of all adapted layers: what an adapter was trained for."""
        digest = hashlib.sha256()
        for name, layer in sorted(self.layers.items()):
            weight = self._bases.get(name)
            weight = layer.weight.asnumpy() if weight is None else weight
            arrays = [weight, layer.bias.asnumpy()] if layer.has_bias else [weight]
            for array in arrays:
                digest.update(f"{name} {array.shape}".encode())
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def save(self, path: str | Path) -> Path:
        """Write the adapter in use: two tensors a layer, its rank and scale, and the hash of its base.

        Raises:
            WeightsError: it is merged; `unmerge` first.
        """
        self._refuse_merged("saved")
        scales = {name: layer.scale for name, layer in self.layers.items()}
        first = next(iter(scales.values()))
        return write_safetensors_atomic(path, self._now(), {"lora_base": self.base_hash(), "lora_scale": repr(first)})

    def load(self, path: str | Path, name: str = "") -> str:
        """Read an adapter and keep it under a name (the file's own where none is given); `use` it then.

        Raises:
            WeightsError: it belongs to other weights, or to layers of other names, sizes or scales.
        """
        content = read_weights(path)
        arrays = {key: np.asarray(value, np.float32) for key, value in content.tensors.items()}
        said, base = content.metadata.get("lora_base"), self.base_hash()
        if said != base:
            raise WeightsError(
                f"{path} is an adapter of other weights (base {shown(said)}, here {base[:12]}...); load the encoder it "
                "was trained with"
            )
        scale = next(iter(self.layers.values())).scale
        if content.metadata.get("lora_scale") != repr(scale):
            raise WeightsError(
                f"{path} was trained with the scale {shown(content.metadata.get('lora_scale'))} and the model has "
                f"{scale!r}; set the same rank and alpha"
            )
        self._fit(path, arrays)
        name = name or Path(path).stem
        self._held[name] = arrays
        return name

    def use(self, name: str) -> None:
        """Put an adapter that was loaded into the layers.

        Raises:
            WeightsError: no such adapter, or one is merged.
        """
        self._refuse_merged("exchanged")
        if name not in self._held:
            raise WeightsError(f"there is no adapter {shown(name)}; choose one of {', '.join(map(repr, self._held))}")
        self._held[self.active] = self._now()
        self._put(self._held[name])
        self.active = name

    def merge(self) -> None:
        """Add the adapter in use to the weights; the layer then computes the same with the product at 0."""
        self._refuse_merged("merged")
        self._held[self.active] = self._now()
        merged = {name: layer.merged_weight() for name, layer in self.layers.items()}
        self._bases = {name: layer.weight.asnumpy().copy() for name, layer in self.layers.items()}
        for name, layer in self.layers.items():
            layer.weight.set_data(ms.Tensor(merged[name]))
            layer.lora_b.set_data(ms.Tensor(np.zeros(layer.lora_b.shape, np.float32)))

    def unmerge(self) -> None:
        """Take it out again: weights and adapter are what they were, to the bit."""
        if not self.merged:
            raise WeightsError("no adapter is merged")
        for name, layer in self.layers.items():
            layer.weight.set_data(ms.Tensor(self._bases[name]))
        self._bases = {}
        self._put(self._held[self.active])

    def _now(self) -> dict[str, np.ndarray]:
        found = {}
        for name, layer in self.layers.items():
            found[f"{name}.lora_a"], found[f"{name}.lora_b"] = (
                layer.lora_a.asnumpy().copy(),
                layer.lora_b.asnumpy().copy(),
            )
        return found

    def _put(self, arrays: Mapping[str, np.ndarray]) -> None:
        for name, layer in self.layers.items():
            layer.lora_a.set_data(ms.Tensor(arrays[f"{name}.lora_a"]))
            layer.lora_b.set_data(ms.Tensor(arrays[f"{name}.lora_b"]))

    def _fit(self, path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
        wanted = {name: array.shape for name, array in self._now().items()}
        wrong = sorted(set(wanted) ^ set(arrays)) or [key for key in wanted if arrays[key].shape != wanted[key]]
        if wrong:
            raise WeightsError(f"{path} does not fit: tensor {shown(wrong[0])} is missing, unknown or of another size")
        bad = [name for name, array in arrays.items() if not np.isfinite(array).all()]
        if bad:
            raise WeightsError(f"{path}: tensor {shown(bad[0])} holds numbers that are not finite")

    def _refuse_merged(self, what: str) -> None:
        if self.merged:
            raise WeightsError(f"the adapter {self.active!r} is merged and cannot be {what}; call unmerge() first")
