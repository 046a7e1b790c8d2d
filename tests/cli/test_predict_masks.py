"""Masks, probabilities, classes and styles of `predict`, and that it answers exactly as evaluation does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from commands import call
from mindground.cli import predict, show
from mindground.errors import WriteError
from mindground.inference.forms import Forms, united_mask
from mindground.inference.image_files import predict_files, summary
from mindground.structures import Geometry, Prediction, ProbabilityMap, decode_segmentation, encode_mask

_TINY = {
    "rmsin": (
        *("--family=rmsin", "--model.swin.embed_dim=8", "--model.swin.num_heads=[1,1,2,2]", "--model.cim.heads=2"),
        *("--model.cim.key_dim=4", "--model.text.num_attention_heads=2"),
    ),
    "vglaw": (
        *("--model.vit.embed_dim=32", "--model.vit.depth=1", "--model.vit.num_heads=2", "--model.generator_heads=2"),
        *("--model.vit.window_block_indexes=[]", "--model.law_rank=8", "--data.max_len=12"),
    ),
    "boxes": ("--model.vit.embed_dim=32", "--model.vit.depth=1", "--model.vit.num_heads=2", "--data.use_mask=false"),
}
_TINY["lavt"] = (*_TINY["rmsin"], "--model.variant=lavt", "--model.mask_resize=bilinear")
_TINY["boxes"] += ("--model.vit.window_block_indexes=[]", "--model.generator_heads=2")
_SHARED = (
    *("--data.synthetic.train_images=2", "--data.synthetic.val_images=2", "--data.synthetic.image_size=80"),
    *("--data.img_size=64", "--model.text.hidden_size=32", "--model.text.intermediate_size=64"),
    "--device.mode_name=PYNATIVE",
)


def build_checkpoint(folder: Path, name: str) -> Path:
    """A very small network with random weights whose masks cover a part of the image."""
    import mindspore as ms

    from mindground.config import load_config
    from mindground.data import build_dataset
    from mindground.data.transforms import build_transform
    from mindground.engine.checkpoint import save_checkpoint
    from mindground.inference.predictor import Predictor
    from mindground.models import build_model, model_interface
    from mindground.runtime.device import apply
    from mindground.tasks import task_of
    from mindground.text import build_tokenizer

    config = load_config(None, [*_TINY[name], *_SHARED, f"--data.root={folder / 'data'}"])
    apply(**vars(config.device))
    dataset = build_dataset(config.data, "val")
    tokenizer = build_tokenizer(config.data.tokenizer, config.data.vocab, [s.expression or "" for s in dataset.samples])
    config.model.text.vocab_size = tokenizer.vocab_size
    model = build_model(config)
    task = task_of(model_interface(config))
    ask = Predictor(model, build_transform(config.data, task.kind, task.truth, tokenizer=tokenizer), graph=False)
    if model.mask_logits:
        found = ask(dataset[0].image_path, "ship", probability=True).probability
        middle = float(np.median(found.original()))
        if name == "vglaw":
            config.eval.mask_threshold = middle
        else:
            bias = model.decoder.classify.bias
            bias.set_data(ms.Tensor(bias.asnumpy() - np.asarray([0, np.log(middle / (1 - middle))], np.float32)))
    return save_checkpoint(folder / f"{name}.ckpt", model, config, tokenizer, {"step": 0, "epoch": 0})


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("networks")
    return {name: build_checkpoint(folder, name) for name in _TINY}


def ask(image: np.ndarray, texts: Sequence[str] | None, min_score: float = 0.0) -> list[Prediction]:
    """A ring at the upper left and, for sentences with an "s", one pixel; more probable to the right."""
    size = (int(image.shape[0]), int(image.shape[1]))
    found = []
    for text in texts or ():
        mask = np.zeros(size, np.uint8)
        mask[2:12, 2:12] = 1
        mask[5:9, 5:9] = 0
        mask[-1, -1] = "s" in text
        logits = np.tile(np.linspace(-3, 3, 8, dtype=np.float32), (8, 1))
        canvas = Geometry(size, (8, 8), (8, 8), scale=(8 / size[1], 8 / size[0]))
        one = Prediction(size, [[2, 2, 12, 12]], [0.6], masks=(encode_mask(mask),), expression=text, mask_scores=[0.75])
        one.probability = ProbabilityMap(logits, canvas)
        found.append(one.at_least(min_score))
    return found


def image(path: Path, size: tuple[int, int] = (30, 40)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size[::-1], (90, 120, 60)).save(path)
    return path


def document(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "predictions.json").read_text("utf-8"))


# ---- what is written, with an answer that is known -------------------------------------------------------------------


def test_masks_as_png(tmp_path: Path) -> None:
    scene, forms = image(tmp_path / "in" / "a.jpg"), Forms(masks=("png",))
    results = predict_files(ask, [scene], ["a ship", "a car"], tmp_path / "out", forms=forms)
    assert [path.name for path in results.files] == ["a.png", "a-mask-1.png", "a-mask-2.png", "predictions.json"]
    written = document(tmp_path / "out")
    assert [query["mask_file"] for query in written["queries"]] == ["a-mask-1.png", "a-mask-2.png"]
    for query, prediction in zip(written["queries"], ask(np.zeros((30, 40, 3)), ["a ship", "a car"]), strict=True):
        with Image.open(tmp_path / "out" / query["mask_file"]) as file:
            assert file.mode == "L" and np.array_equal(np.asarray(file), united_mask(prediction) * 255)
    assert all("segmentation" not in record for record in written["annotations"])
    assert [record["mask_score"] for record in written["annotations"]] == [0.75, 0.75]


def test_masks_as_polygons_give_the_same_pixels_back(tmp_path: Path) -> None:
    predict_files(ask, [image(tmp_path / "a.jpg")], ["ship"], tmp_path / "out", forms=Forms(masks=("polygon",)))
    (record,) = document(tmp_path / "out")["annotations"]
    (wanted,) = ask(np.zeros((30, 40, 3)), ["ship"])
    assert isinstance(record["segmentation"], list) and len(record["segmentation"]) == 2
    theirs = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(record["segmentation"], 30, 40)))
    assert np.array_equal(theirs, united_mask(wanted))
    assert np.array_equal(decode_segmentation(record["segmentation"], (30, 40)), united_mask(wanted))


def test_an_empty_mask_stays_run_lengths(tmp_path: Path) -> None:
    def nothing(pixels: np.ndarray, texts: Sequence[str] | None, min_score: float = 0.0) -> list[Prediction]:
        size = (pixels.shape[0], pixels.shape[1])
        return [Prediction(size, [[0, 0, 0, 0]], [0], masks=(encode_mask(np.zeros(size)),)) for _ in texts or ()]

    predict_files(nothing, [image(tmp_path / "a.jpg")], ["ship"], tmp_path / "out", forms=Forms(masks=("polygon",)))
    (record,) = document(tmp_path / "out")["annotations"]
    assert record["segmentation"]["size"] == [30, 40] and record["area"] == 0


@pytest.mark.parametrize(("form", "mode", "highest"), [("png8", "L", 255), ("png16", "I;16", 65535)])
def test_probability_as_png(tmp_path: Path, form: str, mode: str, highest: int) -> None:
    # What scores too little has no mask; its probability is written all the same.
    results = predict_files(
        ask, [image(tmp_path / "a.jpg")], ["ship"], tmp_path / "out", forms=Forms(probability=form), min_score=0.9
    )
    assert [path.name for path in results.files] == ["a.png", "a-prob-1.png", "predictions.json"]
    (found,) = ask(np.zeros((30, 40, 3)), ["ship"])
    with Image.open(tmp_path / "out" / "a-prob-1.png") as file:
        assert file.mode == mode and file.size == (40, 30)
        values = np.asarray(file, np.float64) / highest
    assert np.abs(values - found.probability.original()).max() <= 0.5 / highest + 1e-6
    ends = 1 / (1 + np.exp(np.asarray([3.0, -3.0])))
    assert np.abs(values[:, [0, -1]] - ends).max() <= 1 / highest


@pytest.mark.parametrize("placed", [True, False])
def test_probability_as_geotiff(tmp_path: Path, placed: bool, caplog: pytest.LogCaptureFixture) -> None:
    rasterio = pytest.importorskip("rasterio")
    transform = rasterio.transform.from_origin(500000, 5000000, 2, 2)
    scene = tmp_path / "s.tif"
    if placed:
        profile = {"driver": "GTiff", "height": 30, "width": 40, "count": 3, "dtype": "uint8", "nodata": 0}
        pixels = np.full((3, 30, 40), 90, np.uint8)
        pixels[:, :4] = 0
        with rasterio.open(scene, "w", crs="EPSG:32633", transform=transform, **profile) as file:
            file.write(pixels)
    else:
        image(scene)
    predict_files(ask, [scene], ["ship"], tmp_path / "out", forms=Forms(probability="geotiff"))
    (found,) = ask(np.zeros((30, 40, 3)), ["ship"])
    with rasterio.open(tmp_path / "out" / "s-prob-1.tif") as file:
        values = file.read(1)
        assert file.dtypes == ("float32",) and np.isnan(file.nodata)
        assert (file.crs is not None) is placed and (not placed or file.crs.to_epsg() == 32633)
        assert not placed or file.transform == transform
    wanted = found.probability.original()
    wanted[:4] = np.nan if placed else wanted[:4]
    assert np.array_equal(values, wanted, equal_nan=True)
    assert ("without coordinate system" in caplog.text) is not placed


def test_parts_are_counted_by_class(tmp_path: Path) -> None:
    asked = {"ships in the image": "ship", "a car": "car"}
    scene = image(tmp_path / "a.jpg")
    results = predict_files(ask, [scene], list(asked), tmp_path / "out", forms=Forms(classes=asked, min_area=2))
    written = document(tmp_path / "out")
    ship, car = written["classes"]
    assert (ship["name"], ship["text"], ship["count"], ship["area"]) == ("ship", "ships in the image", 1, 85)
    assert ship["parts"] == [{"bbox": [2, 2, 10, 10], "area": 84}] and ship["mask_score"] == 0.75
    assert [one["name"] for one in written["categories"]] == ["ship", "car"]
    assert summary(results)[-2:] == [f"{scene}: 'ship' counted 1", f"{scene}: 'car' counted 1"]
    one = Forms(classes=asked, min_area=1)
    predict_files(ask, [scene], list(asked), tmp_path / "one", forms=one)
    assert [entry["count"] for entry in document(tmp_path / "one")["classes"]] == [2, 1]
    predict_files(ask, [scene], list(asked), tmp_path / "none", forms=one, min_score=0.9)
    assert [(entry["count"], entry["parts"]) for entry in document(tmp_path / "none")["classes"]] == [(0, [])] * 2


def test_a_box_alone_is_not_counted(tmp_path: Path) -> None:
    def boxes(pixels: np.ndarray, texts: Sequence[str] | None, min_score: float = 0.0) -> list[Prediction]:
        return [Prediction(pixels.shape[:2], [[0, 0, 9, 9]], [1], expression=text) for text in texts or ()]

    forms = Forms(classes={"a ship": "ship"})
    predict_files(boxes, [image(tmp_path / "a.jpg")], ["a ship"], tmp_path / "out", forms=forms)
    assert document(tmp_path / "out")["classes"] == [{"image_id": 1, "name": "ship", "text": "a ship", "count": None}]


def test_no_file_of_one_image_replaces_one_of_another(tmp_path: Path) -> None:
    images = [image(tmp_path / "in" / name) for name in ("a.jpg", "a-mask-1.jpg", "a-prob-1.jpg")]
    forms = Forms(masks=("png",), probability="png8")
    results = predict_files(ask, images, ["ship"], tmp_path / "out", forms=forms)
    assert len({path.name for path in results.files}) == len(results.files) == 10
    before = (tmp_path / "out" / "a-mask-1.png").read_bytes()
    with pytest.raises(WriteError, match="--overwrite"):
        predict_files(ask, images, ["car"], tmp_path / "out", forms=forms)
    (tmp_path / "out" / "predictions.json").unlink()
    (tmp_path / "out" / "a.png").unlink()
    with pytest.raises(WriteError, match="--overwrite"):
        predict_files(ask, images[:1], ["car"], tmp_path / "out", forms=forms)
    assert (tmp_path / "out" / "a-mask-1.png").read_bytes() == before
    mask = image(tmp_path / "photos" / "a-mask-1.png")
    with pytest.raises(WriteError, match="is an input of this command"):
        predict_files(ask, [images[0], mask], ["ship"], tmp_path / "photos", forms=forms, overwrite=True)


# ---- the command with small networks ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--masks", "rle", "--masks", "polygon"), "leave one out"),
        (("--classes", "ship", "--text", "a ship"), "--classes and --text"),
        (("--classes", "ship,,car"), "empty name"),
        (("--classes", "ship,car,ship"), "'ship' stands there twice"),
        (("--classes", "ship", "--class-template", "every ship"), "write {class}"),
        (("--text", "ship", "--class-template", "{class}"), "--class-template does nothing"),
        (("--text", "ship", "--min-area", "4"), "--min-area does nothing"),
        (("--text", "ship", "--prob", "jpeg"), "--prob"),
        (("--text", "ship", "--style", "x"), "--style"),
    ],
)
def test_options_that_contradict_each_other_are_refused_at_once(
    tmp_path: Path, options: tuple[str, ...], says: str
) -> None:
    done = call(predict.main, "--ckpt", "none.ckpt", "--image", image(tmp_path / "a.jpg"), *options, cwd=tmp_path)
    assert done.returncode == 2 and says in done.stderr and "none.ckpt" not in done.stderr


def test_geotiff_needs_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mindground.files import rasters

    def missing(name: str) -> Any:
        raise ImportError(f"no module {name}")

    monkeypatch.setattr(rasters.importlib, "import_module", missing)
    words = ("--image", image(tmp_path / "a.jpg"), "--text", "ship", "--prob", "geotiff", "--ckpt", "none.ckpt")
    done = call(predict.main, *words, cwd=tmp_path)
    assert done.returncode == 2 and "install the extra 'geo'" in done.stderr


@pytest.mark.parametrize("option", [("--masks", "png"), ("--prob", "png8"), ("--classes", "ship", "--min-area", "9")])
def test_a_network_without_masks_says_so(checkpoints: dict[str, Path], tmp_path: Path, option: tuple[str, ...]) -> None:
    text = () if "--classes" in option else ("--text", "ship")
    words = ("--ckpt", checkpoints["boxes"], "--image", image(tmp_path / "a.jpg"), *text, *option)
    done = call(predict.main, *words, "--mode_name", "PYNATIVE", cwd=tmp_path)
    assert done.returncode == 2 and "answers with boxes alone" in done.stderr and not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["rmsin", "lavt", "vglaw"])
def test_predict_equals_eval_to_the_bit(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from mindground.engine.scoring import score
    from mindground.structures import Sample
    from mindground.tasks.referring import ReferringTask

    evaluated: list[tuple[str, str, Prediction]] = []
    record = ReferringTask.record

    def kept(self: ReferringTask, sample: Sample, prediction: Prediction) -> dict[str, Any]:
        evaluated.append((str(sample.image_path), sample.expression or "", prediction))
        return record(self, sample, prediction)

    monkeypatch.setattr(ReferringTask, "record", kept)
    score(checkpoints[name], splits=["val"])
    path = evaluated[0][0]
    asked = {text: prediction for place, text, prediction in evaluated if place == path}
    texts = [word for text in asked for word in ("--text", text)]
    words = ("--ckpt", checkpoints[name], "--image", path, *texts, "--mode_name", "PYNATIVE", "--prob", "png16")
    done = call(predict.main, *words, "--masks", "rle", "--masks", "png", "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    written = document(tmp_path / "out")
    assert len(written["annotations"]) == len(asked) > 1
    for found, query in zip(written["annotations"], written["queries"], strict=True):
        wanted = asked[found["text"]]
        assert found["segmentation"] == dict(wanted.masks[0])
        assert found["mask_score"] == round(float(wanted.mask_scores[0]), 6)
        mask = wanted.mask_arrays()[0]
        assert 0 < mask.sum() < mask.size
        with Image.open(tmp_path / "out" / query["mask_file"]) as file:
            assert np.array_equal(np.asarray(file), mask * 255)
        with Image.open(tmp_path / "out" / query["probability_file"]) as file:
            probability = np.asarray(file) / 65535
        if name != "rmsin":  # whose mask is decided on the canvas; the others decide in original pixels
            threshold = 0.5 if name == "lavt" else float(probability[mask > 0].min())
            assert probability[mask > 0].min() >= threshold - 1e-5
            assert probability[mask == 0].max() <= threshold + 1e-5
        assert abs(probability[mask > 0].mean() - found["mask_score"]) < (0.1 if name == "rmsin" else 1e-4)


@pytest.mark.parametrize("name", ["rmsin", "vglaw"])
def test_classes_are_asked_one_by_one(checkpoints: dict[str, Path], tmp_path: Path, name: str) -> None:
    scene = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 70, 3), np.uint8)).save(scene)
    quick = ("--ckpt", checkpoints[name], "--image", scene, "--mode_name", "PYNATIVE", "--json")
    template = ("--class-template", "the {class} at the pier", "--style", "contour")
    done = call(predict.main, *quick, "--classes", "ship, car", *template, "--out", "classes", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    classes = json.loads(done.stdout)
    texts = ("--text", "the ship at the pier", "--text", "the car at the pier")
    done = call(predict.main, *quick, *texts, "--out", "texts", cwd=tmp_path)
    asked = json.loads(done.stdout)
    assert [a["segmentation"] for a in classes["annotations"]] == [a["segmentation"] for a in asked["annotations"]]
    assert [category["name"] for category in classes["categories"]] == ["ship", "car"]
    assert [(entry["name"], entry["area"]) for entry in classes["classes"]] == [
        (name, record["area"]) for name, record in zip(("ship", "car"), asked["annotations"], strict=True)
    ]
    assert "classes" not in asked
    assert (tmp_path / "classes" / "a.png").read_bytes() != (tmp_path / "texts" / "a.png").read_bytes()


def test_show_draws_in_the_style(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    words = ("--ckpt", checkpoints["vglaw"], "--indexes", "0", "--mode_name", "PYNATIVE")
    for style in ("frame", "contour"):
        done = call(show.main, *words, "--style", style, "--out", tmp_path / f"{style}.png", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "frame.png").read_bytes() != (tmp_path / "contour.png").read_bytes()
