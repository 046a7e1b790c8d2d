"""The sections of a configuration: what a key means is written here, once.

Plain dataclasses; `typing.Literal` names the choices of a key, and `key(..., affects=...)` says what a change of it
changes. Two sections belong to others: `model` to the family (`models/<family>/config.py`), `data.transform` to the
recipe that its `name` chooses (`data/transforms/<recipe>.py`). Importing this module does not import MindSpore.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from mindground.config import registry
from mindground.config.keys import key
from mindground.config.schedule import Segment
from mindground.errors import ConfigError

__all__ = [
    "DEFAULT_RECIPE",
    "Config",
    "DataConfig",
    "DeviceConfig",
    "EvalConfig",
    "ReferConfig",
    "SeqtrFilesConfig",
    "SyntheticConfig",
    "TrainConfig",
    "TransformConfig",
    "complete",
    "transform_config",
]

DEFAULT_RECIPE = "referent_window"


@dataclass
class SyntheticConfig:
    """The synthetic aerial set: it is drawn, not downloaded."""

    train_images: int = key(400, affects="numbers")
    val_images: int = key(80, affects="numbers")
    # Side of a drawn image in pixels.
    image_size: int = key(128, affects="numbers")
    seed: int = key(0, affects="numbers")


@dataclass
class ReferConfig:
    """The REFER family (refcoco, refcoco+, refcocog, refclef, rrsisd, and risbench in that form)."""

    # What a pixel is that several parts of one outline cover: union = of the object; upstream = background, as in the
    # code of LAVT and RMSIN.
    mask_overlap: Literal["union", "upstream"] = key("union", affects="numbers")
    # Which text of a sentence: sent (lower case, without punctuation) or raw (as it was written; LAVT and RMSIN).
    sentence: Literal["sent", "raw"] = key("sent", affects="numbers")


@dataclass
class SeqtrFilesConfig:
    """`instances.json` of SeqTR and MSAM (data.dataset=seqtr)."""

    # How boxes are written: xywh (SeqTR) or xyxy (MSAM). Empty = as the file says in box_format, else as the published
    # set of that name is written; a set of your own must say it.
    box: Literal["", "xywh", "xyxy"] = key("", affects="numbers")
    # Folder of the images of a source (coco, saiaprtc12, flickr, vg, rsvgd); others lie below data.image_root.
    image_roots: dict[str, str] = key({}, affects="place")


@dataclass
class TransformConfig:
    """Stands for the section of the recipe that is called `name`; the recipe's own keys stand beside it."""

    name: str = key(DEFAULT_RECIPE, affects="numbers", choices=registry.recipe_names)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


def transform_config(name: str = DEFAULT_RECIPE, **keys: Any) -> TransformConfig:
    """The `data.transform` section of a recipe; keys that are not given take their defaults."""
    section: TransformConfig = registry.transform_class(name)(**keys)
    return section


@dataclass
class DataConfig:
    """Which samples, and what they look like when they reach the network."""

    # docs/data.md describes the data sets.
    dataset: str = key("synthetic", affects="numbers", choices=registry.dataset_names)
    # Whose division into splits: unc, google, umd or berkeley; official, image_disjoint or msam_image (dior_rsvg);
    # refcoco-unc and the other folders of SeqTR (seqtr).
    # Empty = the usual one of the data set.
    splitBy: str = key("", affects="numbers")  # noqa: N815 - the name that users of the refer family type
    # Folder that holds the annotations (docs/data.md): <root>/<dataset>/ for the refer family and the lists of pairs,
    # Annotations/ and the index lists for dior_rsvg, the .jsonl or .json files otherwise.
    root: str = key("", affects="place")
    # Folder of the images; empty = the usual place below root.
    image_root: str = key("", affects="place")
    # Folder of <dataset>(<splitBy>)/<ref_id>.npy masks made by others; empty = masks are drawn from the annotations.
    mask_path: str = key("", affects="place")
    train_split: str = key("train", affects="numbers", training_only=True)
    # Splits to evaluate, the first one chooses the best checkpoint. Empty = the usual ones of the data set.
    eval_splits: list[str] = key([], affects="report")
    # Side of the square canvas in pixels.
    img_size: int = key(448, affects="numbers")
    # Tokens of a sentence, its start and end included; longer ones are cut.
    max_len: int = key(40, affects="numbers")
    # Path of a vocab.txt (wordpiece, words), of a token_to_ix.pkl (words) or of a BPE file (clip_bpe); empty = built
    # from sentences. A checkpoint holds the whole vocabulary.
    vocab: str = key("", affects="place")
    # Whose sentences such a vocabulary is built from: those of the training split, or of train_split and then of
    # eval_splits (as SeqTR, whose word vectors are fixed).
    vocab_from: Literal["train", "all"] = key("train", affects="numbers", training_only=True)
    tokenizer: Literal["wordpiece", "clip_bpe", "words"] = key("wordpiece", affects="numbers")
    # Of RGB in 0..1.
    mean: list[float] = key([0.485, 0.456, 0.406], affects="numbers")
    std: list[float] = key([0.229, 0.224, 0.225], affects="numbers")
    # Three band numbers from 1 that are red, green and blue, or one that is grey; empty = those that the file names.
    bands: list[int] = key([], affects="numbers")
    # How images are resized and augmented: a recipe by its name, and the recipe's own keys.
    transform: TransformConfig = field(default_factory=transform_config)
    # Training: 0 = every epoch augments anew; K = the augmentations of K epochs are used in turn, which lets
    # train.feature_cache keep what frozen encoders make of them.
    augment_variants: int = key(0, affects="numbers", training_only=True)
    # Threads that read and transform images, per rank; 0 = in the training thread.
    num_workers: int = key(2, affects="speed")
    # Training: megabytes of decoded images that every rank keeps, for sets with many sentences per image.
    image_cache_mb: int = key(0, affects="speed", training_only=True)
    # False trains and scores boxes only.
    use_mask: bool = key(True, affects="numbers")
    # Of several sentences about one object, training and its evaluations use: all; or one, drawn for every epoch.
    sentences: Literal["all", "one"] = key("all", affects="numbers", training_only=True)
    refer: ReferConfig = field(default_factory=ReferConfig)
    seqtr: SeqtrFilesConfig = field(default_factory=SeqtrFilesConfig)
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)


