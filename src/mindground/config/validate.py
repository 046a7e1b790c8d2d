"""Values that no run can use, named before anything is built."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from mindground.config.keys import check_ranges
from mindground.config.schedule import check_schedule, check_two_forms, short_keys_of
from mindground.config.schema import Config, DataConfig, EvalConfig, TrainConfig
from mindground.errors import ConfigError, shown

__all__ = ["validate"]


def validate(config: Config) -> None:
    """Raises ConfigError that names the key, its value and what it may be."""
    _validate_data(config.data)
    _validate_train(config.train)
    _validate_eval(config.eval)
    _require(config.device, "device", ["threads"], 0, 4096)
    check_ranges(config.model, "model.")


def _require(section: Any, name: str, keys: Sequence[str], low: float, high: float = math.inf) -> None:
    for key in keys:
        _require_value(getattr(section, key), f"{name}.{key}", low, high)


def _require_value(value: float, key: str, low: float, high: float = math.inf) -> None:
    if isinstance(value, int):
        high = min(high, 1 << 62)  # whole numbers that no array and no generator of random numbers takes
    if not low <= value <= high:
        span = f"between {low} and {high}" if high <= 1 else f"at least {low}" if value < low else f"at most {high}"
        raise ConfigError(f"{key}={shown(value)} must be {span}")


def _validate_data(data: DataConfig) -> None:
    # Upper ends, because a checkpoint brings its own configuration, and all of these cost memory or time.
    _require(data, "data", ["img_size"], 1, 8192)
    _require(data, "data", ["max_len"], 1, 1 << 16)
    _require(data, "data", ["num_workers"], 0, 1024)
    _require(data, "data", ["augment_variants", "image_cache_mb"], 0)
    # What a recipe can ask of its keys beyond their ranges, it says in a method of its dataclass.
    chances = [field.name for field in dataclasses.fields(data.transform) if field.name.endswith("_prob")]
    _require(data.transform, "data.transform", chances, 0, 1)
    check = getattr(data.transform, "check", None)
    if check is not None:
        check(data.img_size)
    _require(data.synthetic, "data.synthetic", ["train_images", "val_images"], 1, 1_000_000)
    _require(data.synthetic, "data.synthetic", ["image_size"], 64, 8192)
    _require(data.synthetic, "data.synthetic", ["seed"], 0)
    if len(data.bands) not in (0, 1, 3) or min(data.bands, default=1) < 1:
        raise ConfigError(f"data.bands={data.bands} must be three band numbers from 1 (red, green, blue), one, or none")
    for key in ("mean", "std"):
        values = getattr(data, key)
        if len(values) != 3 or (key == "std" and min(values) <= 0):
            raise ConfigError(f"data.{key}={shown(values)} needs three numbers (R, G, B), of std all above 0")


def _validate_train(train: TrainConfig) -> None:
    _require(train, "train", ["batch_size", "max_epochs", "log_freq", "eval_step"], 1)
    _require(train, "train", ["batch_sum", "max_steps", "warmup_steps", "save_steps", "seed"], 0)
    _require(train, "train", ["lr_reference_batch", "lr", "weight_decay", "clip_max_norm", "poly_power"], 0)
    _require(train, "train", ["warmup_ratio", "drop_rate", "min_lr_ratio", "ema_decay", "lr_exponential"], 0, 1)
    _require(train, "train", ["beta1", "beta2", "momentum"], 0, 0.999999)
    for group, factor in train.lr_factors.items():
        _require_value(factor, f"train.lr_factors.{group}", 0)
    if train.eps <= 0:
        raise ConfigError(f"train.eps={train.eps} must be above 0")
    if train.drop_epochs != sorted(set(train.drop_epochs)) or min(train.drop_epochs, default=0) < 0:
        raise ConfigError(f"train.drop_epochs={shown(train.drop_epochs)} must rise, without repeats")
    check_schedule(train.schedule)
    check_two_forms(train.schedule, short_keys_of(dataclasses.asdict(train), TrainConfig()))
    _validate_optimizer(train)


def _validate_optimizer(train: TrainConfig) -> None:
    """Switches of one optimiser do nothing with another, which is refused."""
    if train.amsgrad and train.optimizer not in ("adam", "adamw"):
        raise ConfigError(
            f"train.amsgrad=True does nothing with train.optimizer={train.optimizer}; choose adam or adamw"
        )
    if train.nesterov and train.optimizer != "sgd":
        raise ConfigError(f"train.nesterov=True does nothing with train.optimizer={train.optimizer}; choose sgd")
    if train.nesterov and not train.momentum:
        raise ConfigError("train.nesterov=True needs train.momentum above 0")


def _validate_eval(limits: EvalConfig) -> None:
    _require(limits, "eval", ["batch_size"], 1, 1 << 20)
    _require(limits, "eval", ["iou_threshold", "mask_threshold"], 0, 1)
    if not all(0 <= threshold <= 1 for threshold in limits.box_thresholds):
        raise ConfigError(f"eval.box_thresholds={shown(limits.box_thresholds)} must lie between 0 and 1")
