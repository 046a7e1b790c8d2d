"""What ranks must have alike: who differs is named with its machine."""

from __future__ import annotations

import platform
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from mindground.engine import agreement as engine_agreement
from mindground.engine.agreement import check_same_job, check_same_parts, digest_of_samples, same_parameters
from mindground.errors import DeviceError
from mindground.runtime.agreement import agree_on, agree_on_files, code_version, digest_of_file
from mindground.structures import Sample


class Others:
    """This rank is the first of `size`; the others answer with what `change` makes of its values."""

    reduces_on_device = False

    def __init__(self, *changes: Any) -> None:
        self.changes, self.rank, self.size = changes, 0, len(changes) + 1
        self.broadcast: list[np.ndarray] = []

    def all_gather_object(self, value: Any) -> list[Any]:
        return [value, *(change(value) for change in self.changes)]

    def broadcast_array_(self, array: np.ndarray) -> None:
        self.broadcast.append(array)


def same(value: Any) -> Any:
    return value


def test_equal_facts_and_one_rank_alone_agree() -> None:
    agree_on(Others(same, same), {"code": "1"})
    agree_on(Others(), {"code": "1"})


def test_every_difference_is_named_with_ranks_machines_and_values() -> None:
    def elsewhere(value: Any) -> Any:
        return "host-b", {**value[1], "code": "2", "seed": "7"}

    def less(value: Any) -> Any:
        return "host-c\x1b", {"code": "1"}

    with pytest.raises(DeviceError) as caught:
        agree_on(Others(elsewhere, elsewhere, less), {"code": "1", "seed": "0"})
    said = str(caught.value)
    here = platform.node()
    assert f"ranks [1, 2] have another code than rank 0 (2 on host-b, 1 on {here})" in said
    assert f"ranks [1, 2] have another seed than rank 0 (7 on host-b, 0 on {here})" in said
    assert "ranks [3] have another seed than rank 0 (missing on host-c\\x1b" in said and "\n" not in said


def test_a_machine_without_a_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "weights.ckpt"
    path.write_bytes(b"12345")
    agree_on_files(Others(same), [path])

    def without(value: Any) -> Any:
        return ("host-b", [-1]) if isinstance(value[1], list) else value

    with pytest.raises(DeviceError, match=rf"host-b \(ranks \[1\]\): there is no file {path}; copy it there"):
        agree_on_files(Others(without), [path])

    def other(value: Any) -> Any:
        return value if isinstance(value[1], list) else ("host-b", {name: "5 bytes, 0" for name in value[1]})

    with pytest.raises(DeviceError, match=r"another file .*weights\.ckpt than rank 0 \(5 bytes, 0 on host-b"):
        agree_on_files(Others(other), [path])
    # What nobody has is told by whoever reads it, with its own words.
    agree_on_files(Others(same), [tmp_path / "nothing"])


def test_files_and_folders_have_digests(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    first = digest_of_file(tmp_path)
    assert digest_of_file(tmp_path / "a").startswith("1 bytes, ") and first.startswith("1 files, ")
    (tmp_path / "a").write_bytes(b"2")
    assert digest_of_file(tmp_path) != first and digest_of_file(tmp_path / "b") == "missing"


def test_the_version_of_the_code_has_its_files_and_mindspores_version() -> None:
    from mindground import __version__

    assert code_version().startswith(f"{__version__} ") and f"mindspore {ms.__version__}" in code_version()


def _samples() -> list[Sample]:
    box = np.asarray([[1, 2, 3, 4]], np.float32)
    return [Sample(f"/here/{n}.png", f"s{n}", f"i{n}", "a thing", box, ([[1.0, 2.0, 3.0]],)) for n in range(3)]


def test_the_digest_of_samples_sees_everything_but_the_place_of_images() -> None:
    def changed(**what: Any) -> str:
        samples = _samples()
        fields = {**vars(samples[1]), **what}
        return digest_of_samples([samples[0], Sample(**fields), samples[2]])

    first = digest_of_samples(_samples())
    assert first.startswith("3 samples, ") and changed(image_path="/there/1.png") == first
    others = [
        changed(sample_id="t"), changed(expression="another"), changed(expression=None),
        changed(boxes_xyxy=np.asarray([[1, 2, 3, 5]], np.float32)), changed(labels=np.asarray([1])),
        changed(segmentations=([[1.0, 2.0, 4.0]],)), changed(segmentations=({"size": [2, 2], "counts": b"x"},)),
        digest_of_samples(_samples()[::-1]), digest_of_samples(_samples()[:2]),
    ]  # fmt: skip
    assert len({first, *others}) == 10


def test_a_job_compares_code_configuration_seed_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.fakes import fake_config

    config = fake_config(tmp_path, pretrained={"model": str(tmp_path / "w.ckpt")}, resume=str(tmp_path / "last.ckpt"))
    seen: list[Any] = []
    monkeypatch.setattr(engine_agreement, "agree_on", lambda comm, facts: seen.append(facts))
    monkeypatch.setattr(engine_agreement, "agree_on_files", lambda comm, paths: seen.append(list(paths)))
    check_same_job(config, Others())
    assert seen == []
    check_same_job(config, Others(same))
    assert set(seen[0]) == {"code", "configuration", "seed"}
    assert seen[1] == [str(tmp_path / "w.ckpt"), str(tmp_path / "last.ckpt")]


def test_parts_compare_samples_and_vocabulary() -> None:
    def parts(samples: list[Sample], words: str = "a") -> Any:
        loader = SimpleNamespace(dataset=samples)
        tokenizer = SimpleNamespace(to_payload=lambda: {"tokens": words})
        return SimpleNamespace(
            loader=loader, eval_loader=loader, eval_name="val", more_loaders={"test": loader}, tokenizer=tokenizer
        )

    facts: list[Any] = []

    def keep(value: Any) -> Any:
        facts.append(value[1])
        return value

    check_same_parts(parts(_samples()), Others(keep))
    check_same_parts(parts(_samples(), "b"), Others(keep))
    assert set(facts[0]) == {"training data", "split 'val'", "split 'test'", "vocabulary"}
    assert facts[0]["vocabulary"] != facts[1]["vocabulary"] and facts[0]["split 'val'"] == facts[1]["split 'val'"]


def test_only_tensors_that_differ_travel() -> None:
    model = nn.SequentialCell(nn.Dense(3, 4), nn.Dense(4, 2))
    comm = Others(same)
    assert same_parameters(model, comm) == 0 and not comm.broadcast

    def one_differs(digests: list[str]) -> list[str]:
        return [digests[0], "0" * 64, *digests[2:]]

    comm = Others(one_differs)
    assert same_parameters(model, comm) == 4 * 4  # the bias of the first layer
    (sent,) = comm.broadcast
    np.testing.assert_array_equal(sent, model[0].bias.asnumpy())


def test_another_rank_takes_what_the_first_sends() -> None:
    model = nn.Dense(3, 4)

    class Second(Others):
        def broadcast_array_(self, array: np.ndarray) -> None:
            array[...] = 7.0

    comm = Second(lambda digests: ["0" * 64, *digests[1:]])
    comm.rank = 1
    before = model.bias.asnumpy().copy()
    assert same_parameters(model, comm) == 3 * 4 * 4
    assert (model.weight.asnumpy() == 7.0).all() and np.array_equal(model.bias.asnumpy(), before)
