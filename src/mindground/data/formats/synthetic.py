"""The synthetic aerial world as a data set: with sentences (`synthetic`), or every object of an image without
(`synthetic_instances`). Nothing is downloaded; `make/synthetic.py` draws it.
"""

from __future__ import annotations

import getpass
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from mindground.data.dataset import Dataset
from mindground.data.formats.registry import DatasetFormat
from mindground.data.make.synthetic import (
    CATEGORIES,
    DRAWING,
    INSTANCE_PAINT,
    SPLITS,
    SceneObject,
    draw_scene,
    make_instances,
    make_scene,
    scene_sentences,
    sentence_generator,
)
from mindground.errors import ConfigError, ImageError
from mindground.files.atomic import write_bytes
from mindground.structures import Sample

__all__ = ["FORMATS", "read_synthetic", "read_synthetic_instances"]

MIN_SIZE = 64


def read_synthetic(
    root: str, split: str, *, train_images: int = 400, val_images: int = 80, image_size: int = 128, seed: int = 0
) -> Dataset:
    """Make one split with one sample a sentence; its images are written once and reused.

    Args:
        root: where the images are kept; empty = a folder of this user below the system's temporary one.
        split: `train`, `val` or `test` (`test` has as many images as `val`).
        train_images, val_images: how many.
        image_size: their side in pixels, at least 64.
        seed: another one gives another set.

    Raises:
        ConfigError: no such split, or images that are too small.
        WriteError: the images cannot be kept.
    """
    count, folder = _check(root, split, "synthetic", train_images, val_images, image_size, seed)
    samples: list[Sample] = []
    for index in range(count):
        objects = make_scene(seed, split, index, image_size)
        image = _image(folder, index, partial(draw_scene, objects, seed, split, index, image_size))
        for number, sentences in enumerate(scene_sentences(objects, sentence_generator(seed, split, index))):
            for turn, sentence in enumerate(sentences):
                name = f"{split}-{index:05d}-{number}-{turn}"
                samples.append(_sample(image, name, sentence, {number: objects[number]}, split, index, image_size))
    return Dataset(samples, CATEGORIES, "synthetic", split)


def read_synthetic_instances(
    root: str, split: str, *, train_images: int = 400, val_images: int = 80, image_size: int = 128, seed: int = 0
) -> Dataset:
    """Make one split with one sample an image: none to five objects, each with class, box and outline.

    Arguments and errors as for `read_synthetic`; the images are others than those of the set with sentences.
    """
    count, folder = _check(root, split, "synthetic_instances", train_images, val_images, image_size, seed)
    samples: list[Sample] = []
    for index in range(count):
        objects = make_instances(seed, split, index, image_size)
        image = _image(folder, index, partial(draw_scene, objects, seed, split, index, image_size, INSTANCE_PAINT))
        name = f"{split}-{index:05d}"
        samples.append(_sample(image, name, None, dict(enumerate(objects)), split, index, image_size))
    return Dataset(samples, CATEGORIES, "synthetic_instances", split, kind="instances")


def _check(
    root: str, split: str, name: str, train_images: int, val_images: int, image_size: int, seed: int
) -> tuple[int, Path]:
    """How many images the split has, and the folder that keeps them."""
    if split not in SPLITS:
        raise ConfigError(f"the set {name} has no split {split!r}; choose one of {', '.join(SPLITS)}")
    if image_size < MIN_SIZE:
        raise ConfigError(f"data.synthetic.image_size is {image_size}; objects need at least {MIN_SIZE} pixels")
    folder = _cache_folder(root) / f"{name}-{DRAWING}-seed{seed}-size{image_size}" / split
    return (train_images if split == "train" else val_images), folder


def _sample(
    image: str, name: str, sentence: str | None, objects: dict[int, SceneObject], split: str, index: int, size: int
) -> Sample:
    scene = f"{split}-{index:05d}"
    return Sample(
        image_path=image,
        sample_id=name,
        image_id=scene,
        expression=sentence,
        boxes_xyxy=np.asarray([item.box for item in objects.values()], np.float32),
        segmentations=tuple([[float(v) for v in item.outline.ravel()]] for item in objects.values()),
        labels=np.asarray([item.category for item in objects.values()], np.int64),
        size=(size, size),
        object_ids=tuple(f"{scene}-{number}" for number in objects),
        split=split,
    )


def _cache_folder(root: str) -> Path:
    if root:
        return Path(root)
    cache = os.environ.get("XDG_CACHE_HOME")
    if cache:
        return Path(cache) / "mindground"
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid()) if hasattr(os, "getuid") else "user"
    return Path(tempfile.gettempdir()) / f"mindground-{user}"


def _image(folder: Path, index: int, draw: Callable[[], np.ndarray]) -> str:
    """Path of an image, which is drawn where it is not there yet."""
    path = folder / f"{index:05d}.png"
    if not path.is_file():
        # Drawn in memory and moved into place whole: two ranks may make the same file at the same time.
        done, content = cv2.imencode(".png", cv2.cvtColor(draw(), cv2.COLOR_RGB2BGR))
        if not done:
            raise ImageError(f"OpenCV could not encode {path}; check the installation of opencv-python-headless")
        write_bytes(path, content.tobytes())
    return str(path)


FORMATS = (
    DatasetFormat("synthetic", read_synthetic, takes=(), section="synthetic"),
    DatasetFormat("synthetic_instances", read_synthetic_instances, kinds=("instances",), takes=(), section="synthetic"),
)
