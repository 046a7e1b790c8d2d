"""What every family offers to trainer, evaluator and predictor.

They know no family by name: what is special about one lies behind the methods below.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import mindspore as ms
import numpy as np
from mindspore import nn

from mindground.errors import DataError
from mindground.models import weight_maps_in
from mindground.models.interface import FreshPart, PretrainedPart
from mindground.structures import Batch, Example, Prediction

if TYPE_CHECKING:
    from typing import Protocol

    class Run(Protocol):
        """`engine.forward.Runner`: calls compiled pieces of a network."""

        def __call__(self, piece: str, *inputs: Any) -> tuple[ms.Tensor, ...]: ...

        def network(self, arrays: Mapping[str, Any]) -> dict[str, np.ndarray]: ...

        def features(self, encoder: str, arrays: Mapping[str, Any]) -> tuple[ms.Tensor, ...]: ...


__all__ = ["Encoder", "FromFeatures", "GroundingModel", "ParameterGroup"]


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share a learning rate (`train.lr` times `train.lr_factors[name]`) and a weight decay.

    Attributes:
        lr_factor: where `train.lr_factors` does not name the group.
        weight_decay: None = `train.weight_decay`.
    """

    name: str
    parameters: tuple[ms.Parameter, ...]
    lr_factor: float = 1.0
    weight_decay: float | None = None


