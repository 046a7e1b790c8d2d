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
        image_names, text_names, joint_names: set by a family that keeps image and sentence apart until `ground`. They
            divide `input_names` among `encode_image`, `encode_text` and `ground`, so that one image is encoded once
            for many sentences, and frozen encoders once for many epochs.
        encoder_prefixes: how the names of all parameters behind `encode_image` and `encode_text` start.
        trims_text: True when `token_ids` and `token_mask` may be cut behind the longest sentence of a batch, because
            nothing that follows takes part.
        pretrained_parts: prefix of parameters that are useless without pretrained weights -> how to give them.
    """

    input_names: ClassVar[tuple[str, ...]] = ()
    target_names: tuple[str, ...] = ()
    output_names: tuple[str, ...] = ()
    term_names: tuple[str, ...] = ()
    assigns: ClassVar[bool] = False
    image_names: ClassVar[tuple[str, ...]] = ()
    text_names: ClassVar[tuple[str, ...]] = ()
    joint_names: ClassVar[tuple[str, ...]] = ()
    encoder_prefixes: ClassVar[tuple[str, ...]] = ()
    trims_text: ClassVar[bool] = False
    pretrained_parts: ClassVar[Mapping[str, str]] = {}

    def construct(self, *inputs: ms.Tensor) -> tuple[ms.Tensor, ...]:
        """Batch arrays named in `input_names` -> raw outputs named in `output_names`."""
        raise TypeError(f"{type(self).__name__} does not define construct")

    def encode_image(self, *arrays: ms.Tensor) -> ms.Tensor:
        """Arrays named in `image_names` -> features of the image alone, first axis B."""
        raise TypeError(f"{type(self).__name__} has no image features apart from the sentence")

    def encode_text(self, *arrays: ms.Tensor) -> ms.Tensor:
        """Arrays named in `text_names` -> features of the sentence alone, first axis B."""
        raise TypeError(f"{type(self).__name__} has no text features apart from the image")

    def ground(self, image_features: ms.Tensor, text_features: ms.Tensor, *arrays: ms.Tensor) -> tuple[ms.Tensor, ...]:
        """Both features and the arrays named in `joint_names` -> raw outputs, as `construct` gives them.

        Image features and arrays of the picture may come as one row for several sentences.
        """
        raise TypeError(f"{type(self).__name__} does not ground kept features")

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Arrays that `ground` takes, in order, where features are kept in the place of image and text."""
        return ("image_features", "text_features", *self.joint_names)

    @property
    def frozen_encoders(self) -> bool:
        """True when `encode_image` and `encode_text` stay as they are in training, so that features can be kept."""
        behind = [p for name, p in self.parameters_and_names() if name.startswith(self.encoder_prefixes)]
        return bool(behind) and not any(parameter.requires_grad for parameter in behind)

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
