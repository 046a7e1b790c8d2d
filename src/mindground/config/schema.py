"""The sections of a configuration: what a key means is written here, once.

Plain dataclasses; `typing.Literal` names the choices of a key. The `model` section belongs to the
family (`models/<family>/config.py`). Importing this module does not import MindSpore.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from mindground.errors import ConfigError

__all__ = [
    "Config",
    "DataConfig",
    "DeviceConfig",
    "EvalConfig",
    "SyntheticConfig",
    "TrainConfig",
    "complete",
    "validate",
]


@dataclass
class SyntheticConfig:
    """The synthetic aerial set: it is drawn, not downloaded."""

    train_images: int = 400
    val_images: int = 80
    # Side of a drawn image in pixels.
    image_size: int = 128
    seed: int = 0


@dataclass
class DataConfig:
    """Which samples, and what they look like when they reach the network."""

    dataset: Literal[
        "refcoco",
        "refcoco+",
        "refcocog",
        "refclef",
        "dior_rsvg",
        "unc",
        "unc+",
        "gref",
        "gref_umd",
        "referit",
        "flickr",
        "jsonl",
        "coco",
        "synthetic",
    ] = "synthetic"
    # Whose division into splits: unc, google, umd or berkeley; official or image_disjoint (dior_rsvg).
    # Empty = the usual one of the data set.
    splitBy: str = ""  # noqa: N815 - the name that users of the refer family type
    # Folder that holds the annotations (docs/data.md): <root>/<dataset>/ for the refer family and the lists of pairs,
    # Annotations/ and the index lists for dior_rsvg, the .jsonl or .json files otherwise.
    root: str = ""
    # Folder of the images; empty = the usual place below root.
    image_root: str = ""
    # Folder of <dataset>(<splitBy>)/<ref_id>.npy masks made by others; empty = masks are drawn from the annotations.
    mask_path: str = ""
    train_split: str = "train"
    # Splits to evaluate, the first one chooses the best checkpoint. Empty = the usual ones of the data set.
    eval_splits: list[str] = field(default_factory=list)
    # Side of the square canvas in pixels.
    img_size: int = 448
    # Tokens of a sentence, its start and end included; longer ones are cut.
    max_len: int = 40
    # Path of a vocab.txt (wordpiece) or BPE file (clip_bpe); empty = built from the training sentences.
    vocab: str = ""
    tokenizer: Literal["wordpiece", "clip_bpe"] = "wordpiece"
    # Of RGB in 0..1.
    mean: list[float] = field(default_factory=lambda: [0.485, 0.456, 0.406])
    std: list[float] = field(default_factory=lambda: [0.229, 0.224, 0.225])
    # How pictures are resized and augmented: referent_window (VG-LAW; OpenCV's resize, a window around the referent),
    # transvg (CLIP-VG; Pillow's resize, which smooths what it shrinks, and random windows) or stretch (both sides fill
    # the canvas, nothing is padding).
    recipe: Literal["referent_window", "stretch", "transvg"] = "referent_window"
    # Training (referent_window): resize to one of nine sizes around img_size, then crop around the referent.
    multi_scale: bool = False
    # Training (transvg): for every second picture whose sentence names no place, a random window of it.
    aug_crop: bool = False
    # Training (transvg): the longer side becomes 1.0, 0.95 ... or 0.7 of img_size.
    aug_scale: bool = False
    # Training (transvg): for every second picture, a Gaussian blur of 0.1 to 2 pixels.
    aug_blur: bool = False
    # Training (transvg): the released code's place words, window test and scales, slips included (docs/data.md).
    legacy_augmentation: bool = False
    # Training: put the picture at a random place of the canvas instead of its centre.
    translate: bool = False
    flip_prob: float = 0.5
    # Training: mirror top to bottom, for pictures from above, where every side may be up.
    vertical_flip_prob: float = 0.0
    # Training: brightness, contrast and saturation, in random order, each times a factor between 0.6 and 1.4.
    color_jitter_prob: float = 0.0
    # Training: 0 = every epoch augments anew; K = the augmentations of K epochs are used in turn, which lets
    # train.feature_cache keep what frozen encoders make of them.
    augment_variants: int = 0
    # Threads that read and transform images, per rank; 0 = in the training thread.
    num_workers: int = 2
    # Training: megabytes of decoded pictures that every rank keeps, for sets with many sentences per picture.
    image_cache_mb: int = 0
    # False trains and scores boxes only.
    use_mask: bool = True
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)


@dataclass
class TrainConfig:
    """Optimisation, logging and where a run is kept. The defaults are VG-LAW's published recipe."""

    # Rows per rank and micro-step.
    batch_size: int = 8
    # Rows per optimiser step over all ranks; 0 = batch_size x ranks.
    batch_sum: int = 0
    max_epochs: int = 20
    # Optimiser steps; 0 = counted in epochs.
    max_steps: int = 0
    lr_base: float = 1e-4
    lr_visual: float = 1e-5
    lr_lang: float = 1e-5
    # Above 0: the rates are those of steps of so many rows; with others they are multiplied by rows / this number.
    lr_reference_batch: int = 0
    # step: times drop_rate after each of drop_epochs; exponential: times lr_exponential after every epoch; halfdecay:
    # half after every tenth of the epochs.
    lr_scheduler: Literal["step", "cosine", "poly", "constant", "exponential", "halfdecay"] = "step"
    # Optimiser steps of linear warm-up, starting at warmup_ratio of the rate.
    warmup_steps: int = 0
    warmup_ratio: float = 0.01
    # Epochs after which the rate is multiplied by drop_rate (lr_scheduler: step).
    drop_epochs: list[int] = field(default_factory=lambda: [10])
    drop_rate: float = 0.1
    poly_power: float = 0.9
    lr_exponential: float = 0.9
    # True = cosine and poly stand still within an epoch, as torch's schedulers do when called once per epoch.
    lr_by_epoch: bool = False
    # Lowest rate of cosine and poly, as a share of the full rate.
    min_lr_ratio: float = 0.0
    weight_decay: float = 1e-4
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-6
    # False = moments are used as they are (MindSpore's AdamWeightDecay, the upstream optimiser).
    bias_correction: bool = True
    # True = no weight decay for norms and biases.
    no_decay_norm: bool = False
    # Global gradient norm above which gradients are scaled down; 0 = off.
    clip_max_norm: float = 0.15
    # mean: average over micro-steps and ranks, then clip. sum: sum micro-steps, clip per rank, then average (upstream).
    accumulation: Literal["mean", "sum"] = "mean"
    # Decay of the averaged weights that are evaluated and saved beside the others; 0 = off.
    ema_decay: float = 0.0
    seed: int = 42
    # Optimiser steps between log lines.
    log_freq: int = 10
    # Epochs between evaluations.
    eval_step: int = 1
    # Optimiser steps between saves of last.ckpt; 0 = at the end of every epoch.
    save_steps: int = 0
    # "" = start anew, "auto" = continue the run in the run folder if there is one, else a checkpoint's path.
    resume: str = ""
    output_dir: str = "runs"
    experiment_name: str = "default"
    # Appended to the name of the run folder.
    short_comment: str = ""
    # Weights of the image encoder, or of the whole network.
    pretrained_path: str = ""
    # Weights of the text encoder.
    text_pretrained_path: str = ""
    # True = encoders that a family wants pretrained may start from random weights; otherwise that is an error.
    random_encoders: bool = False
    # Keep the features of frozen encoders: "" = no, "memory", or a folder, which later runs use as well.
    feature_cache: str = ""

    def micro_steps(self, ranks: int) -> int:
        """Micro-steps per optimiser step on `ranks` ranks. Raises ConfigError when batch_sum does not divide."""
        joint = self.batch_size * ranks
        if self.batch_sum % joint:
            raise ConfigError(
                f"train.batch_sum={self.batch_sum} is not a multiple of train.batch_size={self.batch_size} x "
                f"{ranks} ranks; use {max(1, round(self.batch_sum / joint)) * joint}"
            )
        return max(1, self.batch_sum // joint)


@dataclass
class EvalConfig:
    """How a checkpoint is scored."""

    batch_size: int = 8
    # A box with at least this IoU counts as found.
    iou_threshold: float = 0.5
    # Further thresholds of which prec@t is told; papers on DIOR-RSVG give 0.5, 0.6 ... 0.9.
    box_thresholds: list[float] = field(default_factory=list)
    # Probability above which a pixel belongs to the mask.
    mask_threshold: float = 0.35
    # Give every sample the sentence of another object of its image: a model that reads fails on it.
    shuffle_expressions: bool = False
    # Metric of the first evaluation split that chooses best.ckpt.
    select_by: str = "prec@0.5"
    # Score on data whose numbering is not the one of the training; its test samples may have been trained on.
    allow_other_data: bool = False


@dataclass
class DeviceConfig:
    """Where and how the network computes."""

    device_target: Literal["auto", "Ascend", "GPU", "CPU"] = "auto"
    # GRAPH compiles the whole step; PYNATIVE runs operator by operator (for debugging).
    mode_name: Literal["GRAPH", "PYNATIVE"] = "GRAPH"
    precision: Literal["float32", "float16", "bfloat16"] = "float32"
    # CPU threads of MindSpore's kernels per rank; 0 = MindSpore decides, several ranks on one machine share its CPUs.
    threads: int = 0
    # False refuses to run as one of several ranks.
    run_distribute: bool = True


@dataclass
class Config:
    """A resolved configuration. `model` is the dataclass of the family."""

    family: str
    model: Any
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    device: DeviceConfig = field(default_factory=DeviceConfig)


# Data set -> {whose split: evaluation splits}; the first is the usual one.
USUAL_SPLITS: dict[str, dict[str, list[str]]] = {
    "refcoco": {"unc": ["val", "testA", "testB"], "google": ["val", "test"]},
    "refcoco+": {"unc": ["val", "testA", "testB"]},
    "refcocog": {"umd": ["val", "test"], "google": ["val"]},
    "refclef": {"berkeley": ["val", "test"], "unc": ["val", "testA", "testB", "testC"]},
    "dior_rsvg": {"official": ["val", "test"], "image_disjoint": ["val", "test"]},
    "unc": {"": ["val", "testA", "testB"]},
    "unc+": {"": ["val", "testA", "testB"]},
    "gref": {"": ["val"]},
    "gref_umd": {"": ["val", "test"]},
    "referit": {"": ["val", "test"]},
    "flickr": {"": ["val", "test"]},
}


def complete(data: DataConfig) -> None:
    """Fills empty `splitBy` and `eval_splits` with what is usual for the data set, in place.

    A division into splits that is not among the usual ones is somebody's own, evaluated on `val`.
    """
    known = USUAL_SPLITS.get(data.dataset, {"": ["val"]})
    data.splitBy = data.splitBy or next(iter(known))
    data.eval_splits = data.eval_splits or list(known.get(data.splitBy, ["val"]))


def _require(section: Any, name: str, keys: Sequence[str], low: float, high: float = math.inf) -> None:
    for key in keys:
        value = getattr(section, key)
        if not low <= value <= high:
            span = f"between {low} and {high}" if high < math.inf else f"at least {low}"
            raise ConfigError(f"{name}.{key}={value} must be {span}")


# Keys of one recipe: with another they would do nothing.
_RECIPE_KEYS = {
    "referent_window": ("multi_scale",),
    "transvg": ("aug_crop", "aug_scale", "aug_blur", "legacy_augmentation"),
}


def _check_recipe(data: DataConfig) -> None:
    for recipe, keys in _RECIPE_KEYS.items():
        idle = [key for key in keys if recipe != data.recipe and getattr(data, key)]
        if idle:
            raise ConfigError(
                f"data.{idle[0]}={getattr(data, idle[0])} belongs to data.recipe={recipe}, and data.recipe is "
                f"{data.recipe}; set one or the other"
            )
    if data.recipe == "stretch" and data.translate:
        raise ConfigError(
            "data.translate has no room in data.recipe=stretch: the picture fills the canvas; leave it out"
        )
    # The released scales reach down to img_size - 192.
    if data.legacy_augmentation and data.aug_scale:
        _require(data, "data", ["img_size"], 193)


def validate(config: Config) -> None:
    """Raises ConfigError for values that no run can use."""
    data, train = config.data, config.train
    _require(data, "data", ["img_size", "max_len"], 1)
    _require(data, "data", ["num_workers", "augment_variants", "image_cache_mb"], 0)
    _require(data, "data", ["flip_prob", "vertical_flip_prob", "color_jitter_prob"], 0, 1)
    _check_recipe(data)
    _require(data.synthetic, "data.synthetic", ["train_images", "val_images"], 1)
    _require(data.synthetic, "data.synthetic", ["image_size"], 64)
    for key in ("mean", "std"):
        values = getattr(data, key)
        if len(values) != 3 or (key == "std" and min(values) <= 0):
            raise ConfigError(f"data.{key}={values} needs three numbers (R, G, B), of std all above 0")
    _require(train, "train", ["batch_size", "max_epochs", "log_freq", "eval_step"], 1)
    _require(train, "train", ["batch_sum", "max_steps", "warmup_steps", "save_steps", "seed"], 0)
    _require(train, "train", ["lr_reference_batch"], 0)
    _require(train, "train", ["lr_base", "lr_visual", "lr_lang", "weight_decay", "clip_max_norm", "poly_power"], 0)
    _require(train, "train", ["warmup_ratio", "drop_rate", "min_lr_ratio", "ema_decay", "lr_exponential"], 0, 1)
    _require(train, "train", ["beta1", "beta2"], 0, 0.999999)
    if train.eps <= 0:
        raise ConfigError(f"train.eps={train.eps} must be above 0")
    if train.drop_epochs != sorted(set(train.drop_epochs)) or min(train.drop_epochs, default=0) < 0:
        raise ConfigError(f"train.drop_epochs={train.drop_epochs} must rise, without repeats")
    _require(config.eval, "eval", ["batch_size"], 1)
    _require(config.eval, "eval", ["iou_threshold", "mask_threshold"], 0, 1)
    if not all(0 <= threshold <= 1 for threshold in config.eval.box_thresholds):
        raise ConfigError(f"eval.box_thresholds={config.eval.box_thresholds} must lie between 0 and 1")
    _require(config.device, "device", ["threads"], 0)
