"""Files of encoded images: what they hold, what is refused, that nothing of them is run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindground.errors import DataError, WriteError
from mindground.files.safetensors import write_safetensors_atomic
from mindground.inference.embedding_file import FORMAT, Embedding, read_embedding, write_embedding
from mindground.inference.embeddings import embed_files
from prompts import save, scene

VALUES = np.random.default_rng(0).standard_normal((1, 8, 4, 4)).astype(np.float32)
GOOD = Embedding(VALUES, (90, 120), "0123456789abcdef", "port.png")


def test_a_file_gives_back_what_was_written(tmp_path: Path) -> None:
    path = write_embedding(tmp_path / "a.safetensors", GOOD)
    found = read_embedding(path, GOOD.network)
    assert np.array_equal(found.values, VALUES) and found.values.dtype == np.float32
    assert (found.size, found.network, found.image) == (GOOD.size, GOOD.network, "port.png")
    half = write_embedding(tmp_path / "b.safetensors", GOOD, "float16")
    assert half.stat().st_size < path.stat().st_size - VALUES.nbytes // 2 + 64
    assert np.array_equal(read_embedding(half).values, VALUES.astype(np.float16).astype(np.float32))


def test_another_network_is_refused(tmp_path: Path) -> None:
    path = write_embedding(tmp_path / "a.safetensors", GOOD)
    with pytest.raises(DataError, match="0123456789abcdef.*fedcba.*encode the image again"):
        read_embedding(path, "fedcba")


def test_numbers_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    for values, dtype in ((VALUES * 1e6, "float16"), (VALUES * np.nan, "float32")):
        with pytest.raises(DataError, match="not finite in " + dtype):
            write_embedding(tmp_path / "a.safetensors", Embedding(values, (9, 9), "x"), dtype)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="bfloat16"):
        write_embedding(tmp_path / "a.safetensors", GOOD, "bfloat16")  # type: ignore[arg-type]


def test_an_earlier_file_stays_whole(tmp_path: Path) -> None:
    path = write_embedding(tmp_path / "a.safetensors", GOOD)
    before = path.read_bytes()
    with pytest.raises(DataError):
        write_embedding(path, Embedding(VALUES * np.inf, (9, 9), "x"))
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


META = {"format": FORMAT, "version": "1", "network": "n", "size": "[90, 120]", "image": "x"}
BROKEN: dict[str, tuple[dict[str, str], dict[str, np.ndarray]]] = {
    "is no file of an encoded image": ({**META, "format": "other"}, {"image_embedding": VALUES}),
    "has version": ({**META, "version": "9"}, {"image_embedding": VALUES}),
    "one tensor": (META, {"image_embedding": VALUES, "more": VALUES}),
    "one tensor image_embedding": (META, {"other": VALUES}),
    "of float16 or float32": (META, {"image_embedding": VALUES.astype(np.int32)}),
    r"not \(1, C, g, g\)": (META, {"image_embedding": VALUES[0]}),
    "not \\(1, C, g, g\\); write": (META, {"image_embedding": np.zeros((1, 8, 4, 5), np.float32)}),
    "C, g, g": (META, {"image_embedding": np.zeros((1, 0, 0, 0), np.float32)}),
    "are not finite": (META, {"image_embedding": np.full((1, 2, 4, 4), np.nan, np.float32)}),
    "size of the image is": ({**META, "size": "[0, 5]"}, {"image_embedding": VALUES}),
    "size of the image": ({**META, "size": "[" * 5000}, {"image_embedding": VALUES}),
    "two whole numbers": ({**META, "size": json.dumps([10**9, 10**9])}, {"image_embedding": VALUES}),
    "two whole": ({**META, "size": '"\\u001b[31m"'}, {"image_embedding": VALUES}),
}


@pytest.mark.parametrize("reason", BROKEN)
def test_a_file_that_is_wrong_says_so(tmp_path: Path, reason: str) -> None:
    metadata, tensors = BROKEN[reason]
    path = write_safetensors_atomic(tmp_path / "a.safetensors", tensors, metadata)
    with pytest.raises(DataError, match=reason) as caught:
        read_embedding(path)
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value) and "a.safetensors" in str(caught.value)


def test_damaged_files_and_others(tmp_path: Path) -> None:
    path = write_embedding(tmp_path / "a.safetensors", GOOD)
    whole = path.read_bytes()
    for content in (b"", whole[:-1], whole[:40], whole + b"x", b"\x80\x04N.", b"GIF89a"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"a\.safetensors"):
            read_embedding(path)
    with pytest.raises(DataError, match="none"):
        read_embedding(tmp_path / "none.safetensors")


class Encoder:
    """A predictor whose embedding is the mean colour."""

    network_key = "key"

    def open(self, image: np.ndarray) -> Any:
        class Session:
            embedding = np.broadcast_to(image.mean((0, 1))[None, :, None, None], (1, 3, 2, 2)).astype(np.float32)
            size = image.shape[:2]

            def __enter__(self) -> Any:
                return self

            def __exit__(self, *reason: object) -> None:
                return None

        return Session()


def test_one_file_for_every_image(tmp_path: Path) -> None:
    image = scene(objects=[(0, 0, 60, 60)])
    paths = [save(tmp_path / "in" / "a.png", image), save(tmp_path / "in" / "x" / "a.jpg", scene((20, 30)))]
    bad = tmp_path / "in" / "bad.png"
    bad.write_bytes(b"nothing")
    results = embed_files(Encoder(), [*paths, bad], tmp_path / "out", dtype="float16")
    assert [p.name for p in results.files] == ["a.safetensors", "a-2.safetensors"] and list(results.failures) == [
        str(bad)
    ]
    found = read_embedding(results.files[0], "key")
    assert found.size == (90, 120) and np.allclose(found.values[0, :, 0, 0], image.mean((0, 1)), rtol=1e-3)
    with pytest.raises(WriteError, match="--overwrite"):
        embed_files(Encoder(), paths, tmp_path / "out")
    embed_files(Encoder(), paths, tmp_path / "out", overwrite=True)
    assert read_embedding(results.files[1]).size == (20, 30)


def test_an_image_whose_numbers_do_not_fit_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    class Loud(Encoder):
        def open(self, image: np.ndarray) -> Any:
            session = super().open(image)
            session.embedding = session.embedding * (1e6 if image.shape[0] == 20 else 1)
            return session

    paths = [save(tmp_path / "in" / "a.png", scene((20, 30))), save(tmp_path / "in" / "b.png", scene())]
    results = embed_files(Loud(), paths, tmp_path / "out", dtype="float16")
    assert [p.name for p in results.files] == ["b.safetensors"]
    assert list(results.failures) == [str(paths[0])] and "take float32" in results.failures[str(paths[0])]
