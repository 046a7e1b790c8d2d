"""Options of `predict` for scenes and sentences, and `data convert`, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mindground.cli import predict
from mindground.cli.data import convert
from mindground.data.sentence_files import read_sentences
from mindground.errors import ConfigError, DataError, WriteError

IMAGE = ("--image", "scene.png")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--tile", "64", "--gsd", "0.5"), "leave --tile out"),
        (("--tile", "64", "--prob", "png8"), "--prob is not possible with tiles"),
        (("--overlap", "0.3", "--masks", "png"), "--masks is not possible with tiles"),
        (("--tile", "4"), "must be at least 16"),
        (("--gsd", "no"), "not a number of metres"),
        (("--gsd", "-1"), "above 0"),
        (("--geometry", "circle"), "invalid choice"),
    ],
)
def test_options_that_contradict_each_other(words: tuple[str, ...], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        predict.main([*IMAGE, "--text", "ship", *words])


def test_sentences_of_files(tmp_path: Path) -> None:
    (tmp_path / "s.txt").write_text("# ships\nthe red ship\n\n  船  \nthe red ship\n", "utf-8")
    (tmp_path / "s.csv").write_text('id,Text\n1,"the ship, left"\n2,#5 hangar\n3,\n', "utf-8-sig")
    assert read_sentences(tmp_path / "s.txt") == ["the red ship", "船"]
    assert read_sentences(tmp_path / "s.csv") == ["the ship, left", "#5 hangar"]
    for name, content, says in (
        ("a.csv", b"id,name\n1,2\n", "must be called 'sentence'"),
        ("b.txt", b"\xff\xfe", "no UTF-8"),
        ("c.txt", b"# nothing\n", "no sentence"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=says):
            read_sentences(tmp_path / name)


def test_convert(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = {"image": "a.jpg", "size": [20, 30], "sentence": "the ship", "box": [1, 2, 9, 8], "category": "ship"}
    source = tmp_path / "train.jsonl"
    source.write_text(json.dumps(record) + "\n")
    for target, into in (("c.json", "coco"), ("yolo", "yolo"), ("back.csv", "")):
        assert convert.main([str(source), str(tmp_path / target), *(["--to", into] if into else [])]) == 0
    assert capsys.readouterr().out.startswith("jsonl -> coco: 1 images, 1 objects")
    content = json.loads((tmp_path / "c.json").read_text())
    assert content["annotations"][0]["text"] == "the ship" and content["annotations"][0]["bbox"] == [1, 2, 8, 6]
    assert (tmp_path / "yolo" / "labels" / "a.txt").read_text() == "0 0.1666666667 0.25 0.2666666667 0.3\n"
    with pytest.raises(WriteError, match="--overwrite"):
        convert.main([str(source), str(tmp_path / "c.json"), "--to", "coco"])
    with pytest.raises(ConfigError, match="give --to"):
        convert.main([str(source), str(tmp_path / "x")])
    with pytest.raises(ConfigError, match="invalid choice"):
        convert.main([str(source), str(tmp_path / "x"), "--to", "cocoo"])
