"""The verbs predict and show: what they write, what they refuse, and the whole way with a small network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from commands import call
from mindground.cli import predict, show
from mindground.cli.checkpoints import newest_checkpoint
from mindground.cli.show import parse_indexes
from mindground.data import Dataset
from mindground.errors import CheckpointError, ConfigError, DataError, ImageError
from mindground.inference.image_files import find_images, predict_files, summary
from mindground.models.interface import ModelInterface
from mindground.structures import Prediction, Sample, encode_mask
from mindground.tasks import task_of
from mindground.visualize.samples import choose_indexes, show_samples

ROOT = Path(__file__).resolve().parents[1]


def ask(image: np.ndarray, texts: Sequence[str] | None, min_score: float = 0.0) -> list[Prediction]:
    """Finds the upper left quarter, surer for longer sentences."""
    if texts is None:
        raise DataError("this network finds what a sentence names; give a sentence")
    height, width = image.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    mask[: height // 2, : width // 2] = 1
    box = [0, 0, width / 2, height / 2]
    return [
        Prediction((height, width), [box], [min(1, len(t) / 20)], masks=(encode_mask(mask),), expression=t).at_least(
            min_score
        )
        for t in texts
    ]


def save(path: Path, size: tuple[int, int] = (40, 60)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size[::-1], (90, 120, 60)).save(path)
    return path


def dataset(folder: Path, count: int = 5) -> Dataset:
    boxes = np.asarray([[0, 0, 30, 20]])
    samples = [Sample(str(save(folder / f"{i}.png")), str(i), str(i), f"object {i}", boxes) for i in range(count)]
    return Dataset(samples, name="test", split="val")


def test_find_images(tmp_path: Path) -> None:
    first, second = save(tmp_path / "b" / "2.png"), save(tmp_path / "b" / "1.JPG")
    (tmp_path / "b" / "notes.txt").write_text("x")
    assert find_images([tmp_path / "b"]) == [second, first]
    assert find_images([first, tmp_path / "b"]) == [first, second]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match="empty"):
        find_images([tmp_path / "empty"])
    with pytest.raises(ImageError, match=r"none\.png"):
        find_images([tmp_path / "none.png"])


def test_results_are_written(tmp_path: Path) -> None:
    images = [save(tmp_path / "in" / "a b.png"), save(tmp_path / "other" / "a b.jpg", (30, 30))]
    results = predict_files(ask, images, ["the left ship", "船"], tmp_path / "out", min_score=0.5, model="m.ckpt")
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert names == ["a b-2.png", "a b.png", "predictions.json"]
    document = json.loads((tmp_path / "out" / "predictions.json").read_text("utf-8"))
    assert [image["width"] for image in document["images"]] == [60, 30]
    assert [query["found"] for query in document["queries"]] == [1, 0, 1, 0]
    first = document["annotations"][0]
    assert first["bbox"] == [0, 0, 30, 20] and first["text"] == "the left ship" and first["image_id"] == 1
    assert first["segmentation"]["size"] == [40, 60]
    lines = summary(results)
    assert "1 found, score 0.65" in lines[0] and lines[1].endswith("'船': nothing found")
    without = predict_files(ask, images[:1], ["the ship left of the pier"], tmp_path / "out", overwrite=True)
    assert summary(without)[0].endswith("1 found")  # a score of 1 is none


def test_a_bad_image_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    good, bad = save(tmp_path / "a.png"), tmp_path / "b.png"
    bad.write_text("not an image")
    results = predict_files(ask, [bad, good], ["ship"], tmp_path / "out")
    assert list(results.failures) == [str(bad)] and len(results.document["images"]) == 1
    assert str(bad) in json.loads((tmp_path / "out" / "predictions.json").read_text())["failures"]


def test_no_sentence(tmp_path: Path) -> None:
    for texts in ([], [" "]):
        with pytest.raises(DataError, match="sentence"):
            predict_files(ask, [save(tmp_path / "a.png")], texts, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_raster_gives_geojson(tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    transform = pytest.importorskip("rasterio.transform").from_origin(500000, 5000000, 2, 2)
    with rasterio.open(
        tmp_path / "s.tif",
        "w",
        driver="GTiff",
        height=40,
        width=60,
        count=3,
        dtype="uint8",
        crs="EPSG:32633",
        transform=transform,
    ) as file:
        file.write(np.full((3, 40, 60), 90, np.uint8))
    results = predict_files(ask, [tmp_path / "s.tif"], ["the ship"], tmp_path / "out")
    assert [p.name for p in results.files] == ["s.png", "s.geojson", "predictions.json"]
    (feature,) = json.loads((tmp_path / "out" / "s.geojson").read_text())["features"]
    assert feature["properties"]["text"] == "the ship"


def test_parse_indexes() -> None:
    assert parse_indexes("0,7, 42") == [0, 7, 42] and parse_indexes("3-5,1") == [3, 4, 5, 1]
    for text in ("", "a", "1,,2", "-1", "1-", "2-x"):
        with pytest.raises(DataError, match="--indexes"):
            parse_indexes(text)


def test_choose_indexes() -> None:
    assert choose_indexes(100, 3) == [0, 49, 99] and choose_indexes(2, 12) == [0, 1] and choose_indexes(1, 1) == [0]
    for wanted in (0, -3):
        with pytest.raises(DataError, match="ask for 1 or more"):
            choose_indexes(10, wanted)


def test_newest_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="--ckpt"):
        newest_checkpoint(tmp_path)
    for number, name in enumerate(("a/last.ckpt", "b/best.ckpt", "c/best.ckpt", "b/best.ckpt")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
        os.utime(tmp_path / name, (number, number))
    assert newest_checkpoint(tmp_path) == tmp_path / "b" / "best.ckpt"


def test_show_samples(tmp_path: Path) -> None:
    def one(image: np.ndarray, text: str) -> Prediction:
        return ask(image, [text])[0]

    words = task_of(ModelInterface("expression", ("box",))).caption
    data = dataset(tmp_path / "images")
    sheet = show_samples(one, data, [0, 1, 2, 3], tmp_path / "out", describe=words, sheet=True, title="test")
    assert sheet == tmp_path / "out" / "contact_sheet.png" and Image.open(sheet).size[0] > 800
    pairs = show_samples(one, data, [4, 0], tmp_path / "out", describe=words)
    assert pairs.name == "samples_4_0.png"
    assert show_samples(one, data, [1], tmp_path / "x" / "mine.png", describe=words) == tmp_path / "x" / "mine.png"
    with pytest.raises(DataError, match="0 to 4"):
        show_samples(one, data, [0, 9], tmp_path, describe=words)


def start(file: str, *words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """One of the files in src/ as a process of its own."""
    environment = {**os.environ, "PYTHONPATH": ""}
    command = [sys.executable, str(ROOT / "src" / file), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=300, check=False)


def test_user_errors_are_one_sentence_and_exit_2(tmp_path: Path) -> None:
    image = save(tmp_path / "a.png")
    done = call(predict.main, "--image", image, "--text", "ship", "--ckpt", "none.ckpt", cwd=tmp_path)
    assert done.returncode == 2 and "none.ckpt" in done.stderr and "Traceback" not in done.stderr
    done = call(show.main, cwd=tmp_path)
    assert done.returncode == 2 and "--ckpt" in done.stderr and "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A very small VG-LAW with random weights, as training would leave it."""
    from mindground.config import DeviceConfig, load_config
    from mindground.data import build_dataset
    from mindground.engine.checkpoint import save_checkpoint
    from mindground.models import build_model
    from mindground.runtime.device import apply
    from mindground.text import build_tokenizer

    apply(**vars(DeviceConfig()))
    folder = tmp_path_factory.mktemp("run")
    config = load_config(
        None,
        [
            "--data.synthetic.train_images=4",
            "--data.synthetic.val_images=3",
            "--data.synthetic.image_size=64",
            "--data.img_size=64",
            "--model.vit.embed_dim=32",
            "--model.vit.depth=2",
            "--model.vit.num_heads=2",
            "--model.vit.window_block_indexes=[0]",
            "--model.text.hidden_size=32",
            "--model.text.intermediate_size=64",
            "--model.generator_heads=2",
            f"--data.root={folder / 'data'}",
        ],
    )
    sentences = [sample.expression or "" for sample in build_dataset(config.data, "train")]
    tokenizer = build_tokenizer(config.data.tokenizer, config.data.vocab, sentences)
    config.model.text.vocab_size = tokenizer.vocab_size
    model = build_model(config)
    state = {"step": 0, "epoch": 0, "categories": {"1": "plane", "2": "tank"}}
    return save_checkpoint(folder / "runs" / "tiny" / "best.ckpt", model, config, tokenizer, state)