@dataclass
class TrainConfig:
    """Optimisation, logging and where a run is kept."""

    # Samples per rank and micro-step.
    batch_size: int = key(8, affects="numbers")
    # Samples per optimiser step over all ranks; 0 = batch_size x ranks.
    batch_sum: int = key(0, affects="numbers")
    max_epochs: int = key(20, affects="length")
    # Optimiser steps; 0 = counted in epochs.
    max_steps: int = key(0, affects="length")
    optimizer: Literal["adamw", "adam", "sgd", "rmsprop"] = key("adamw", affects="numbers")
    # The learning rate, and per group of parameters a factor on it; the family names its groups (docs/models/).
    lr: float = key(1e-4, affects="numbers")
    lr_factors: dict[str, float] = key({}, affects="numbers")
    # Above 0: the rates are those of steps of so many samples; with others they are multiplied by samples / this.
    lr_reference_batch: int = key(0, affects="numbers")
    # The rate over time: segments (config/schedule.py). Empty = what the keys from lr_scheduler to min_lr_ratio say.
    schedule: list[Segment] = key([], affects="numbers")
    # step: times drop_rate after each of drop_epochs; exponential: times lr_exponential after every epoch; halfdecay:
    # half after every tenth of the epochs.
    lr_scheduler: Literal["step", "cosine", "poly", "constant", "exponential", "halfdecay"] = key(
        "step", affects="numbers"
    )
    # Optimiser steps of linear warm-up, starting at warmup_ratio of the rate.
    warmup_steps: int = key(0, affects="numbers")
    warmup_ratio: float = key(0.01, affects="numbers")
    # Epochs after which the rate is multiplied by drop_rate (lr_scheduler: step).
    drop_epochs: list[int] = key([10], affects="numbers")
    drop_rate: float = key(0.1, affects="numbers")
    poly_power: float = key(0.9, affects="numbers")
    lr_exponential: float = key(0.9, affects="numbers")
    # True = cosine and poly stand still within an epoch, as torch's schedulers do when called once per epoch.
    lr_by_epoch: bool = key(False, affects="numbers")
    # Lowest rate of cosine and poly, as a share of the full rate.
    min_lr_ratio: float = key(0.0, affects="numbers")
    weight_decay: float = key(1e-4, affects="numbers")
    # Of adamw and adam; rmsprop takes beta2 as the decay of its mean square (torch's alpha, 0.99 there), and eps.
    beta1: float = key(0.9, affects="numbers")
    beta2: float = key(0.999, affects="numbers")
    eps: float = key(1e-6, affects="numbers")
    # False = moments are used as they are (MindSpore's AdamWeightDecay, the optimiser of upstream VG-LAW).
    bias_correction: bool = key(True, affects="numbers")
    # True = divide by the largest second moment so far.
    amsgrad: bool = key(False, affects="numbers")
    # Of sgd and rmsprop (0 there by torch's default); nesterov of sgd alone.
    momentum: float = key(0.9, affects="numbers")
    nesterov: bool = key(False, affects="numbers")
    # True = no weight decay for norms and biases.
    no_decay_norm: bool = key(False, affects="numbers")
    # Global gradient norm above which gradients are scaled down; 0 = off.
    clip_max_norm: float = key(0.15, affects="numbers")
    # mean: average over micro-steps and ranks, then clip. sum: sum micro-steps, clip per rank, then average (upstream).
    accumulation: Literal["mean", "sum"] = key("mean", affects="numbers")
    # Decay of the averaged weights that are evaluated and saved beside the others; 0 = off.
    ema_decay: float = key(0.0, affects="numbers")
    # local: every rank normalises its own samples. sync: all ranks together. frozen: by the stored statistics.
    batch_norm: Literal["local", "sync", "frozen"] = key("local", affects="numbers")
    seed: int = key(42, affects="numbers")
    # Optimiser steps between log lines.
    log_freq: int = key(10, affects="report")
    # Epochs between evaluations.
    eval_step: int = key(1, affects="report")
    # Optimiser steps between saves of last.ckpt; 0 = at the end of every epoch.
    save_steps: int = key(0, affects="report")
    # "" = start anew, "auto" = continue the run in the run folder if there is one, else a checkpoint's path.
    resume: str = key("", affects="start")
    output_dir: str = key("runs", affects="place")
    experiment_name: str = key("default", affects="place")
    # Appended to the name of the run folder.
    short_comment: str = key("", affects="place")
    # Files of weights to start from, by the part that they are for; the family names its parts (docs/models/).
    pretrained: dict[str, str] = key({}, affects="start")
    # True = such a file may fill only some of its part; the rest keeps its random weights, and the log names it.
    partial: bool = key(False, affects="start")
    # Parts that no file but their own fills, by the names that the family gives them (docs/models/): what a fine-tuning
    # on other data starts anew. seqtr: words (and with them the vocabulary), positions, tasks.
    fresh: list[str] = key([], affects="start")
    # True = encoders that a family wants pretrained may start from random weights; otherwise that is an error.
    random_encoders: bool = key(False, affects="start")
    # Keep the features of frozen encoders: "" = no, "memory", or a folder, which later runs use as well.
    feature_cache: str = key("", affects="speed")
    # Type of the kept features; float16 takes half the space and rounds them.
    feature_dtype: Literal["float32", "float16"] = key("float32", affects="numbers")

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

    batch_size: int = key(8, affects="report")
    # A box with at least this IoU counts as found.
    iou_threshold: float = key(0.5, affects="report")
    # Further thresholds of which prec@t is told; papers on DIOR-RSVG give 0.5, 0.6 ... 0.9.
    box_thresholds: list[float] = key([], affects="report")
    # Probability above which a pixel belongs to the mask.
    mask_threshold: float = key(0.35, affects="report")
    # How masks count. vglaw: mask_prec@t takes IoU > t; empty against empty is 1 at the network's size. lavt (RMSIN,
    # too): shares take IoU >= t, empty against empty is 0, and shares at the network's size are told. seqtr: as lavt,
    # and upstream's means of batches beside them, with several polygons counted as a crowd.
    mask_protocol: Literal["vglaw", "lavt", "seqtr"] = key("vglaw", affects="report")
    # Of several sentences about one object, a checkpoint is scored on all, or on one that train.seed draws.
    # Evaluations during a training go by data.sentences.
    sentences: Literal["all", "one"] = key("all", affects="report")
    # Give every sample the sentence of another object of its image: a model that reads fails on it.
    shuffle_expressions: bool = key(False, affects="report")
    # Metrics: the first one chooses best.ckpt, every other one a best_<metric>.ckpt. Empty = the usual one of the task.
    select_by: list[str] = key([], affects="report", training_only=True)
    # Whose metrics these are: those of the first evaluation split, or their means over all evaluation splits.
    select_over: Literal["first", "mean"] = key("first", affects="report", training_only=True)
    # Score on data whose numbering is not the one of the training; its test samples may have been trained on.
    allow_other_data: bool = key(False, affects="report")


@dataclass
class DeviceConfig:
    """Where and how the network computes."""

    device_target: Literal["auto", "Ascend", "GPU", "CPU"] = key("auto", affects="place")
    # GRAPH compiles the whole step; PYNATIVE runs operator by operator (for debugging).
    mode_name: Literal["GRAPH", "PYNATIVE"] = key("GRAPH", affects="speed")
    precision: Literal["float32", "float16", "bfloat16"] = key("float32", affects="numbers")
    # CPU threads of MindSpore's kernels per rank; 0 = MindSpore decides, several ranks on one machine share its CPUs.
    threads: int = key(0, affects="speed")
    # False refuses to run as one of several ranks.
    run_distribute: bool = key(True, affects="place")


@dataclass
class Config:
    """A resolved configuration. `model` is the dataclass of the family."""

    family: str
    model: Any
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    device: DeviceConfig = field(default_factory=DeviceConfig)


def complete(data: DataConfig) -> None:
    """Fills empty `splitBy` and `eval_splits` with what is usual for the data set, in place."""
    known = registry.usual_splits(data.dataset)
    data.splitBy = data.splitBy or next(iter(known))
    data.eval_splits = data.eval_splits or list(known.get(data.splitBy, ["val"]))
