"""What commands write: no input is replaced, no link followed, no earlier result lost, every name survives."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mindground.cli.verbs import main, paths
from mindground.errors import DataError, ImageError, WriteError, printable
from mindground.files.atomic import json_text, write_json, write_text
from mindground.files.outputs import check_outputs, guarded
from mindground.inference import image_files, results
from mindground.inference.image_files import find_images, predict_files, summary
from mindground.structures import Prediction

# One goes on where it was stopped, the other joins splits in one folder by a rule of its own.
_OTHER_RULES = {("curriculum",), ("data", "make-referring")}


def ask(image: np.ndarray, texts: Sequence[str] | None, min_score: float = 0.0) -> list[Prediction]:
    """The left half, with a score of 0.5."""
    height, width = image.shape[:2]
    return [Prediction((height, width), [[0, 0, width / 2, height]], [0.5], expression=text) for text in texts or ()]


def save(path: Path | str, value: int = 90) -> Path:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    stream = io.BytesIO()
    Image.new("RGB", (12, 8), (value, 120, 60)).save(stream, "PNG")
    with open(path, "wb") as file:
        file.write(stream.getvalue())
    return Path(path)


def document(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "predictions.json").read_bytes().decode("utf-8"))


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_image_is_never_replaced_by_its_own_figure(tmp_path: Path, overwrite: bool) -> None:
    image = save(tmp_path / "photos" / "scene.png")
    before = image.read_bytes()
    (tmp_path / "same").symlink_to(tmp_path / "photos")
    for out in (tmp_path / "photos", tmp_path / "same"):
        with pytest.raises(WriteError, match=r"scene\.png is an input of this command"):
            predict_files(ask, [image], ["ship"], out, overwrite=overwrite)
    assert image.read_bytes() == before and [p.name for p in (tmp_path / "photos").iterdir()] == ["scene.png"]


def test_a_checkpoint_is_never_replaced(tmp_path: Path) -> None:
    checkpoint = tmp_path / "out" / "predictions.json"
    checkpoint.parent.mkdir()
    checkpoint.write_text("weights")
    with pytest.raises(WriteError, match="is an input"):
        predict_files(ask, [save(tmp_path / "a.png")], ["x"], checkpoint.parent, overwrite=True, inputs=[checkpoint])
    assert checkpoint.read_text() == "weights"


@pytest.mark.parametrize("name", ["a.png", "predictions.json", "predictions.jsonl"])
def test_a_link_is_replaced_and_not_followed(tmp_path: Path, name: str) -> None:
    image, victim = save(tmp_path / "a.png"), tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).symlink_to(victim)
    with pytest.raises(WriteError, match="--overwrite"):
        predict_files(ask, [image], ["ship"], tmp_path / "out")
    predict_files(ask, [image], ["ship"], tmp_path / "out", overwrite=True)
    assert victim.read_text() == "mine" and not (tmp_path / "out" / name).is_symlink()
    assert len(document(tmp_path / "out")["annotations"]) == 1


@pytest.mark.parametrize("earlier", ["a.png", "a.geojson", "predictions.json", "predictions.jsonl", "a-page2.png"])
def test_earlier_results_stay_unless_they_may_go(tmp_path: Path, earlier: str) -> None:
    image, before = save(tmp_path / "a.png"), tmp_path / "out" / earlier
    before.parent.mkdir()
    before.write_text("earlier")
    sentences = [f"ship {number}" for number in range(65)]
    with pytest.raises(WriteError, match="is there already and is not replaced; choose another --out, or give --over"):
        predict_files(ask, [image], sentences, before.parent)
    assert before.read_text() == "earlier" and len(list(before.parent.iterdir())) == 1
    predict_files(ask, [image], sentences, before.parent, overwrite=True)
    assert len(document(before.parent)["queries"]) == 65


def test_every_command_that_writes_can_be_told_to_overwrite() -> None:
    writes = []
    for words in paths():
        text = io.StringIO()
        with pytest.raises(SystemExit), redirect_stdout(text):
            main([*words, "--help"])
        if any(f"\n  {name} " in text.getvalue() for name in ("--out", "--output", "--json FILE")):
            writes.append(words)
            assert "--overwrite" in text.getvalue() or words in _OTHER_RULES, words
    assert ("predict",) in writes and ("weights", "export") in writes and len(writes) > 8


def test_a_block_may_write_its_own_files_again(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("x")
    with guarded():
        write_text(tmp_path / "new", "1")
        write_text(tmp_path / "new", "2")
        with pytest.raises(WriteError, match="is there already"):
            write_text(tmp_path / "old", "1")
        with guarded([tmp_path], overwrite=True):
            with pytest.raises(WriteError, match="is an input"):
                write_text(tmp_path / "old", "1")
    write_text(tmp_path / "old", "1")  # outside nothing is guarded
    with pytest.raises(WriteError):
        check_outputs([tmp_path / "old"])
    check_outputs([tmp_path / "old"], overwrite=True)


def test_names_of_any_bytes_survive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = os.fsencode(tmp_path) + b"/in/"
    names = ["船".encode("gbk") + b".png", "船.png".encode(), b"a\n\x1b[2J.png"]
    for name in names:
        save(os.fsdecode(folder + name))
    (tmp_path / "in" / os.fsdecode("坏".encode("gbk") + b".png")).write_text("no image")
    found = predict_files(ask, find_images([tmp_path / "in"]), ["ship"], tmp_path / "out")
    kept = document(tmp_path / "out")
    assert len(kept["annotations"]) == 3 and len(kept["failures"]) == 1
    said = "\n".join([*summary(found), *map(printable, found.files), *kept["failures"], *kept["failures"].values()])
    said.encode("utf-8")
    for text in ("\\xb4\\xac.png", "船.png", "a\\x0a\\x1b[2J.png", "\\xbb\\xb5.png"):
        assert text in said
    assert sorted(os.listdir(os.fsencode(tmp_path / "out"))) == sorted([*names, b"predictions.json"])


def test_hidden_files_of_a_folder_are_left_out(tmp_path: Path) -> None:
    seen, hidden = save(tmp_path / "in" / "DJI_1.png"), tmp_path / "in" / "._DJI_1.png"
    hidden.write_bytes(b"Mac OS X")
    assert find_images([tmp_path / "in"]) == [seen]
    assert find_images([hidden]) == [hidden]  # named, it is tried


def test_a_file_by_two_names_is_predicted_once(tmp_path: Path) -> None:
    image = save(tmp_path / "in" / "x.png")
    link = tmp_path / "link.png"
    link.symlink_to(image)
    other = tmp_path / "in" / ".." / "in" / "x.png"
    assert find_images([image, other, tmp_path / "in", link]) == [image]
    assert find_images([other, image]) == [other]


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b.png", "/dev/null", "x/" * 3000])
def test_paths_that_cannot_be(tmp_path: Path, name: str) -> None:
    with pytest.raises(ImageError, match="there is no image or folder") as caught:
        find_images([name])
    assert len(str(caught.value)) < 500 and "\0" not in str(caught.value)
    if name != "/dev/null":
        with pytest.raises(WriteError) as told:
            write_text(tmp_path / name, "x")
        assert len(str(told.value)) < 900 and "\n" not in str(told.value) and "\0" not in str(told.value)


def test_a_long_name_in_wide_letters_can_be_written(tmp_path: Path) -> None:
    assert write_text(tmp_path / ("🚢" * 62), "x").read_text() == "x"


def test_results_are_on_disk_as_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before every image the document is whole, and document or journal hold all that was found."""
    images = [save(tmp_path / "in" / f"{number:02d}.png", number) for number in range(40)]
    out, rewrites = tmp_path / "out", []

    def watched(image: np.ndarray, texts: Sequence[str] | None, min_score: float) -> list[Prediction]:
        number = int(image[0, 0, 0])
        if number:
            lines = (out / "predictions.jsonl").read_text().splitlines()
            assert [json.loads(line)["image"]["id"] for line in lines] == list(range(1, number + 1))
            assert number / 2 <= len(document(out)["images"]) <= number
        if number == 33:
            raise KeyboardInterrupt
        return ask(image, texts)

    def counted(path: Path, value: Any, **more: Any) -> Path:
        rewrites.append(len(value["images"]))
        return write_json(path, value, **more)

    monkeypatch.setattr(results, "write_json", counted)
    with pytest.raises(KeyboardInterrupt):
        predict_files(watched, images, ["ship"], out)
    assert [image["id"] for image in document(out)["images"]] == list(range(1, 34))
    assert not (out / "predictions.jsonl").exists() and sum(rewrites) < 3 * 33
    assert len(list(out.glob("*.png"))) == 33


