"""Files that ask for code to be run: refused by name, and nothing runs."""

from __future__ import annotations

import builtins
import io
import os
import pickle
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindground.errors import DataError, UnsafeFileError
from mindground.files.pickles import read_plain_pickle
from mindground.files.weights import read_weights
from weights.make_fixtures import Attack, attack_legacy, attack_pickle, attack_zip


def _attacks(marker: Path) -> dict[str, Attack]:
    command = f"touch {marker}"
    return {
        "system": Attack(os.system, command),
        "run": Attack(subprocess.check_call, ["touch", str(marker)]),
        "eval": Attack(eval, f"open({str(marker)!r}, 'w')"),
        "open": Attack(open, str(marker), "w"),
        "getattr": Attack(getattr, "x", "upper"),
        "loads": Attack(pickle.loads, pickle.dumps(Attack(os.system, command))),
        "import": Attack(builtins.__import__, "antigravity"),
        "fromfile": Attack(np.fromfile, str(marker)),
    }


@pytest.mark.parametrize("kind", ["system", "run", "eval", "open", "getattr", "loads", "import", "fromfile"])
@pytest.mark.parametrize("make", [attack_pickle, attack_zip, attack_legacy])
def test_nothing_runs(kind: str, make: Callable[[Path, Any], None], tmp_path: Path) -> None:
    marker, path = tmp_path / "ran", tmp_path / "weights.pth"
    make(path, _attacks(marker)[kind])
    with pytest.raises(UnsafeFileError) as caught:
        read_weights(path)
    assert not marker.exists()
    assert str(path) in str(caught.value)
    names = {"system": "posix.system", "run": ".check_call", "eval": "eval", "open": "open"}
    assert names.get(kind, "") in str(caught.value)


def test_the_attack_would_have_worked(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    pickle.loads(pickle.dumps(_attacks(marker)["system"]))
    assert marker.exists()


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol(protocol: int, tmp_path: Path) -> None:
    marker, path = tmp_path / "ran", tmp_path / "weights.pkl"
    attack_pickle(path, _attacks(marker)["system"], protocol)
    with pytest.raises(UnsafeFileError, match=r"(posix|nt)\.system"):
        read_weights(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    "code",
    [
        b"cos\nsystem\n(S'touch MARK'\ntR.",
        b"(S'touch MARK'\nios\nsystem\n.",
        b"(cos\nsystem\nS'touch MARK'\no.",
        b"ccollections\nOrderedDict\n(dS'x'\nS'y'\ns}\x86b.",
        b"\x80\x02\x82\x01.",
        b"Poutside\n.",
    ],
)
def test_old_and_odd_instructions(code: bytes, tmp_path: Path) -> None:
    marker, path = tmp_path / "ran", tmp_path / "w.pkl"
    path.write_bytes(code.replace(b"MARK", str(marker).encode()))
    with pytest.raises((UnsafeFileError, DataError, Exception)) as caught:
        read_weights(path)
    assert type(caught.value).__module__ == "mindground.errors"
    assert not marker.exists()


def test_a_payload_in_a_nested_torch_file(tmp_path: Path) -> None:
    inner = io.BytesIO()
    marker = tmp_path / "ran"
    legacy = tmp_path / "inner"
    attack_legacy(legacy, _attacks(marker)["system"])
    inner.write(legacy.read_bytes())
    code = b"\x80\x03ctorch.storage\n_load_from_bytes\nB" + len(inner.getvalue()).to_bytes(4, "little")
    path = tmp_path / "outer.pkl"
    path.write_bytes(code + inner.getvalue() + b"\x85R.")
    with pytest.raises(UnsafeFileError, match="system"):
        read_weights(path)
    assert not marker.exists()


def test_scripted_archives_allow_no_more(tmp_path: Path) -> None:
    marker, path = tmp_path / "ran", tmp_path / "w.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/constants.pkl", pickle.dumps(()))
        archive.writestr("m/data.pkl", pickle.dumps(_attacks(marker)["system"]))
    with pytest.raises(UnsafeFileError, match="system"):
        read_weights(path)
    assert not marker.exists()


class TestPlainPickle:
    """Annotation pickles: plain data only."""

    @pytest.mark.parametrize("protocol", range(6))
    def test_plain_data(self, protocol: int, tmp_path: Path) -> None:
        data = [{"ref_id": 1, "sentences": [{"raw": "the réd one", "tokens": ("a", None, 1.5, True, 1 << 70)}]}]
        path = tmp_path / "refs.p"
        path.write_bytes(pickle.dumps(data, protocol))
        assert read_plain_pickle(path) == data

    def test_python_2_texts(self, tmp_path: Path) -> None:
        path = tmp_path / "refs.p"
        path.write_bytes(b"(lp0\n(dp1\nS'sent'\np2\nS'caf\\xc3\\xa9'\np3\nsa.")
        assert read_plain_pickle(path) == [{"sent": "café"}]
        path.write_bytes(b"(lp0\nS'caf\\xe9'\np1\na.")
        assert read_plain_pickle(path) == ["café"]

    def test_names_are_refused(self, tmp_path: Path) -> None:
        marker, path = tmp_path / "ran", tmp_path / "refs.p"
        path.write_bytes(pickle.dumps([_attacks(marker)["system"]]))
        with pytest.raises(UnsafeFileError, match="system"):
            read_plain_pickle(path)
        path.write_bytes(pickle.dumps(np.ones(2)))
        with pytest.raises(UnsafeFileError, match="numpy"):
            read_plain_pickle(path)
        assert not marker.exists()

    def test_damage(self, tmp_path: Path) -> None:
        path = tmp_path / "refs.p"
        data = pickle.dumps([{"a": list(range(50))}], 2)
        for length in range(len(data)):
            path.write_bytes(data[:length])
            with pytest.raises(DataError):
                read_plain_pickle(path)
        with pytest.raises(DataError, match="check the path"):
            read_plain_pickle(tmp_path / "absent.p")