def test_a_batch_of_no_sentences_is_refused() -> None:
    with pytest.raises(ConfigError, match="--batch_size: 0 must be at least 1"):
        predict.main(["--image", "scene.png", "--text", "ship", "--batch_size", "0"])


def test_predictor_from_a_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    from mindground import Predictor

    texts = ["the red ship", "最左边的船 🚢", "word " * 300]
    image = np.random.default_rng(0).integers(0, 255, (50, 90, 3), np.uint8)
    graph = Predictor.load(checkpoint, batch_size=2)(image, texts)
    plain = Predictor.load(checkpoint, mode="PYNATIVE", batch_size=2)
    for one, other in zip(graph, plain(image, texts), strict=True):
        assert np.allclose(one.boxes_xyxy, other.boxes_xyxy, atol=1e-2) and one.size == (50, 90)
    alone = plain(image, texts[0])
    assert np.allclose(alone.boxes_xyxy, graph[0].boxes_xyxy, atol=1e-2)
    save(tmp_path / "pixel.png", (1, 1))
    assert plain(tmp_path / "pixel.png", "ship").size == (1, 1)


def test_predict_as_a_process(checkpoint: Path, tmp_path: Path) -> None:
    folder = save(tmp_path / "my images" / "a.png").parent
    save(folder / "b.png", (30, 30))
    sentences = ("--text", "the red ship", "--text", "左边的船")
    words = ("--ckpt", checkpoint, "--image", folder, *sentences, "--out", "results", "--json")
    done = start("predict.py", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["queries"]) == 4
    assert sorted(p.name for p in (tmp_path / "results").iterdir()) == ["a.png", "b.png", "predictions.json"]


