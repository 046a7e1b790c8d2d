"""The synthetic aerial set: reproducible, honest boxes and masks, sentences that need their words."""

from __future__ import annotations

import multiprocessing
import os
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from mindground.config import DataConfig, SyntheticConfig
from mindground.data import build_dataset
from mindground.data.make.synthetic import CATEGORIES, build_synthetic
from mindground.errors import ConfigError
from mindground.files.images import read_image
from mindground.structures import Sample, box_iou, mask_box

SMALL = SyntheticConfig(train_images=12, val_images=6)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("synthetic"))


@pytest.fixture(scope="module")
def samples(root: str) -> list[Sample]:
    return build_dataset(DataConfig(dataset="synthetic", root=root, synthetic=SMALL), "train").samples


def _same(first: Sample, second: Sample) -> bool:
    return (
        first.sample_id == second.sample_id
        and first.expression == second.expression
        and np.array_equal(first.boxes_xyxy, second.boxes_xyxy)
        and first.segmentations == second.segmentations
    )


def test_same_seed_gives_the_same_set_and_another_seed_does_not(samples: list[Sample], tmp_path: Path) -> None:
    again = build_synthetic(SMALL, "train", str(tmp_path))
    assert len(again) == len(samples) and all(_same(a, b) for a, b in zip(samples, again, strict=True))
    for a, b in zip(samples, again, strict=True):
        assert a.image_path != b.image_path
        assert np.array_equal(read_image(a.image_path), read_image(b.image_path))
    other = build_synthetic(SyntheticConfig(train_images=12, val_images=6, seed=1), "train", str(tmp_path))
    assert [s.expression for s in other] != [s.expression for s in samples]


def test_a_larger_set_begins_with_the_smaller_one(samples: list[Sample], root: str) -> None:
    larger = build_synthetic(SyntheticConfig(train_images=14, val_images=6), "train", root)
    assert len(larger) > len(samples) and all(_same(a, b) for a, b in zip(samples, larger, strict=False))


def test_splits_share_no_scene(samples: list[Sample], root: str) -> None:
    val = build_synthetic(SMALL, "val", root)
    boxes = {sample.boxes_xyxy.tobytes() for sample in samples}
    assert not boxes & {sample.boxes_xyxy.tobytes() for sample in val}


def test_boxes_fit_masks_and_lie_inside(samples: list[Sample]) -> None:
    for sample in samples:
        assert read_image(sample.image_path).shape == (128, 128, 3)
        box = sample.boxes_xyxy[0]
        assert box.min() >= 0 and box.max() <= 128 and min(box[2] - box[0], box[3] - box[1]) >= 12
        mask = sample.masks((128, 128))[0]
        assert box_iou(box, mask_box(mask)) > 0.85


def test_the_mask_covers_what_was_drawn(samples: list[Sample]) -> None:
    # A yellow object is yellow inside its mask; a mask shifted by its own size would show the ground.
    yellow = [sample for sample in samples if sample.expression.startswith("the yellow ")]
    assert yellow
    for sample in yellow:
        pixels = read_image(sample.image_path)[sample.masks((128, 128))[0] > 0].astype(int)
        assert np.median(pixels[:, 0] - pixels[:, 2]) > 90


def test_sentences_are_unique_in_their_image_and_shared_words_are_common(samples: list[Sample]) -> None:
    by_image: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    kinds: dict[str, dict[str, int]] = defaultdict(dict)
    for sample in samples:
        by_image[sample.image_id][sample.expression].update(sample.object_ids)
        kinds[sample.image_id][sample.object_ids[0]] = int(sample.labels[0])
    assert all(len(objects) == 1 for sentences in by_image.values() for objects in sentences.values())
    assert all(len(objects) >= 2 for objects in kinds.values())
    shared = sum(len(set(objects.values())) < len(objects) for objects in kinds.values())
    assert shared >= len(kinds) // 4


def test_words_agree_with_the_scene(root: str) -> None:
    """Re-derives every claim of a sentence from the other objects of the image."""
    config = SyntheticConfig(train_images=150, val_images=1)
    from mindground.data.make.synthetic import make_scene, scene_sentences

    seen = set()
    for index in range(config.train_images):
        objects = make_scene(3, "train", index, 128)
        for target, sentences in enumerate(scene_sentences(objects, np.random.default_rng(index))):
            for sentence in sentences:
                words = sentence.split()
                pool = [i for i, item in enumerate(objects) if item.name in words or "one" in words]
                colours = {"red", "blue", "yellow", "white"} & set(words)
                pool = [i for i in pool if not colours or objects[i].colour in colours]
                across, down = ([item.box[k] + item.box[k + 2] for item in objects] for k in (0, 1))
                value = {
                    "left": across,
                    "right": [-x for x in across],
                    "top": down,
                    "bottom": [-y for y in down],
                }
                rule = [word for word in words if word in (*value, "larger", "smaller")]
                seen.update(rule)
                if "larger" in rule or "smaller" in rule:
                    areas = [objects[i].area for i in pool]
                    own = objects[target].area
                    assert own == (max(areas) if "larger" in rule else min(areas)), sentence
                elif rule:
                    assert min(pool, key=value[rule[0]].__getitem__) == target and len(pool) > 1, sentence
                else:
                    assert pool == [target], sentence
    assert seen == {"left", "right", "top", "bottom", "larger", "smaller"}


def test_unknown_split_and_tiny_images_are_refused(root: str) -> None:
    with pytest.raises(ConfigError, match="testA"):
        build_synthetic(SMALL, "testA", root)
    with pytest.raises(ConfigError, match="32"):
        build_synthetic(SyntheticConfig(train_images=1, val_images=1, image_size=32), "train", root)


def _build(root: str) -> int:
    return len(build_synthetic(SyntheticConfig(train_images=20, val_images=2), "train", root))


def test_two_processes_may_make_the_set_at_once(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        counts = pool.map(_build, [str(tmp_path), str(tmp_path)])
    assert counts[0] == counts[1]
    files = sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    assert files == [f"{index:05d}.png" for index in range(20)]
    for path in tmp_path.rglob("*.png"):
        assert read_image(path).shape == (128, 128, 3)


def test_pictures_are_kept(root: str, samples: list[Sample]) -> None:
    path = samples[0].image_path
    os.utime(path, (1, 1))
    build_synthetic(SMALL, "train", root)
    assert os.stat(path).st_mtime == 1
    assert set(CATEGORIES.values()) == {"ship", "plane", "tank", "house"}