def test_a_full_disk_keeps_what_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [save(tmp_path / f"{name}.png") for name in "abc"]
    out, draws = tmp_path / "out", []

    def full(path: Path, image: np.ndarray) -> Path:
        draws.append(path)
        if len(draws) == 2:
            raise WriteError(f"{path}: the disk is full")
        return path

    monkeypatch.setattr(image_files, "save_png", full)
    with pytest.raises(WriteError, match="the disk is full"):
        predict_files(ask, images, ["ship"], out)
    assert len(document(out)["images"]) == 2


def test_an_answer_that_is_not_finite_costs_only_its_image(tmp_path: Path) -> None:
    def broken(image: np.ndarray, texts: Sequence[str] | None, min_score: float) -> list[Prediction]:
        found = ask(image, texts)
        if image[0, 0, 0] == 1:
            found[0].boxes_xyxy[0, 0] = np.nan
        if image[0, 0, 0] == 2:
            raise MemoryError
        return found

    images = [save(tmp_path / f"{number}.png", number) for number in range(4)]
    done = predict_files(broken, images, ["ship"], tmp_path / "out")
    kept = document(tmp_path / "out")
    assert [image["id"] for image in kept["images"]] == [1, 4]
    assert set(done.failures) == set(kept["failures"]) == {str(images[1]), str(images[2])}
    assert "not finite" in done.failures[str(images[1])] and "memory" in done.failures[str(images[2])]


