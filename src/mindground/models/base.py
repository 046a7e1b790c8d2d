"""The face that every family shows to trainer, evaluator and predictor.

They know no family by name: what is special about one lies behind the methods below.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import mindspore as ms
import numpy as np
from mindspore import nn

from mindground.structures import Batch, Prediction

__all__ = ["GroundingModel", "ParameterGroup"]


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share a learning rate and a weight decay."""

    name: str
    parameters: tuple[ms.Parameter, ...]
    lr: float
    weight_decay: float


class GroundingModel(nn.Cell):
    """One Cell with three faces: `construct`, `loss`, `decode`.

    Class attributes a family sets:
        input_names: arrays of a `Batch` that `construct` takes, in order.
        target_names: arrays of a `Batch` that `loss` takes after the outputs, in order.
        output_names: names of what `construct` returns, in order.
        term_names: names of the loss terms, in the order in which `loss` returns them.
        assigns: True when `assign` must see the outputs before the loss can be computed.
    """

    input_names: ClassVar[tuple[str, ...]] = ()
    target_names: ClassVar[tuple[str, ...]] = ()
    output_names: ClassVar[tuple[str, ...]] = ()
    term_names: tuple[str, ...] = ()
    assigns: ClassVar[bool] = False

    def construct(self, *inputs: ms.Tensor) -> tuple[ms.Tensor, ...]:
        """Batch arrays named in `input_names` -> raw outputs named in `output_names`."""
        raise TypeError(f"{type(self).__name__} does not define construct")

    def loss(self, outputs: tuple[ms.Tensor, ...], *targets: ms.Tensor) -> tuple[ms.Tensor, ...]:
        """Raw outputs and target arrays -> (total, *terms), scalars; runs inside the compiled step."""
        raise TypeError(f"{type(self).__name__} does not define loss")

    def assign(self, outputs: Mapping[str, np.ndarray], batch: Batch) -> dict[str, np.ndarray]:
        """Host-side matching of outputs to truth: extra target arrays of fixed shape.

        Called only where `assigns` is True, between a forward pass and the training step.
        """
        raise TypeError(f"{type(self).__name__} needs no assignment")

    def decode(self, outputs: Mapping[str, np.ndarray], batch: Batch) -> list[Prediction]:
        """Raw outputs by name -> one prediction per real row, in original pixels."""
        raise TypeError(f"{type(self).__name__} does not define decode")

    def parameter_groups(self, train: Any) -> list[ParameterGroup]:
        """Groups that cover every trainable parameter once; `train` is the `train` section."""
        raise TypeError(f"{type(self).__name__} does not define parameter_groups")

    @classmethod
    def weight_maps(cls) -> dict[str, Any]:
        """Source name (as in `tools/import_weights.py --family`) -> `weights.maps.WeightMap`."""
        return {}
