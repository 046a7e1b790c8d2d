"""CLIP-VG whole: image and sentence through CLIP's towers, a joint encoder over both, one box out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from mindground.backbones.clip import Clip
from mindground.errors import ConfigError
from mindground.losses import attention_loss, box_iou_loss, box_l1_loss
from mindground.models.base import Encoder, GroundingModel, ParameterGroup
from mindground.models.clipvg.config import PRETRAINED_PARTS
from mindground.models.clipvg.decode import decode_box
from mindground.models.clipvg.joint import JointEncoder
from mindground.models.targets import encode_box
from mindground.nn import init
from mindground.nn.linear import Linear
from mindground.nn.mlp import MultiLayerPerceptron
from mindground.nn.resize import BilinearResize, shrink_matrix
from mindground.structures import Batch, Example, Prediction

__all__ = ["ClipVG", "PatchMask", "prompted"]

# Far below every attention logit, and still a float16.
_MASKED = -1e4


class PatchMask(nn.Cell):
    """Padding of the canvas -> which patches are padding (published weights: round half to even, non-zero).

    Args:
        img_size: side of the canvas S in pixels.
        grid: patches per side g.
        kind: legacy or antialias.
    """

    def __init__(self, img_size: int, grid: int, kind: str) -> None:
        super().__init__()
        self.resize = BilinearResize((img_size, img_size), (grid, grid))
        if kind == "antialias":
            matrix = ms.Tensor(shrink_matrix(img_size, grid))
            self.resize.matrix_y = self.resize.matrix_x = matrix

    def construct(self, padding: ms.Tensor) -> ms.Tensor:
        """(B, S, S), 1 on padding -> (B, g * g) float32, 1 on padded patches."""
        batch = padding.shape[0]
        small = self.resize(padding.astype(ms.float32).expand_dims(1))
        return ops.round(small).reshape(batch, -1)


def prompted(token_ids: ms.Tensor, token_mask: ms.Tensor, prompt: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
    """Put the prompt (P,) in front of every row (B, L) and cut to L; the mask gets P leading ones."""
    batch, length = token_ids.shape
    front = ops.broadcast_to(prompt.reshape(1, -1), (batch, prompt.shape[0])).astype(token_ids.dtype)
    ids = ops.concat((front, token_ids), 1)[:, :length]
    mask = ops.concat((ops.ones_like(front).astype(token_mask.dtype), token_mask), 1)[:, :length]
    return ids, mask


class ClipVG(GroundingModel):
    """The network of the paper and its two ablations.

    Args:
        clip: the two towers.
        make_joint: () -> the encoder over both, of width D; called where its start values are drawn.
        width: D.
        visual_width, embed_dim: of the image tower, and of the space that both towers share.
        blocks: image blocks (from 0) whose outputs are used, ascending.
        variant: multi_level, last_layer or prompt (config.py).
        prompt_ids: token ids put in front of every sentence by the variant `prompt`.
        max_query_len: positions of the joint table that are for words; sentences may be shorter.
        img_size: side of the square canvas in pixels, a multiple of the patch size.
        train_clip: what of CLIP learns: nothing, visual_positions or all.
        padding_mask: legacy or antialias (`PatchMask`).
        box_code: cxcywh or dior_legacy (decode.py).
        box_weight, giou_weight, attention_weight: of the loss terms; attention 0 leaves that term out.
        sincos_positions: patches start with sines and cosines of row and column, for training from random weights.
    """

    encoders: ClassVar[Mapping[str, Encoder]] = {
        "image": Encoder(("image",), ("image_features",), ("clip.visual.",)),
        "text": Encoder(("token_ids",), ("text_features",), ("clip.text.",)),
    }
    head_inputs: ClassVar[tuple[str, ...]] = ("token_mask", "padding")
    input_names = ("image", "token_ids", *head_inputs)
    target_names = ("box",)
    shares_image_features: ClassVar[bool] = True
    cuts_text: ClassVar[bool] = True
    pretrained_parts = PRETRAINED_PARTS

    def __init__(
        self,
        *,
        clip: Clip,
        make_joint: Callable[[], JointEncoder],
        width: int,
        visual_width: int,
        embed_dim: int,
        blocks: Sequence[int],
        variant: Literal["multi_level", "last_layer", "prompt"] = "multi_level",
        prompt_ids: Sequence[int] = (),
        max_query_len: int = 77,
        img_size: int,
        train_clip: Literal["nothing", "visual_positions", "all"] = "visual_positions",
        padding_mask: Literal["legacy", "antialias"] = "legacy",
        box_code: Literal["cxcywh", "dior_legacy"] = "cxcywh",
        box_weight: float = 1.0,
        giou_weight: float = 1.0,
        attention_weight: float = 0.0,
        sincos_positions: bool = False,
    ) -> None:
        super().__init__()
        self.width, self.blocks, self.variant = width, tuple(blocks), variant
        self.max_query_len, self.box_code = max_query_len, box_code
        self.box_weight, self.giou_weight, self.attention_weight = box_weight, giou_weight, attention_weight
        grid = clip.visual.grid
        # The names of the attributes are the names in every checkpoint; start values are drawn in this order.
        self.clip = clip
        start = "kaiming_uniform"
        # Only the last-layer variant uses it; elsewhere it is a part of every checkpoint, always 512 wide.
        self.visu_proj = Linear(embed_dim if variant == "last_layer" else 512, width, start=start)
        self.text_proj = Linear(embed_dim, width, start=start)
        self.several_levels = variant != "last_layer"
        if self.several_levels:
            self.ml_visu_proj = Linear(len(self.blocks) * visual_width, width, start=start)
        self.prompt = ms.Tensor(np.asarray(prompt_ids, np.int32)) if variant == "prompt" else None
        self.reg_token = init.parameter(init.normal((1, width), 1.0), "reg_token")
        positions = 1 + max_query_len + 1 + grid**2
        self.vl_pos_embed = init.parameter(init.normal((positions, width), 1.0), "vl_pos_embed")
        self.vl_transformer = make_joint()
        self.bbox_embed = MultiLayerPerceptron((width, width, width, 4))
        self.patch_mask = PatchMask(img_size, grid, padding_mask)
        # [REG] is watched where its attention is taught.
        self.watched = attention_weight > 0
        self.output_names: tuple[str, ...] = ("box", "attention") if self.watched else ("box",)
        self.term_names = ("bbox", "giou", "attention") if self.watched else ("bbox", "giou")
        if sincos_positions:
            self._start_positions(grid)
        self._freeze(train_clip)

    def _start_positions(self, grid: int) -> None:
        """Sines and cosines of row and column for the patches, small numbers for the rest of the joint table."""
        for table in (self.clip.visual.positional_embedding, self.vl_pos_embed):
            rows, width = table.shape
            value = np.random.default_rng(0).normal(0, 0.02, (rows, width)).astype(np.float32)
            value[rows - grid**2 :] = init.sincos_positions(grid, grid, width, standardised=True)
            table.set_data(ms.Tensor(value))

    def _freeze(self, train_clip: str) -> None:
        """What takes no part, and what of CLIP the configuration keeps as it is."""
        used = {"multi_level": ("ml_visu_proj",), "prompt": ("ml_visu_proj",), "last_layer": ("visu_proj",)}
        idle = {"clip.logit_scale"}
        if self.several_levels:
            idle |= {"clip.visual.proj", "clip.visual.ln_post.gamma", "clip.visual.ln_post.beta"}
        last = self.blocks[-1] if self.several_levels else len(self.clip.visual.transformer.resblocks)
        for name, parameter in self.parameters_and_names():
            learns = not name.startswith("clip.") or train_clip == "all"
            if name == "clip.visual.positional_embedding":
                learns = train_clip != "nothing"
            if name.startswith("visu_proj") and name.split(".")[0] not in used[self.variant]:
                learns = False
            if name.startswith("clip.visual.transformer.resblocks.") and int(name.split(".")[4]) > last:
                learns = False
            parameter.requires_grad = learns and name not in idle

    # ---- the parts, each of which can be kept --------------------------------------------------------------------

    def encode_image(self, image: ms.Tensor) -> ms.Tensor:
        """image (B, 3, S, S) -> tokens (B, 1 + N, W): the chosen blocks side by side, or CLIP's own output."""
        if not self.several_levels:
            return self.clip.visual(image)
        return ops.concat(self.clip.visual.levels(image, self.blocks), -1)

    def encode_text(self, token_ids: ms.Tensor) -> ms.Tensor:
        """token_ids (B, L) int32 -> every token in CLIP's shared space (B, L, E)."""
        if self.prompt is not None:
            token_ids = prompted(token_ids, token_ids, self.prompt)[0]
        return self.clip.text(token_ids)

    def key_bias(self, token_mask: ms.Tensor, padding: ms.Tensor) -> ms.Tensor:
        """token_mask (B, L) and padding (B, S, S) -> additive bias (B, 1, 1, 2 + L + N) on attention logits."""
        if self.prompt is not None:
            token_mask = prompted(token_mask, token_mask, self.prompt)[1]
        batch = token_mask.shape[0]
        seen = ops.zeros((batch, 1), ms.float32)
        words = 1.0 - token_mask.astype(ms.float32)
        ignored = ops.concat((seen, words, seen, self.patch_mask(padding)), 1)
        return (ignored * _MASKED).expand_dims(1).expand_dims(1)

    def project_image(self, features: ms.Tensor) -> ms.Tensor:
        """Result of `encode_image` -> (B, 1 + N, D)."""
        return self.ml_visu_proj(features) if self.several_levels else self.visu_proj(features)

    def sequence(self, visual: ms.Tensor, words: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        """visual (B, 1 + N, D), words (B, L, D) -> the joint sequence and its positions, both (B, 2 + L + N, D).

        Positions of words that sentences of this length do not reach are left out: they would be masked anyway.
        """
        batch, length = words.shape[0], words.shape[1]
        first = ops.broadcast_to(self.reg_token.expand_dims(0), (batch, 1, self.width))
        x = ops.concat((first, words, visual), 1)
        table = self.vl_pos_embed
        if length < self.max_query_len:
            table = ops.concat((table[: 1 + length], table[1 + self.max_query_len :]), 0)
        return x, ops.broadcast_to(table.expand_dims(0), x.shape)

    def head(
        self, image_features: ms.Tensor, text_features: ms.Tensor, token_mask: ms.Tensor, padding: ms.Tensor
    ) -> tuple[ms.Tensor, ...]:
        """Kept features to outputs. The image may come once for several sentences."""
        visual, words = self.project_image(image_features), self.text_proj(text_features)
        batch, shared = words.shape[0], 0
        if visual.shape[0] != batch:
            shared = visual.shape[1]
            visual = ops.broadcast_to(visual, (batch, *visual.shape[1:]))
            padding = ops.broadcast_to(padding, (batch, *padding.shape[1:]))
        x, positions = self.sequence(visual, words)
        summary, where = self.vl_transformer(x, positions, self.key_bias(token_mask, padding), shared)
        box = ops.sigmoid(self.bbox_embed(summary))
        return (box, where[:, 2 + words.shape[1] :]) if self.watched else (box,)

    def construct(
        self, image: ms.Tensor, token_ids: ms.Tensor, token_mask: ms.Tensor, padding: ms.Tensor
    ) -> tuple[ms.Tensor, ...]:
        """image (B, 3, S, S), tokens and mask (B, L), padding (B, S, S) -> box (B, 4) cxcywh in [0, 1].

        Where attention has a loss, also the attention of [REG] on the patches (B, N).
        """
        return self.head(self.encode_image(image), self.encode_text(token_ids), token_mask, padding)

    # ---- targets, loss, decoding, optimisation -------------------------------------------------------------------

    def encode_targets(self, example: Example, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """`box`; see `targets`."""
        return encode_box(example)

    def loss(self, outputs: tuple[ms.Tensor, ...], *targets: ms.Tensor) -> tuple[ms.Tensor, ...]:
        """-> (total, bbox, giou[, attention]); terms are unweighted, the total is weighted."""
        bbox, giou = box_l1_loss(outputs[0], targets[0]), box_iou_loss(outputs[0], targets[0])
        total = bbox * self.box_weight + giou * self.giou_weight
        if not self.watched:
            return total, bbox, giou
        where = attention_loss(outputs[1], targets[0])
        return total + where * self.attention_weight, bbox, giou, where

    def decode(self, outputs: Mapping[str, np.ndarray], batch: Batch) -> list[Prediction]:
        """Raw outputs -> one `Prediction` per real sample, in original pixels."""
        return decode_box(outputs["box"], batch, self.box_code)

    def encoder_settings(self, encoder: str, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """See `GroundingModel.encoder_settings`: the towers, and what each encoder reads of them."""
        own = ("extract_layers", "variant") if encoder == "image" else ("variant", "prompt_ids")
        return {key: settings.get(key) for key in ("clip_model", "clip", *own)}

    def parameter_groups(self) -> list[ParameterGroup]:
        """CLIP's parameters, where they learn (`clip`), and the rest (`base`).

        Raises:
            ConfigError: `box_code` is one that only decodes.
        """
        if self.box_code != "cxcywh":
            raise ConfigError(
                f"model.box_code={self.box_code} decodes old checkpoints, and targets are never written in it; "
                "train with --model.box_code=cxcywh"
            )
        parts: dict[str, list[ms.Parameter]] = {"clip": [], "base": []}
        for name, parameter in self.parameters_and_names():
            if parameter.requires_grad:
                parts["clip" if name.startswith("clip.") else "base"].append(parameter)
        return [ParameterGroup(name, tuple(members)) for name, members in parts.items()]
