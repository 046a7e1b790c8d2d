"""Into a model and out of it again: strict, all or nothing."""

from __future__ import annotations

import errno
import io
import json
import os
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from mindground.errors import CheckpointError, WeightsError, WriteError
from mindground.files.atomic import atomic_file
from mindground.files.safetensors import write_safetensors_atomic
from mindground.files.weights import read_weights
from mindground.weights.export import export
from mindground.weights.load import load_into, parameter_arrays, parameter_shapes
from mindground.weights.maps import WeightMap


def _model() -> nn.Cell:
    return nn.SequentialCell(nn.Dense(3, 4), nn.LayerNorm((4,)))


def _tensors(value: float = 2.0) -> dict[str, np.ndarray]:
    return {name: np.full(shape, value, np.float32) for name, shape in parameter_shapes(_model()).items()}


def test_everything_is_assigned() -> None:
    model = _model()
    report = load_into(model, _tensors())
    assert sorted(report.loaded) == sorted(parameter_shapes(model)) and not report.missing
    assert all((array == 2).all() for array in parameter_arrays(model).values())


def test_half_and_spelled_out_byte_orders() -> None:
    tensors = _tensors()
    tensors["0.weight"] = tensors["0.weight"].astype(np.float16)
    tensors["0.bias"] = tensors["0.bias"].astype(">f4")
    tensors["1.beta"] = np.frombuffer(tensors["1.beta"].tobytes(), np.dtype("f4").newbyteorder("<"))
    model = _model()
    report = load_into(model, tensors)
    assert report.converted["0.weight"] == "float16 -> float32"
    assert all((array == 2).all() for array in parameter_arrays(model).values())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"0.weight": np.zeros((3, 4), np.float32)}, r"0.weight \(file \(3, 4\), model \(4, 3\)\)"),
        ({"0.weight": np.zeros((4, 3), np.int32)}, "file holds int32, model float32"),
        ({"0.weight": np.full((4, 3), 1e300)}, "overflow"),
        ({"unknown": np.zeros(1)}, "1 tensors of the file belong to no parameter: unknown"),
        ({"0.weight": None}, "1 parameters of the model are not in the file: 0.weight"),
    ],
)
def test_a_refused_load_changes_nothing(change: dict[str, Any], says: str) -> None:
    model = _model()
    before = parameter_arrays(model)
    tensors = {name: array for name, array in {**_tensors(), **change}.items() if array is not None}
    with pytest.raises(WeightsError, match=says):
        load_into(model, tensors)
    after = parameter_arrays(model)
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_long_lists_are_cut_with_a_count() -> None:
    unknown = {f"s{index}": np.zeros(1) for index in range(25)}
    with pytest.raises(WeightsError, match=r"25 tensors .*s9, \.\.\. and 15 more"):
        load_into(_model(), {**_tensors(), **unknown})


def test_what_the_caller_allows() -> None:
    tensors = _tensors()
    del tensors["1.gamma"]
    report = load_into(
        _model(), {**tensors, "extra.x": np.zeros(1)}, allow_missing=(r"1\..*",), allow_unexpected=(r"extra\..*",)
    )
    assert report.missing == ["1.gamma"] and report.unexpected == ["extra.x"]
    with pytest.raises(WeightsError, match="nothing"):
        load_into(_model(), {}, allow_missing=(r".*",))


def test_the_report_names_every_reason() -> None:
    names = WeightMap(
        "source",
        rules=(("{n}.w", "{n}.weight"), ("{n}.b", "{n}.bias"), ("{n}.g", "{n}.gamma")),
        ignored=((r"head\..*", "a head"),),
        adapters=((r"0\.weight", lambda array, wanted: (array[: wanted[0]], "rows 0..4 of 6")),),
        may_miss=((r"1\.beta", "starts at 0"),),
    )
    model = _model()
    file = {"0.w": np.ones((6, 3), np.float32), "0.b": np.ones(4, np.float32), "1.g": np.ones(4, np.float32)}
    report = load_into(model, names.to_ours({**file, "head.x": np.ones(1)}, parameter_shapes(model)), source="file.bin")
    table = report.table()
    assert table.splitlines()[0] == "file.bin: 3 loaded, 1 missing, 0 unexpected, 0 do not fit, 1 reshaped, 1 ignored"
    for line in (
        "reshaped    0.weight: rows 0..4 of 6",
        "ignored     a head: 1 (head.x)",
        "missing     starts at 0: 1 (1.beta)",
    ):
        assert line in table


def test_safetensors_agree_with_the_library(tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors.numpy")
    rng = np.random.default_rng(0)
    tensors = {
        "f": rng.standard_normal((3, 5)).astype(np.float32),
        "t": rng.standard_normal((4, 6)).T,
        "h": np.ones(3, np.float16),
        "i": np.arange(7),
        "b": np.array([True, False]),
        "scalar": np.array(3, np.int32),
        "empty": np.zeros((0, 2), np.float32),
        "big": np.arange(3, dtype=">i4"),
    }
    path = write_safetensors_atomic(tmp_path / "x.ckpt", tensors, {"näme": "välue"})
    theirs = library.load_file(path)
    ours = read_weights(path)
    assert ours.metadata == {"näme": "välue"} and ours.format == "safetensors"
    for name, array in tensors.items():
        for found in (theirs[name], ours.tensors[name]):
            assert found.shape == array.shape and found.dtype == array.dtype.newbyteorder("=")
            np.testing.assert_array_equal(found, array)


def test_what_cannot_be_stored_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="'c' of type complex64"):
        write_safetensors_atomic(tmp_path / "x", {"c": np.zeros(1, np.complex64)})
    with pytest.raises(CheckpointError, match="metadata 'a'"):
        wrong: dict[str, Any] = {"a": 1}
        write_safetensors_atomic(tmp_path / "x", {}, wrong)
    assert list(tmp_path.iterdir()) == []


