"""Segment Anything whole: an image and prompts in, masks out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from mindground.backbones.sam import SamEncoder
from mindground.models.base import Encoder, GroundingModel, ParameterGroup
from mindground.models.sam.config import PRETRAINED_PARTS, TrainingConfig
from mindground.models.sam.decode import decode_prompted
from mindground.models.sam.evaluate import prompted_masks
from mindground.models.sam.losses import error_click, mask_losses
from mindground.models.sam.mask_decoder import MaskDecoder
from mindground.models.sam.prompt_encoder import PromptEncoder
from mindground.models.sam.targets import encode_prompts
from mindground.structures import Batch, Example, Prediction

if TYPE_CHECKING:
    from mindground.models.base import Run

__all__ = ["Sam"]


class Sam(GroundingModel):
    """The network; the names of its parts are the names in every checkpoint.

    Args:
        image_encoder, prompt_encoder, mask_decoder: its parts.
        input_size: side S of the canvas in pixels.
        training: how prompts are drawn and what the terms weigh.
        learns: whether the image encoder, and whether the other two, learn.
    """

    encoders: ClassVar[Mapping[str, Encoder]] = {"image": Encoder(("image",), ("embedding",), ("image_encoder.",))}
    head_inputs: ClassVar[tuple[str, ...]] = ("prompt_low", "prompt_places", "prompt_kinds", "prompt_noise")
    input_names = ("image", "prompt_low", "prompt_places", "prompt_kinds", "prompt_noise")
    target_names = ("prompt_low", "prompt_kinds", "prompt_valid")
    pretrained_parts = PRETRAINED_PARTS
    term_names = ("focal", "dice", "iou")

    def __init__(
        self,
        *,
        image_encoder: SamEncoder,
        prompt_encoder: PromptEncoder,
        mask_decoder: MaskDecoder,
        input_size: int = 1024,
        training: TrainingConfig | None = None,
        learns: tuple[bool, bool] = (True, True),
    ) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.prompt_encoder = prompt_encoder
        self.mask_decoder = mask_decoder
        self.input_size = input_size
        self.grid = input_size // image_encoder.patch_size
        self.prompts = training or TrainingConfig()
        self.rounds, self.objects = self.prompts.rounds, self.prompts.objects
        self.output_names = tuple(f"{name}_{number}" for number in range(self.rounds) for name in ("logits", "iou"))
        self.coefficients = (self.prompts.focal_coef, self.prompts.dice_coef, self.prompts.iou_coef)
        for part, trains in ((image_encoder, learns[0]), (prompt_encoder, learns[1]), (mask_decoder, learns[1])):
            for parameter in part.get_parameters():
                parameter.requires_grad = parameter.requires_grad and trains
        self.encoder_learns = learns[0]

    # ---- inside compiled graphs ----------------------------------------------------------------------------------

    def encode_image(self, image: ms.Tensor) -> tuple[ms.Tensor, ...]:
        """Image (B, 3, S, S) -> embedding (B, C, g, g)."""
        return (self.image_encoder(image),)

    def masks_of(
        self,
        embedding: ms.Tensor,
        places: ms.Tensor,
        kinds: ms.Tensor,
        present: ms.Tensor | None = None,
        mask_input: ms.Tensor | None = None,
    ) -> tuple[ms.Tensor, ms.Tensor]:
        """All four masks of P prompts.

        Args:
            embedding: (P or 1, C, g, g).
            places: (P, T, 2) xy in pixels of the canvas; pixel centres are at whole numbers.
            kinds: (P, T) int32; see `kinds`.
            present: (P, T) float32, 0 for tokens that only fill the shape; None = all are real.
            mask_input: (P, 1, 4g, 4g) logits of earlier answers, or None.

        Returns:
            logits (P, 4, 4g, 4g) and expected IoU (P, 4).
        """
        rows, columns = embedding.shape[2], embedding.shape[3]
        source = ops.transpose(embedding.reshape(embedding.shape[:2] + (-1,)), (0, 2, 1))
        if mask_input is None:
            dense = self.prompt_encoder.no_mask.expand_dims(0)
        else:
            dense = self.prompt_encoder.dense(mask_input)
        shape = (max(source.shape[0], dense.shape[0]), rows * columns, source.shape[2])
        source = ops.broadcast_to(source, shape) + ops.broadcast_to(dense, shape)
        tokens = self.prompt_encoder.tokens((places + 0.5) * (1.0 / self.input_size), kinds)
        grid = self.prompt_encoder.grid(rows, columns)
        return self.mask_decoder(source, grid, tokens, (rows, columns), present)

    def answer(self, embedding: ms.Tensor, places: ms.Tensor, kinds: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        """`masks_of` prompts whose tokens are all real, without an earlier mask."""
        return self.masks_of(embedding, places, kinds)

    def answer_masked(
        self, embedding: ms.Tensor, places: ms.Tensor, kinds: ms.Tensor, mask_input: ms.Tensor
    ) -> tuple[ms.Tensor, ms.Tensor]:
        """The same with earlier masks."""
        return self.masks_of(embedding, places, kinds, None, mask_input)

    def answer_filled(
        self, embedding: ms.Tensor, places: ms.Tensor, kinds: ms.Tensor, present: ms.Tensor
    ) -> tuple[ms.Tensor, ms.Tensor]:
        """`masks_of` prompts some of whose tokens only fill the shape."""
        return self.masks_of(embedding, places, kinds, present)

    def answer_filled_masked(
        self,
        embedding: ms.Tensor,
        places: ms.Tensor,
        kinds: ms.Tensor,
        present: ms.Tensor,
        mask_input: ms.Tensor,
    ) -> tuple[ms.Tensor, ms.Tensor]:
        """The same with earlier masks."""
        return self.masks_of(embedding, places, kinds, present, mask_input)

    def head(
        self,
        embedding: ms.Tensor,
        prompt_low: ms.Tensor,
        prompt_places: ms.Tensor,
        prompt_kinds: ms.Tensor,
        prompt_noise: ms.Tensor,
    ) -> tuple[ms.Tensor, ...]:
        """All rounds of Q objects for each of B images, as one graph.

        Args:
            embedding: (B, C, g, g).
            prompt_low: (B, Q, s, s) float32 of 0 and 1, s = 4 g, the truth that corrections are drawn from.
            prompt_places: (B, Q, 2, 2), prompt_kinds: (B, Q, 2), the first prompt.
            prompt_noise: (B, Q, max(1, rounds - 1), s, s) in (0, 1]: the pixel of the error with the largest is
                clicked.

        Returns:
            for every round the logits (B, Q, 4, s, s) and the expected IoU (B, Q, 4).
        """
        count, side = prompt_low.shape[0] * prompt_low.shape[1], prompt_low.shape[3]
        maps = ops.broadcast_to(
            embedding.expand_dims(1), (embedding.shape[0], prompt_low.shape[1]) + embedding.shape[1:]
        ).reshape((count,) + embedding.shape[1:])
        truth = prompt_low.reshape((count, side * side))
        noise = prompt_noise.reshape((count, -1, side * side))
        places, kinds = prompt_places.reshape((count, 2, 2)), prompt_kinds.reshape((count, 2))
        found = ()
        earlier = None
        for number in range(self.rounds):
            logits, iou = self.masks_of(maps, places, kinds, None, earlier)
            shape = prompt_low.shape[:2]
            found = found + (logits.reshape(shape + logits.shape[1:]), iou.reshape(shape + iou.shape[1:]))
            if number + 1 < self.rounds:
                first = ops.stop_gradient(logits[:, 0].reshape((count, side * side)))
                place, kind = error_click(first, truth, noise[:, number], side, self.input_size)
                places, kinds = ops.concat((places, place), 1), ops.concat((kinds, kind), 1)
                earlier = ops.stop_gradient(logits[:, 0:1])
        return found

    def construct(self, image: ms.Tensor, *prompts: ms.Tensor) -> tuple[ms.Tensor, ...]:
        """Image (B, 3, S, S) and what `head` takes -> what `head` gives."""
        return self.head(self.image_encoder(image), *prompts)

    def loss(self, outputs: tuple[ms.Tensor, ...], *targets: ms.Tensor) -> tuple[ms.Tensor, ...]:
        """-> (total, focal, dice, iou), means over rounds and prompts; terms are unweighted, the total is weighted."""
        count = outputs[0].shape[0] * outputs[0].shape[1]
        truth = targets[0].reshape((count, -1))
        kinds, valid = targets[1].reshape((count, 2)), targets[2].reshape((count,))
        focal, dice, iou = 0.0, 0.0, 0.0
        for number in range(self.rounds):
            logits = outputs[2 * number].reshape((count,) + outputs[2 * number].shape[2:])
            expected = outputs[2 * number + 1].reshape((count, -1))
            terms = mask_losses(logits, expected, truth, kinds, valid, self.coefficients, number == 0)
            focal, dice, iou = focal + terms[0], dice + terms[1], iou + terms[2]
        share = 1.0 / self.rounds
        focal, dice, iou = focal * share, dice * share, iou * share
        a, b, c = self.coefficients
        return focal * a + dice * b + iou * c, focal, dice, iou

    # ---- on the host ---------------------------------------------------------------------------------------------

    def encode_targets(self, example: Example, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """The arrays of `head` and `loss`; see `targets`."""
        return encode_prompts(example, rng, self.prompts, 4 * self.grid)

    def infer(self, run: Run, arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Masks of the objects of a batch by a point, by a box and after clicks, with their IoU; see `evaluate`."""
        return prompted_masks(self, run, arrays)

    def decode(self, outputs: Mapping[str, np.ndarray], batch: Batch) -> list[Prediction]:
        """The masks that boxes gave, in original pixels, and the IoU of all prompts in `extras["prompt_iou"]`."""
        return decode_prompted(outputs, batch)

    def open_session(
        self,
        run: Run,
        transform: Any,
        image: np.ndarray | None,
        embedding: np.ndarray | None = None,
        size: tuple[int, int] | None = None,
    ) -> Any:
        """A session about an image (H, W, 3) uint8 RGB, or about its embedding; see `session`."""
        from mindground.models.sam.session import SamSession

        return SamSession(self, run, transform, image, embedding, size)

    def evaluation_cells(self) -> Iterable[nn.Cell]:
        """An encoder that does not learn computes as in evaluation, so that its embeddings can be kept."""
        return () if self.encoder_learns else (self.image_encoder,)

    def encoder_settings(self, encoder: str, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """See `GroundingModel.encoder_settings`."""
        own = {name: value for name, value in (settings.get("encoder") or {}).items() if name != "train"}
        return {"image": own, "input_size": self.input_size}

    def parameter_groups(self) -> list[ParameterGroup]:
        """Encoder, decoder with the prompts, and what does not decay: norms, biases, embeddings, position tables."""
        members: dict[str, list[ms.Parameter]] = {"encoder": [], "decoder": [], "no_decay": []}
        for name, parameter in self.parameters_and_names():
            if not parameter.requires_grad:
                continue
            if parameter.ndim < 2 or _plain(name):
                members["no_decay"].append(parameter)
            else:
                members["encoder" if name.startswith("image_encoder.") else "decoder"].append(parameter)
        return [
            ParameterGroup(name, tuple(found), weight_decay=0.0 if name == "no_decay" else None)
            for name, found in members.items()
        ]


def _plain(name: str) -> bool:
    """Tables and embeddings, which are no matrices of a layer."""
    words = ("pos_embed", "rel_pos", "point_embed", "not_a_point", "no_mask", "iou_token", "mask_tokens")
    return any(word in name for word in words)