@pytest.mark.parametrize("option", [("--bands", "3,1,2"), ("--data.bands=[3,1,2]",)])
def test_bands_of_the_files_are_named(checkpoint: Path, tmp_path: Path, option: tuple[str, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "right.png")
    Image.fromarray(image[..., [1, 2, 0]]).save(tmp_path / "mixed.png")

    def boxes(name: str, *more: str) -> list[object]:
        words = (
            "--ckpt",
            checkpoint,
            "--image",
            name,
            "--text",
            "ship",
            "--json",
            "--overwrite",
            "--mode_name",
            "PYNATIVE",
        )
        done = call(predict.main, *words, *more, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        written = json.loads(done.stdout)
        # The sentence is the category, whatever classes the training data had.
        assert written["categories"] == [{"id": 1, "name": "ship"}]
        return [(record["bbox"], record["area"]) for record in written["annotations"]]

    assert boxes("mixed.png", *option) == boxes("right.png") != boxes("mixed.png")


@pytest.mark.parametrize("value", ["1,2", "0,1,2", "a", "", "4,3,2,1"])
def test_bands_are_one_or_three_numbers(value: str) -> None:
    with pytest.raises(ConfigError, match="--bands"):
        predict.main(["--image", "scene.png", "--text", "ship", "--bands", value])


def test_overrides_reach_the_network_of_predict(checkpoint: Path, tmp_path: Path) -> None:
    image = save(tmp_path / "a.png")

    def areas(*overrides: str) -> list[int]:
        words = ("--ckpt", checkpoint, "--image", image, "--text", "ship", "--json", "--overwrite")
        done = call(predict.main, *words, "--mode_name", "PYNATIVE", *overrides, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return [record["area"] for record in json.loads(done.stdout)["annotations"]]

    low, high = areas("--mask_threshold=0"), areas("--eval.mask_threshold=1")
    assert low == [40 * 60] and high == [0]


def test_overrides_without_effect_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    image = save(tmp_path / "a.png")
    words = ("--ckpt", checkpoint, "--image", image, "--text", "ship")
    for override in ("--train.lr_base=1", "--data.root=x", "--eval.batch_size=2", "--data.vocab=x"):
        done = call(predict.main, *words, override, cwd=tmp_path)
        assert done.returncode == 2 and f"{override.partition('=')[0]} has no effect on prediction" in done.stderr
    assert not (tmp_path / "out").exists()
    done = call(predict.main, *words, "--model.law_rnk=3", cwd=tmp_path)
    assert done.returncode == 2 and "--model.law_rank" in done.stderr
    done = call(show.main, "--ckpt", checkpoint, "--batch_size", 3)
    assert done.returncode == 2 and "--batch_size has no effect on drawing samples" in done.stderr


def test_show(checkpoint: Path) -> None:
    cwd = checkpoint.parents[2]  # the newest checkpoint below runs/ is found by itself
    quick = ("--mode_name", "PYNATIVE")
    done = start("eval_visualize.py", "--sheet", 4, *quick, cwd=cwd)
    assert done.returncode == 0, done.stderr
    path = Path(done.stdout.strip().splitlines()[-1])
    assert (cwd / path).name == "contact_sheet.png" and (cwd / path).is_file()
    done = call(show.main, "--indexes", "0,2", "--out", "mine.png", *quick, cwd=cwd)
    assert done.returncode == 0, done.stderr
    assert (cwd / "mine.png").is_file()
    last = []
    for count in (1, 3):
        words = ("--indexes", "100000", f"--data.synthetic.val_images={count}", f"--data.root=images{count}", *quick)
        done = call(show.main, *words, cwd=cwd)
        assert done.returncode == 2 and "samples 0 to" in done.stderr
        last.append(int(done.stderr.split("samples 0 to ")[1].split(",")[0]))
    assert last[0] < last[1]


_THREADS = """
import sys, threading
import numpy as np
from mindground import Predictor
images = [np.random.default_rng(n).integers(0, 255, (40 + n, 70, 3), np.uint8) for n in range(8)]
texts = ["the red ship", "a car"]
alone = Predictor.load(sys.argv[1])
wanted = [[one.boxes_xyxy for one in alone(image, texts)] for image in images]
found, made, failed = [None] * 8, {}, []
ready = threading.Barrier(8)
def work(number):
    try:
        ready.wait()
        if number < 2:
            made[number] = Predictor.load(sys.argv[1])
        ready.wait()
        for _ in range(3):
            found[number] = [one.boxes_xyxy for one in made[number % 2](images[number], texts)]
    except BaseException as error:
        failed.append(repr(error))
        ready.abort()
        raise
threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert not failed, failed
assert all(np.array_equal(a, b) for one, other in zip(wanted, found) for a, b in zip(one, other))
print("equal")
"""


def test_predictors_in_threads_answer_as_one_alone(checkpoint: Path, tmp_path: Path) -> None:
    """Eight threads build and ask two predictors in graph mode; a process of its own, because it was aborted."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-c", _THREADS, str(checkpoint)]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=300, check=False
    )
    assert done.returncode == 0 and done.stdout.strip().endswith("equal"), done.stderr


def test_a_scene_is_asked_tile_by_tile(checkpoint: Path, tmp_path: Path) -> None:
    save(tmp_path / "scene.png", (150, 200))
    (tmp_path / "s.txt").write_text("the red ship\nthe topmost tank\n")
    words = ("--ckpt", checkpoint, "--image", "scene.png", "--text-file", "s.txt", "--tile", "64", "--min-score", "0")
    done = start("predict.py", *words, "--out", "results", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "results" / "predictions.json").read_text())
    assert (
        document["images"][0]["tiles"] == 12 and [query["text"] for query in document["queries"]][0] == "the red ship"
    )
    assert document["queries"][1]["decided_in_scene"] == ["topmost"] and document["queries"][1]["found"] == 1
    assert sorted(p.name for p in (tmp_path / "results").iterdir()) == ["predictions.json", "scene.png"]
