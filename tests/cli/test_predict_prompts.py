"""The verb predict with networks that answer prompts: everything, embeddings, sentences that prompt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from commands import Done, call
from mindground.cli import predict
from mindground.errors import ConfigError
from mindground.inference.embedding_file import read_embedding
from mindground.inference.predictor import Predictor
from mindground.models.sam.everything import EverythingOptions
from prompts import ColourPredictor, Grounder, save, scene

OBJECTS = ((20, 10, 50, 40), (70, 50, 100, 80))
FEW = ("--points-per-side", 4, "--stability-score-thresh", 0.9)


@pytest.fixture(autouse=True)
def networks(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Checkpoints by the name of their file."""
    found: dict[str, Any] = {"colours.ckpt": ColourPredictor(), "words.ckpt": Grounder()}
    monkeypatch.setattr(Predictor, "load", lambda path, *rest, **options: found[Path(path).name])
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With two images in `in`."""
    save(tmp_path / "in" / "a.png", scene(objects=OBJECTS))
    save(tmp_path / "in" / "b.png", scene((40, 50)))
    return tmp_path


def run(folder: Path, *words: object) -> Done:
    return call(predict.main, "--ckpt", "colours.ckpt", *words, cwd=folder)


def test_everything_writes_masks_and_says_where(folder: Path) -> None:
    done = run(folder, "--image", "in", "--everything", "out", *FEW)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:2] == ["in/a.png: 3 masks", "in/b.png: 1 mask"]
    assert "out/a/metadata.csv" in done.stdout and "0.png" not in done.stdout
    assert sorted(p.name for p in (folder / "out").iterdir()) == ["a", "a.png", "b", "b.png"]
    assert len((folder / "out" / "a" / "metadata.csv").read_text().splitlines()) == 4


@pytest.mark.parametrize("words", [("--rle", "records"), ("--convert-to-rle",), ("--rle", "sa1b")])
def test_everything_as_run_lengths(folder: Path, words: tuple[str, ...]) -> None:
    done = run(folder, "in", "--everything", "out", *words, *FEW)
    assert done.returncode == 0, done.stderr
    document = json.loads((folder / "out" / "a.json").read_text())
    records = document["annotations"] if "sa1b" in words else document
    assert len(records) == 3 and not (folder / "out" / "a").exists()


def test_every_option_reaches_the_generator(folder: Path, networks: dict[str, Any]) -> None:
    seen: list[dict[str, Any]] = []

    class Listening(ColourPredictor):
        def open(self, image: Any, **rest: Any) -> Any:
            session = super().open(image)
            session.everything = lambda **options: seen.append(options) or []  # type: ignore[method-assign,func-returns-value]
            return session

    networks["colours.ckpt"] = Listening()
    values = {
        "points_per_side": 7,
        "points_per_batch": 3,
        "pred_iou_thresh": 0.5,
        "stability_score_thresh": 0.25,
        "stability_score_offset": 2.0,
        "box_nms_thresh": 0.6,
        "crop_n_layers": 1,
        "crop_nms_thresh": 0.4,
        "crop_overlap_ratio": 0.125,
        "crop_n_points_downscale_factor": 2,
        "min_mask_region_area": 9,
    }
    words = [word for name, value in values.items() for word in (f"--{name.replace('_', '-')}", value)]
    done = run(folder, "--image", "in/a.png", "--everything", "out", *words)
    assert done.returncode == 0, done.stderr
    assert seen == [{**values, "output_mode": "coco_rle"}]
    assert set(vars(EverythingOptions())) - set(values) == {"point_grids", "output_mode"}
    seen.clear()
    assert run(folder, "--image", "in/a.png", "--everything", "again").returncode == 0
    assert seen == [{"output_mode": "coco_rle"}]  # the generator's own defaults


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("points_per_side", (0, 1, 1024, 1025)),
        ("points_per_batch", (0, 1)),
        ("pred_iou_thresh", (-1, "nan", 5)),
        ("stability_score_thresh", (-0.1, 0, 1, 1.1)),
        ("stability_score_offset", (-1, 0, "inf")),
        ("box_nms_thresh", (-1, 0, 1, 2)),
        ("crop_n_layers", (-1, 0, 6, 7)),
        ("crop_nms_thresh", (-1, 1, 2)),
        ("crop_overlap_ratio", (-1, 0, 1, 2)),
        ("crop_n_points_downscale_factor", (0, 1)),
        ("min_mask_region_area", (-1, 0)),
    ],
)
def test_the_command_and_the_generator_have_the_same_limits(folder: Path, option: str, values: tuple[Any, ...]) -> None:
    """The command tells before a network is built."""
    for value in values:
        number = float(value) if isinstance(value, str) else value
        try:
            EverythingOptions.of({option: number})
            allowed = True
        except ConfigError:
            allowed = False
        # A folder without images ends what is allowed before a network is asked.
        done = run(folder, "--image", "none", "--everything", "out", f"--{option.replace('_', '-')}={value}")
        assert done.returncode == 2 and ("none" in done.stderr) == allowed, (option, value, done.stderr)
        assert allowed or f"--{option.replace('_', '-')}" in done.stderr


UNREAD = [
    ("--text", "ship"),
    ("--classes", "a,b"),
    ("--class-template", "the {class}"),
    ("--min-area", 3),
    ("--masks", "png"),
    ("--prob", "png8"),
    ("--min-score", 0.5),
    ("--batch_size", 2),
    ("--out", "elsewhere"),
    ("--style", "contour"),
    ("--json",),
    ("--ground", "words.ckpt"),
]


@pytest.mark.parametrize("words", UNREAD, ids=lambda words: words[0])
@pytest.mark.parametrize("mode", ["everything", "embed"])
def test_what_a_mode_does_not_read_is_refused(folder: Path, mode: str, words: tuple[Any, ...]) -> None:
    done = run(folder, "--image", "in", f"--{mode}", "out", *words)
    assert done.returncode == 2 and words[0] in done.stderr and f"--{mode}" in done.stderr
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--points-per-side", 3, "--text", "x"), "--points-per-side does nothing without --everything"),
        (("--convert-to-rle", "--text", "x"), "--convert-to-rle does nothing without --everything"),
        (("--rle", "sa1b", "--embed", "out"), "--embed and --rle"),
        (("--embed-dtype", "float16", "--text", "x"), "--embed-dtype does nothing without --embed"),
        (("--embed-dtype", "float16", "--everything", "out"), "--everything and --embed-dtype"),
        (("--everything", "out", "--embed", "out2"), "make two calls"),
        (("--everything", "out", "--rle", "sa1b", "--convert-to-rle"), "leave one out"),
        (("--ground", "words.ckpt"), "give --text or --classes"),
        ((), "answers prompts; give --everything DIR, --embed DIR, or --ground"),
        (("--text", "ship"), "answers prompts; give --everything DIR, --embed DIR, or --ground"),
    ],
)
def test_contradictions_are_told(folder: Path, words: tuple[Any, ...], reason: str) -> None:
    done = run(folder, "--image", "in", *words)
    assert done.returncode == 2 and reason in done.stderr, done.stderr


def test_images_stand_behind_their_option_or_alone(folder: Path) -> None:
    done = run(folder, "--everything", "out")
    assert done.returncode == 2 and "--image" in done.stderr
    done = run(folder, "--text", "the", "red", "ship", "--image", "in")
    assert done.returncode == 2 and "unrecognized arguments: red ship" in done.stderr


def test_embed_writes_a_file_for_each_image(folder: Path) -> None:
    done = run(folder, "--embed", "kept", "in", "--embed-dtype", "float16")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["kept/a.safetensors", "kept/b.safetensors"]
    found = read_embedding(folder / "kept" / "a.safetensors", "colours")
    assert found.size == (90, 120) and found.values.shape == (1, 4, 2, 2)
    done = run(folder, "--embed", "kept", "in")
    assert done.returncode == 2 and "--overwrite" in done.stderr


def test_a_network_of_sentences_has_no_such_mode(folder: Path) -> None:
    for mode in ("--everything", "--embed"):
        done = call(predict.main, "--ckpt", "words.ckpt", "--image", "in", mode, "out", cwd=folder)
        assert done.returncode == 2 and "words.ckpt is none" in done.stderr


@pytest.mark.parametrize("mode", ["--everything", "--embed"])
def test_an_image_that_cannot_be_read_is_named_at_the_end(folder: Path, mode: str) -> None:
    (folder / "in" / "bad.png").write_bytes(b"nothing")
    done = run(folder, "--image", "in", mode, "out")
    assert done.returncode == 2 and "1 of 3 images could not be used" in done.stderr and "bad.png" in done.stderr
    assert len(list((folder / "out").iterdir())) >= 2


def test_sentences_prompt_the_other_network(folder: Path) -> None:
    words = ("--image", "in/a.png", "--text", "the left ship", "--ground", "words.ckpt", "--masks", "png", "--json")
    done = run(folder, *words)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["model"] == "words.ckpt + colours.ckpt"
    from PIL import Image

    mask = np.asarray(Image.open(folder / "out" / "a-mask-1.png"))
    assert (mask > 0).sum() == 900 and (folder / "out" / "a.png").is_file()
    done = run(folder, *words, "--overwrite", "--prob", "png8")
    assert done.returncode == 2 and "--prob png8 is not possible" in done.stderr


def test_networks_that_do_not_fit_together(folder: Path) -> None:
    words = ("--image", "in/a.png", "--text", "ship", "--ground")
    done = call(predict.main, "--ckpt", "words.ckpt", *words, "words.ckpt", cwd=folder)
    assert done.returncode == 2 and "answers no prompts" in done.stderr
    done = run(folder, *words, "colours.ckpt")
    assert done.returncode == 2 and "reads no sentence" in done.stderr
    # The checkpoint that grounds is an input: no result replaces it.
    (folder / "out").mkdir()
    (folder / "out" / "predictions.json").write_text("x")
    done = run(folder, *words, "out/predictions.json", "--overwrite")
    assert done.returncode == 2 and "is an input" in done.stderr


# ---- points and boxes --------------------------------------------------------------------------------------------


def test_points_and_boxes_ask_about_every_image(folder: Path, networks: dict[str, Any]) -> None:
    done = run(folder, "--image", "in/a.png", "--points", "30,20,1;5,5,0", "--out", "out")
    assert done.returncode == 0, done.stderr
    last = networks["colours.ckpt"].sessions[-1].last
    assert last["points"].tolist() == [[30, 20], [5, 5]] and last["labels"].tolist() == [1, 0]
    assert last["boxes"] is None and last["multimask"] is False
    document = json.loads((folder / "out" / "predictions.json").read_text())
    assert len(document["annotations"]) == 1 and (folder / "out" / "a.png").is_file()
    done = run(folder, "--image", "in/a.png", "--boxes", "20,10,50,40; 70,50,100,80", "--multimask", "--out", "two")
    assert done.returncode == 0, done.stderr
    assert len(json.loads((folder / "two" / "predictions.json").read_text())["annotations"]) == 6


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--points", "1"), "'1' is not X,Y or X,Y,LABEL"),
        (("--points", "1,nan"), "is not X,Y"),
        (("--points", "1,2,7"), "label 7 means nothing"),
        (("--points", ";"), "names none"),
        (("--boxes", "1,2,3"), "LEFT,TOP,RIGHT,BOTTOM"),
        (("--multimask",), "--multimask does nothing"),
        (("--points", "1,2", "--text", "ship"), "--text and --points or --boxes"),
        (("--points", "1,2", "--boxes", "1,2,3,4;5,6,7,8"), "give one box beside points"),
        (("--points", "1,2", "--everything", "out"), "--everything and --points"),
        (("--points", "1,2", "--embed", "out"), "--embed and --points"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_prompts_that_cannot_be_asked(folder: Path, words: tuple[str, ...], said: str) -> None:
    done = run(folder, "--image", "in/a.png", *words)
    assert done.returncode == 2 and said in done.stderr, done.stderr


def test_points_for_a_network_that_reads_sentences(folder: Path) -> None:
    done = call(predict.main, "--ckpt", "words.ckpt", "--image", "in/a.png", "--points", "1,2", cwd=folder)
    assert done.returncode == 2 and "answers no points or boxes" in done.stderr