class _FullDisk(io.FileIO):
    def write(self, data: Any, /) -> int:
        if self.tell() > 100:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(bytes(data)[:64]) and len(data)


@pytest.mark.parametrize("where", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_safetensors_atomic(tmp_path / "x.ckpt", {"a": np.zeros(10)})
    before = path.read_bytes()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if where == "write":
        import mindground.files.atomic as writer

        monkeypatch.setattr(writer.os, "fdopen", lambda handle, mode: _FullDisk(handle, "w"))
    else:
        monkeypatch.setattr(os, where, full)
    with pytest.raises(WriteError, match="disk is full; the file that was there before is unchanged"):
        write_safetensors_atomic(path, {"a": np.ones(100), "b": np.ones(100)})
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.ckpt"]


def test_an_interrupted_block_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_file(path) as stream:
        stream.write(b"new")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="cannot be written"):
        write_safetensors_atomic(tmp_path / "file" / "x.ckpt", {"a": np.zeros(1)})


def test_export_under_other_names(tmp_path: Path) -> None:
    model = _model()
    names = WeightMap("theirs", rules=(("fc.{leaf}", "0.{leaf}"), ("ln.{leaf}", "1.{leaf}")))
    done = export(model, names, tmp_path / "x.safetensors")
    assert (done.written, done.left_out) == (4, ())
    found = read_weights(done.path)
    assert set(found.tensors) == {"fc.weight", "fc.bias", "ln.gamma", "ln.beta"}
    again = _model()
    load_into(again, names.to_ours(found.tensors, parameter_shapes(again)))
    assert all(np.array_equal(parameter_arrays(again)[name], array) for name, array in parameter_arrays(model).items())


def test_export_of_a_part(tmp_path: Path) -> None:
    model, linear = _model(), WeightMap("linear", rules=(("fc.{leaf}", "0.{leaf}"),))
    with pytest.raises(WeightsError):
        export(model, linear, tmp_path / "x.safetensors")
    done = export(model, linear, tmp_path / "x.safetensors", {"source": "a.ckpt"}, partial=True)
    assert (done.written, set(done.left_out)) == (2, {"1.gamma", "1.beta"})
    found = read_weights(done.path)
    assert set(found.tensors) == {"fc.weight", "fc.bias"} and found.metadata["source"] == "a.ckpt"
    with pytest.raises(WeightsError, match="none of the 4 tensors"):
        export(model, WeightMap("empty", rules=()), tmp_path / "y.safetensors", partial=True)
    assert not (tmp_path / "y.safetensors").exists()


def test_parameters_in_bfloat16() -> None:
    model = _model().to_float(ms.float32)
    model[0].weight.set_dtype(ms.bfloat16)
    load_into(model, _tensors(1.5))
    assert (parameter_arrays(model)["0.weight"] == 1.5).all()


def test_a_backbone_is_imported_under_its_own_names(tmp_path: Path) -> None:
    """A file for BERT belongs to no family: whoever has a BERT places it where it stands there."""
    from commands import call
    from mindground.cli.weights import import_file
    from mindground.config import load_config
    from mindground.engine.pretrained import load_pretrained
    from mindground.files.weights import read_weights
    from mindground.models import build_model, family_weight_maps
    from mindground.weights.load import parameter_arrays

    small = ["--model.text.vocab_size=30", "--model.text.hidden_size=16", "--model.text.num_attention_heads=2"]
    small += ["--model.text.intermediate_size=32", "--data.img_size=64", "--model.vit.embed_dim=16"]
    small += ["--model.vit.num_heads=2", "--model.generator_heads=2", "--model.law_rank=4"]
    model = build_model(load_config(None, small))
    ours = {n: a for n, a in parameter_arrays(model).items() if n.startswith("text_encoder.")}
    theirs = write_safetensors_atomic(tmp_path / "bert.bin", family_weight_maps("vglaw")["bert"].to_theirs(ours))
    default = Path(import_file.__file__).parents[2] / "models" / "vglaw" / "default.yaml"
    out = tmp_path / "bert.ckpt"
    done = call(import_file.main, theirs, "--family=bert", f"--config={default}", "--out", out, *small)
    assert done.returncode == 0, done.stderr
    file = read_weights(out)
    assert json.loads(file.metadata["imported"])["backbone"] == "bert"
    assert set(file.tensors) == {name.removeprefix("text_encoder.") for name in ours}
    for part in ("model", "text"):
        fresh = build_model(load_config(None, small))
        load_pretrained(fresh, {part: str(out)}, random_parts=True)
        now = parameter_arrays(fresh)
        assert all(np.array_equal(now[name], array) for name, array in ours.items())
    clip = build_model(load_config(None, ["--family=clipvg", "--model.clip.vocab_size=30"]))
    with pytest.raises(WeightsError, match="holds the backbone 'bert', and this family has none; it reads clip"):
        load_pretrained(clip, {"model": str(out)}, random_parts=True)
