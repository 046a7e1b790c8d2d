"""Reading other frameworks' files: values, layouts, damage. No PyTorch is needed."""

from __future__ import annotations

import io
import pickle
import random
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mindground.errors import MindGroundError, UnsafeFileError, WeightsError
from mindground.files.weights import read_weights

FIXTURES = Path(__file__).parent / "fixtures"
FILES = {
    "zip.pth": "torch-zip",
    "legacy.pth": "torch-legacy",
    "detectron2_0.pkl": "pickle",
    "detectron2_2.pkl": "pickle",
    "detectron2_5.pkl": "pickle",
    "plain.safetensors": "safetensors",
    "mindspore.ckpt": "mindspore-ckpt",
    "expected.npz": "npz",
    "script.pt": "torchscript",
}


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    with np.load(FIXTURES / "expected.npz") as file:
        return {name: file[name] for name in file.files}


@pytest.mark.parametrize("name", [name for name in FILES if name != "script.pt"])
def test_values_types_and_shapes(name: str, expected: dict[str, np.ndarray], tmp_path: Path) -> None:
    misnamed = tmp_path / "weights.jpg"  # the name says nothing
    shutil.copy(FIXTURES / name, misnamed)
    found = read_weights(misnamed)
    assert found.format == FILES[name]
    compared = 0
    for tensor, array in found.tensors.items():
        if tensor not in expected:
            continue
        assert array.dtype == expected[tensor].dtype and array.shape == expected[tensor].shape, tensor
        np.testing.assert_array_equal(array, expected[tensor])
        compared += 1
    assert compared >= 3


def test_every_layout_is_in_both_torch_forms(expected: dict[str, np.ndarray]) -> None:
    for name in ("zip.pth", "legacy.pth"):
        found = read_weights(FIXTURES / name)
        assert set(found.tensors) == set(expected)
        assert found.metadata["epoch"] == 3
        assert found.metadata["args"] == {"lr": 0.1, "names": ["a"]}
        assert found.metadata["inert"] == ["argparse.Namespace"]
        assert found.metadata["left_out"] == {"optimizer": "1 tensors"}


def test_a_torch_tensor_inside_a_plain_pickle(expected: dict[str, np.ndarray]) -> None:
    for protocol in (0, 2, 5):
        found = read_weights(FIXTURES / f"detectron2_{protocol}.pkl")
        np.testing.assert_array_equal(found.tensors["torch"], expected["base"])
        assert found.metadata["__author__"] == "tests"


def test_torchscript_gives_the_state_dict() -> None:
    found = read_weights(FIXTURES / "script.pt")
    assert set(found.tensors) == {
        "0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked",
    }  # fmt: skip
    assert found.tensors["0.weight"].shape == (3, 2)


def test_texts_of_a_mindspore_file() -> None:
    found = read_weights(FIXTURES / "mindspore.ckpt")
    assert found.metadata == {"note": "hi"} and found.tensors["scalar"].shape == ()


def test_reading_needs_neither_torch_nor_mindspore() -> None:
    names = [name for name in FILES]
    code = (
        "import sys\nfrom mindground.files.weights import read_weights\n"
        f"[read_weights({str(FIXTURES)!r} + '/' + n) for n in {names!r}]\n"
        "assert not {'torch', 'mindspore', 'safetensors'} & set(sys.modules)"
    )
    env_path = str(Path(__file__).parents[2] / "src")
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": env_path}, timeout=120)


@pytest.mark.parametrize("name", FILES)
def test_cut_off_anywhere_is_one_sentence(name: str, tmp_path: Path) -> None:
    data = (FIXTURES / name).read_bytes()
    path = tmp_path / "cut.bin"
    lengths = {0, 1, 2, 7, 8, 9, 64, len(data) // 2, len(data) - 1} | {len(data) * k // 23 for k in range(23)}
    if name == "mindspore.ckpt":
        # Protobuf has no end mark: cut exactly between two values it is a shorter file, not a damaged one.
        lengths = {n for n in lengths if n not in _message_ends(data)}
    for length in sorted(lengths):
        path.write_bytes(data[:length])
        with pytest.raises(WeightsError) as caught:
            read_weights(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def _message_ends(data: bytes) -> set[int]:
    from mindground.files._mindspore_ckpt import _varint

    view, at, ends = memoryview(data), 0, set()
    while at < len(data):
        _, at = _varint(view, at)
        length, at = _varint(view, at)
        at += length
        ends.add(at)
    return ends


@pytest.mark.parametrize("name", FILES)
def test_flipped_bytes_never_raise_anything_else(name: str, tmp_path: Path) -> None:
    data = (FIXTURES / name).read_bytes()
    rng = random.Random(name)
    path = tmp_path / "flipped.bin"
    for _ in range(60):
        broken = bytearray(data)
        for _ in range(3):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        path.write_bytes(broken)
        try:
            read_weights(path)
        except MindGroundError:
            continue


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "LFS"),
        (b"\x89HDF\r\n\x1a\n" + bytes(64), "HDF5"),
        (b"\x1f\x8b" + bytes(64), "gzip"),
        (b"hello, these are not weights", "unknown format"),
        (pickle.dumps([1, 2]), "not a dictionary"),
        (pickle.dumps({"a": 1}), "no tensors"),
    ],
)
def test_what_is_no_file_of_weights(content: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=says):
        read_weights(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="check the path"):
        read_weights(tmp_path / "absent.pth")
    with pytest.raises(WeightsError, match="folder"):
        read_weights(tmp_path)


def test_a_small_archive_cannot_claim_a_large_machine(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", bytes(300 << 20))
    with pytest.raises(WeightsError, match="hostile"):
        read_weights(path)


def test_an_expanded_tensor_cannot_either(tmp_path: Path) -> None:
    data = (FIXTURES / "zip.pth").read_bytes()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(tmp_path / "x.pth", "w") as target:
        for part in source.namelist():
            content = source.read(part)
            if part.endswith("data.pkl"):
                assert content.count(b"K\x04\x85") >= 1  # the size (4,) of `expanded`
                content = content.replace(b"K\x04\x85", b"\x8a\x06" + struct.pack("<q", 1 << 42)[:6] + b"\x85")
            target.writestr(part, content)
    with pytest.raises(WeightsError, match="in memory|reaches"):
        read_weights(tmp_path / "x.pth")


def test_npz_and_npy_lies(tmp_path: Path) -> None:
    np.savez(tmp_path / "o.npz", a=np.array([{}], dtype=object))
    with pytest.raises(UnsafeFileError, match="numpy.object"):
        read_weights(tmp_path / "o.npz")
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40,)})
    with zipfile.ZipFile(tmp_path / "l.npz", "w") as archive:
        archive.writestr("a.npy", header.getvalue())
    with pytest.raises(WeightsError, match="damaged"):
        read_weights(tmp_path / "l.npz")


def test_split_mindspore_tensors_are_joined(tmp_path: Path) -> None:
    def field(number: int, data: bytes) -> bytes:
        return bytes([number << 3 | 2, len(data)]) + data

    halves = [np.arange(3, dtype="<f4").tobytes(), np.arange(3, 6, dtype="<f4").tobytes()]
    tensors = [field(2, b"\x08\x02\x08\x03" + field(2, b"Float32") + field(3, half)) for half in halves]
    path = tmp_path / "big.ckpt"
    path.write_bytes(b"".join(field(1, field(1, b"w") + tensor) for tensor in tensors))
    np.testing.assert_array_equal(read_weights(path).tensors["w"], np.arange(6, dtype=np.float32).reshape(2, 3))