def test_many_sentences_make_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[int] = []
    sheet = image_files.contact_sheet
    monkeypatch.setattr(image_files, "contact_sheet", lambda panels: alive.append(len(panels)) or sheet(panels[:2]))
    images = [save(tmp_path / "in" / "a.png"), save(tmp_path / "other" / "a.png")]
    done = predict_files(ask, images, [f"ship {n}" for n in range(130)], tmp_path / "out")
    assert alive == [64, 64, 2] * 2
    assert [path.name for path in done.files[:3]] == ["a.png", "a-page2.png", "a-page3.png"]
    assert len({path for path in done.files}) == 7 and len(document(tmp_path / "out")["queries"]) == 260


def test_coco_readers_find_their_categories(tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    images = [save(tmp_path / "a.png"), save(tmp_path / "b.png")]
    predict_files(ask, images, ["the ship", "a car"], tmp_path / "out")
    coco = COCO(str(tmp_path / "out" / "predictions.json"))
    names = {one["id"]: one["name"] for one in coco.loadCats(coco.getCatIds())}
    assert names == {1: "the ship", 2: "a car"}
    for one in coco.loadAnns(coco.getAnnIds()):
        assert names[one["category_id"]] == one["text"] and one["iscrowd"] == 0 and one["image_id"] in coco.imgs

    def detect(image: np.ndarray, *_: Any) -> Prediction:
        return Prediction(image.shape[:2], [[0, 0, 4, 4]] * 2, [0.5, 0.6], [3, 9])

    predict_files(detect, images, [], tmp_path / "two", categories={3: "ship", 5: "car"})
    named = {one["id"]: one["name"] for one in document(tmp_path / "two")["categories"]}
    assert named == {3: "ship", 5: "car", 9: "class 9"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "0.5", None, True])
def test_a_threshold_is_a_number(tmp_path: Path, value: Any) -> None:
    with pytest.raises(DataError, match="min_score is"):
        predict_files(ask, [save(tmp_path / "a.png")], ["ship"], tmp_path / "out", min_score=value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("verb", ["predict", "show"])
def test_a_threshold_that_is_no_number_is_refused_at_once(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    image = ["--image", "a.png"] if verb == "predict" else []
    assert main([verb, *image, "--min-score", "nan"]) == 2
    assert "nan must lie between 0 and 1" in capsys.readouterr().err


def test_json_is_what_every_reader_takes(tmp_path: Path) -> None:
    value = {"a": float("nan"), "b": [1.5, float("-inf"), {"c": (float("inf"), "\ud800")}]}
    path = write_json(tmp_path / "x.json", value)

    def no_constant(name: str) -> None:
        raise AssertionError(name)

    read = json.loads(path.read_bytes().decode("utf-8"), parse_constant=no_constant)
    assert read == {"a": None, "b": [1.5, None, {"c": [None, "\ud800"]}]}
    assert json_text({"a": 1}) == '{"a": 1}'


def test_what_is_printable() -> None:
    assert printable(Path("船 a.png")) == "船 a.png"
    assert printable(os.fsdecode(b"\xff\x80")) == "\\xff\\x80"
    assert printable("a\nb\x1b\u202e\ud800\x85") == "a\\x0ab\\x1b\\u202e\\ud800\\x85"
    assert printable("x" * 20, 10) == "x" * 10 + "... (20 characters)"
