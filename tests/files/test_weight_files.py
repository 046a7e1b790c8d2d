"""Weights as others publish them: several files, wrappers, objects beside the tensors; and sizes that lie."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from files.limited import refused
from files.opcodes import PROTO, VALUES, name, table, tensor, text, torch_zip, tuple_of
from mindground.errors import UnsafeFileError, WeightsError
from mindground.files.safetensors import write_safetensors_atomic
from mindground.files.weights import read_weights


def _zip(tmp_path: Path, *pairs: tuple[bytes, bytes]) -> Path:
    path = tmp_path / "w.pth"
    path.write_bytes(torch_zip(PROTO + table(*pairs) + b"."))
    return path


def _sharded(folder: Path) -> Path:
    parts = {"model-00001-of-00002.safetensors": {"a": VALUES}, "model-00002-of-00002.safetensors": {"b": VALUES * 2}}
    for file, tensors in parts.items():
        write_safetensors_atomic(folder / file, tensors)
    index = folder / "model.safetensors.index.json"
    places = {tensor: file for file, tensors in parts.items() for tensor in tensors}
    index.write_text(json.dumps({"metadata": {"total_size": 32}, "weight_map": places}, indent=2))
    return index


def test_an_index_gives_the_tensors_of_all_its_files(tmp_path: Path) -> None:
    found = read_weights(_sharded(tmp_path))
    assert list(found.tensors) == ["a", "b"] and found.format == "sharded safetensors"
    np.testing.assert_array_equal(found.tensors["b"], VALUES * 2)
    assert found.metadata["shards"] == [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]


def test_an_index_of_torch_files(tmp_path: Path) -> None:
    for number in (1, 2):
        body = PROTO + table((text(f"t{number}"), tensor())) + b"."
        (tmp_path / f"pytorch_model-0000{number}-of-00002.bin").write_bytes(torch_zip(body))
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": {f"t{n}": f"pytorch_model-0000{n}-of-00002.bin" for n in (1, 2)}}))
    assert list(read_weights(index).tensors) == ["t1", "t2"]


def test_one_file_of_several_is_named(tmp_path: Path) -> None:
    index = _sharded(tmp_path)
    with pytest.raises(WeightsError, match="is file 2 of the 2 .* give model.safetensors.index.json, which is beside"):
        read_weights(tmp_path / "model-00002-of-00002.safetensors")
    index.unlink()
    with pytest.raises(WeightsError, match="belongs beside it"):
        read_weights(tmp_path / "model-00002-of-00002.safetensors")
    write_safetensors_atomic(tmp_path / "model-00001-of-00001.safetensors", {"a": VALUES})
    assert list(read_weights(tmp_path / "model-00001-of-00001.safetensors").tensors) == ["a"]


@pytest.mark.parametrize("place", ["../w.safetensors", "/etc/passwd", "a/b", "..", "", "model.json", 5, None, "x\n"])
def test_an_index_names_only_files_beside_it(place: object, tmp_path: Path) -> None:
    index = tmp_path / "model.json"
    index.write_text(json.dumps({"weight_map": {"a": place}}))
    with pytest.raises(WeightsError, match="only files beside it"):
        read_weights(index)


def test_what_is_no_whole_index(tmp_path: Path) -> None:
    index = _sharded(tmp_path)
    places = json.loads(index.read_text())["weight_map"]
    for content, says in [
        ({"a": 1}, "no index of weights"),
        ({"weight_map": {}}, "no index of weights"),
        ({"weight_map": [1]}, "no index of weights"),
        ({"weight_map": {"c": places["a"]}}, "lacks tensor 'c'"),
        ({"weight_map": {"c": "model-00009-of-00009.safetensors"}}, "not beside it"),
    ]:
        index.write_text(json.dumps(content))
        with pytest.raises(WeightsError, match=says):
            read_weights(index)
    (tmp_path / "second.json").write_text(json.dumps({"weight_map": {"c": index.name}}))
    with pytest.raises(WeightsError, match="unknown format"):  # an index inside an index
        read_weights(tmp_path / "second.json")


@pytest.mark.parametrize("key", ["ema_state_dict", "model_ema", "state_dict", "params"])
def test_wrappers(key: str, tmp_path: Path) -> None:
    found = read_weights(_zip(tmp_path, (text(key), table((text("a"), tensor()))), (text("epoch"), b"K\x03")))
    assert list(found.tensors) == ["a"] and found.metadata == {"epoch": 3, "unwrapped": key}


def test_weights_come_before_their_average(tmp_path: Path) -> None:
    inner = table((text("a"), tensor()))
    found = read_weights(_zip(tmp_path, (text("model_ema"), inner), (text("model"), inner)))
    assert found.metadata == {"unwrapped": "model", "left_out": {"model_ema": "1 tensors"}}


def test_objects_beside_the_weights(tmp_path: Path) -> None:
    folder = name("pathlib._local", "PosixPath") + tuple_of(text("out"), text("run")) + b"R"
    node = name("omegaconf.nodes", "AnyNode") + b")R" + table((text("_val"), b"K\x07"), (text("_parent"), b"N")) + b"b"
    config = name("omegaconf.dictconfig", "DictConfig") + b")Rq\x01"
    content = table((text("lr"), node), (text("self"), b"h\x01"))
    config += table((text("_content"), content), (text("_parent"), b"h\x01")) + b"b"
    found = read_weights(
        _zip(tmp_path, (text("state_dict"), table((text("a"), tensor()))), (text("p"), folder), (text("hp"), config))
    )
    assert found.metadata["p"] == ["out", "run"] and found.metadata["hp"] == {"lr": 7, "self": "..."}
    assert "pathlib._local.PosixPath" in found.metadata["inert"]
    with pytest.raises(UnsafeFileError, match="omegaconf.omegaconf.OmegaConf"):
        read_weights(_zip(tmp_path, (text("a"), name("omegaconf.omegaconf", "OmegaConf") + b")R")))


def test_kinds_of_numbers_that_numpy_lacks(tmp_path: Path) -> None:
    kind = name("torch", "float8_e4m3fn")
    storage = tuple_of(text("storage"), name("torch", "UntypedStorage"), text("0"), text("cpu"), b"K\x10") + b"Q"
    arguments = tuple_of(storage, b"K\x00", b"K\x10\x85", b"K\x01\x85", b"\x89", b"N", kind)
    path = _zip(tmp_path, (text("a"), name("torch._utils", "_rebuild_tensor_v3") + arguments + b"R"))
    with pytest.raises(WeightsError, match="tensors of type float8_e4m3fn cannot be read; convert them"):
        read_weights(path)


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def _field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def test_mindspore_files_whose_fields_are_numbers_or_too_many(tmp_path: Path) -> None:
    path = tmp_path / "w.ckpt"
    sound = _field(1, 4) + _field(2, b"Float32") + _field(3, VALUES.tobytes())
    path.write_bytes(_field(1, _field(1, b"w") + _field(2, sound)))
    np.testing.assert_array_equal(read_weights(path).tensors["w"], VALUES)
    large = 1 << 33
    dims = b"".join(_field(1, 1 << 62) for _ in range(100_000))
    for content in (
        _field(1, _field(1, b"w") + _field(2, sound) + _field(1, large)),
        _field(1, _field(1, b"w") + _field(2, sound) + _field(2, large)),
        _field(1, _field(1, b"w") + _field(2, sound + _field(2, large))),
        _field(1, _field(1, b"w") + _field(2, sound + _field(3, large))),
        _field(1, _field(1, b"w") + _field(2, dims + sound)),
        _field(1, _field(1, b"w") + _field(2, _field(1, _varint(1 << 62) * 100_000) + sound)),
        _field(1, _field(1, b"w") + _field(2, _field(2, b"\x1b[2J\nx") + _field(3, b"1234"))),
        _field(1, _field(1, b"w" * 9) + _field(2, sound)) + b"\x0a\x00" * 5_000_000,
    ):
        path.write_bytes(content)
        refused([("read_weights", path)])


def test_safetensors_whose_shapes_lie(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    for shape in ([1] * 33, [1 << 62] * 200_000, [-4], ["4"], 4, [4.0], [[4]], [10**4000]):
        entry = {"dtype": "F32", "shape": shape, "data_offsets": [0, 16]}
        raw = json.dumps({"a": entry}).encode()
        path.write_bytes(struct.pack("<Q", len(raw)) + raw + VALUES.tobytes())
        refused([("read_weights", path)])