@dataclass(frozen=True)
class Encoder:
    """A part of a network that sees some inputs alone, so that what it computes can be kept.

    The network has a method `encode_<name>(*inputs)` that gives the outputs, each with B on its first axis.

    Attributes:
        inputs: names of batch arrays, in order.
        outputs: names under which features stand in a batch, in order.
        parameter_prefixes: how the names of all parameters behind it start.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parameter_prefixes: tuple[str, ...]


class GroundingModel(nn.Cell):
    """One Cell: `construct` and `loss` are what training compiles, `infer` and `decode` what a question runs.

    Class attributes a family sets:
        input_names: arrays of a `Batch` that `construct` takes, in order.
        target_names: arrays of a `Batch` that `loss` takes after the outputs, in order; those that `assign` makes
            stand at the end.
        output_names: names of what `construct` returns, in order.
        term_names: names of the loss terms, in the order in which `loss` returns them.
        encoders: parts that see some inputs alone. Then `construct` is `head` on what they give, and `input_names`
            is the inputs of all encoders and `head_inputs`.
        head_inputs: arrays that `head` takes after the features of all encoders.
        shares_image_features: `head` takes features and arrays of one image for several expressions.
        cuts_text: `token_ids` and `token_mask` may be cut behind the longest expression of a batch, because nothing
            that follows takes part.
        staged: `scout` and `assign` run before the loss graph of every step.
        scout_names: names of what `scout` returns.
        mask_logits: name of the output (B, 1, h, w) that says for every pixel of the canvas how sure it belongs to
            the one mask of an answer, as log of the odds; empty where a network has none.
        pretrained_parts: part -> what fills it; the family's `PRETRAINED_PARTS`.
        fresh_parts: name in `train.fresh` -> what it leaves out of the file; the family's `FRESH_PARTS`.
    """

    input_names: ClassVar[tuple[str, ...]] = ()
    target_names: tuple[str, ...] = ()
    output_names: tuple[str, ...] = ()
    term_names: tuple[str, ...] = ()
    encoders: ClassVar[Mapping[str, Encoder]] = {}
    head_inputs: ClassVar[tuple[str, ...]] = ()
    shares_image_features: ClassVar[bool] = False
    cuts_text: ClassVar[bool] = False
    staged: ClassVar[bool] = False
    scout_names: ClassVar[tuple[str, ...]] = ()
    mask_logits: str = ""
    pretrained_parts: ClassVar[Mapping[str, PretrainedPart]] = {}
    fresh_parts: ClassVar[Mapping[str, FreshPart]] = {}

    # ---- inside compiled graphs ----------------------------------------------------------------------------------

    def construct(self, *inputs: ms.Tensor) -> tuple[ms.Tensor, ...]:
        """Batch arrays named in `input_names` -> raw outputs named in `output_names`."""
        raise TypeError(f"{type(self).__name__} does not define construct")

    def head(self, *arrays: ms.Tensor) -> tuple[ms.Tensor, ...]:
        """Features of all encoders, then the arrays named in `head_inputs` -> raw outputs, as `construct` gives them.

        With `shares_image_features`, features and arrays of the image may have 1 on their first axis instead of B.
        """
        raise TypeError(f"{type(self).__name__} has no encoders apart from its head")

    def scout(self, *arrays: ms.Tensor) -> tuple[ms.Tensor, ...]:
        """Before the loss of a staged step, without gradient: what `assign` needs, named in `scout_names`.

        It takes what `head` takes, or, where there are no encoders, what `construct` takes.
        """
        raise TypeError(f"{type(self).__name__} does not define scout")

    def loss(self, outputs: tuple[ms.Tensor, ...], *targets: ms.Tensor) -> tuple[ms.Tensor, ...]:
        """Raw outputs and target arrays -> (total, *terms), scalars; runs inside the compiled step."""
        raise TypeError(f"{type(self).__name__} does not define loss")

    # ---- on the host ---------------------------------------------------------------------------------------------

    def encode_targets(self, example: Example, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """The family's own arrays of one example, in fixed shapes; NumPy only, run in the loader's threads."""
        raise TypeError(f"{type(self).__name__} does not define encode_targets")

    def encode_batch(self, batch: Batch, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Further arrays where a draw belongs to a whole batch."""
        return {}

    def assign(
        self, outputs: Mapping[str, np.ndarray], batch: Batch, comm: Any, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """Host-side matching of a staged step: outputs of `scout` by name -> the last of `target_names`.

        Every rank calls it for every micro-batch, so it may use `comm` (normalisers are means over all ranks).
        """
        raise TypeError(f"{type(self).__name__} needs no assignment")

    def infer(self, run: Run, arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """What a question computes, as a host program over compiled pieces (`run`); one call of `construct` by default.

        Args:
            run: `run(piece, *inputs)` calls the method `piece`, `run.network(arrays)` the whole network,
                `run.features(name, arrays)` an encoder unless its features are in `arrays` already.
            arrays: batch arrays by name; features of an encoder may stand in the place of its inputs.
        """
        return run.network(arrays)

    def decode(self, outputs: Mapping[str, np.ndarray], batch: Batch) -> list[Prediction]:
        """Outputs of `infer` by name -> one prediction per real sample, in original pixels."""
        raise TypeError(f"{type(self).__name__} does not define decode")

    def open_session(
        self,
        run: Run,
        transform: Any,
        image: np.ndarray | None,
        embedding: np.ndarray | None = None,
        size: tuple[int, int] | None = None,
    ) -> Any:
        """A session that asks prompts about an image (H, W, 3) uint8 RGB, which is encoded once.

        Args:
            transform: makes the network's input from an image.
            image: None where only its embedding is there.
            embedding: what the network's encoder `image` gave for it earlier; None = it is computed now.
            size: (height, width) of an image that is not there, in pixels.

        Raises:
            DataError: the network answers no prompts.
        """
        raise DataError("this network answers no points or boxes: it has no session; call the predictor itself")

    def parameter_groups(self) -> list[ParameterGroup]:
        """Groups that cover every trainable parameter once; a group of which nothing learns stays, empty."""
        raise TypeError(f"{type(self).__name__} does not define parameter_groups")

    @classmethod
    def weight_maps(cls) -> dict[str, Any]:
        """Source name (as in `tools/import_weights.py --family`) -> `weights.maps.WeightMap`.

        By default the `WEIGHT_MAPS` of the module `weights` beside the network's own; empty where there is none.
        """
        return dict(weight_maps_in(cls.__module__.rpartition(".")[0]))

    # ---- the same for all ----------------------------------------------------------------------------------------

    def evaluation_cells(self) -> Iterable[nn.Cell]:
        """Parts that compute as in evaluation while the rest trains (frozen encoders, for instance)."""
        return ()

    def set_train(self, mode: bool = True) -> GroundingModel:
        """Training or evaluation mode; a family keeps `evaluation_cells` in evaluation."""
        super().set_train(mode)
        for cell in self.evaluation_cells() if mode else ():
            cell.set_train(False)
        return self

    def is_frozen(self, encoder: str) -> bool:
        """True when nothing behind an encoder learns, so that its features can be kept."""
        prefixes = self.encoders[encoder].parameter_prefixes
        behind = [parameter for name, parameter in self.parameters_and_names() if name.startswith(prefixes)]
        return bool(behind) and not any(parameter.requires_grad for parameter in behind)

    def encoder_settings(self, encoder: str, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """What of the `model` section says how an encoder uses its weights; all of it where a family does not know."""
        return settings

    def names_from(self, kept: Collection[str] = ()) -> tuple[str, ...]:
        """Arrays that the network takes, in order, when batches hold the features of the encoders in `kept`."""
        if not kept:
            return self.input_names
        names: tuple[str, ...] = ()
        for name, encoder in self.encoders.items():
            names += encoder.outputs if name in kept else encoder.inputs
        return (*names, *self.head_inputs)


class _Encode(nn.Cell):
    """`encode_<name>` as a Cell, its result always a tuple."""

    def __init__(self, model: GroundingModel, name: str) -> None:
        super().__init__(auto_prefix=False)
        self.model = model
        self.function = getattr(model, f"encode_{name}")

    def construct(self, *inputs: ms.Tensor) -> tuple[ms.Tensor, ...]:
        found = self.function(*inputs)
        return found if isinstance(found, tuple) else (found,)


class FromFeatures(nn.Cell):
    """A network from kept features of some of its encoders; `construct` takes the arrays of `names_from(kept)`.

    Args:
        kept: encoders whose outputs are given; the others run.
        last: the method that follows: `head` or `scout`.
    """

    def __init__(self, model: GroundingModel, kept: Collection[str], last: str = "head") -> None:
        super().__init__(auto_prefix=False)
        self.model = model
        self.last = getattr(model, last)
        self.parts = nn.CellList([_Encode(model, name) for name in model.encoders], auto_prefix=False)
        spans: list[tuple[int, int, bool]] = []
        start = 0
        for name, encoder in model.encoders.items():
            end = start + len(encoder.outputs if name in kept else encoder.inputs)
            spans.append((start, end, name not in kept))
            start = end
        self.spans, self.rest = tuple(spans), start

    def construct(self, *arrays: ms.Tensor) -> tuple[ms.Tensor, ...]:
        features = ()
        for index in range(len(self.spans)):
            start, end, runs = self.spans[index]
            if runs:
                features = features + self.parts[index](*arrays[start:end])
            else:
                features = features + arrays[start:end]
        return self.last(*features, *arrays[self.rest :])
