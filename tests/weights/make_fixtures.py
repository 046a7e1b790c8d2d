"""Make the small weight files that the tests read where PyTorch is not installed.

    python tests/weights/make_fixtures.py

Needs PyTorch and MindSpore. `expected.npz` holds the same tensors as plain arrays. The hostile files are made by
`malicious`, which needs neither.
"""

from __future__ import annotations

import argparse
import io
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

FIXTURES = Path(__file__).parent / "fixtures"


class Attack:
    """Pickles as a call of `function(*arguments)`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self._call


def attack_pickle(path: Path, payload: Any, protocol: int = 2) -> None:
    """A detectron2-like pickle with a payload deep inside."""
    path.write_bytes(pickle.dumps({"model": {"w": np.ones(2, np.float32), "x": [payload]}}, protocol))


def attack_zip(path: Path, payload: Any) -> None:
    """A torch-like archive with a payload in data.pkl."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"state_dict": OrderedDict(w=payload)}, 2))
        archive.writestr("archive/version", "3\n")


def attack_legacy(path: Path, payload: Any) -> None:
    """A torch file of the old form with a payload in its second part."""
    out = io.BytesIO()
    for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, {"w": payload}, []):
        pickle.dump(part, out, 2)
    path.write_bytes(out.getvalue())


def main() -> None:
    """Write the fixtures."""
    import mindspore as ms
    import torch
    from safetensors.torch import save_file

    FIXTURES.mkdir(exist_ok=True)
    torch.manual_seed(0)
    base = torch.randn(6, 4)
    state = OrderedDict(
        base=base,
        transposed=base.t(),
        window=base[1:5:2, ::2],
        half=base.half(),
        bfloat=base.bfloat16(),
        integers=torch.arange(5),
        flags=torch.tensor([True, False]),
        parameter=torch.nn.Parameter(torch.ones(2)),
        empty=torch.zeros(0, 3),
        scalar=torch.tensor(3.5),
        expanded=torch.ones(1).expand(4),
    )
    state._metadata = {"": {"version": 1}}
    whole = {
        "model": state,
        "epoch": 3,
        "args": argparse.Namespace(lr=0.1, names=["a"]),
        "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}},
    }
    torch.save(whole, FIXTURES / "zip.pth")
    torch.save(whole, FIXTURES / "legacy.pth", _use_new_zipfile_serialization=False)
    torch.jit.script(torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))).save(FIXTURES / "script.pt")
    arrays = {name: value.detach().float().numpy() for name, value in state.items() if name == "bfloat"}
    arrays |= {name: value.detach().numpy() for name, value in state.items() if name != "bfloat"}
    np.savez_compressed(FIXTURES / "expected.npz", **arrays)
    plain = {name: array for name, array in arrays.items() if name in ("base", "half", "integers", "scalar")}
    for protocol in (0, 2, 5):
        content = {"model": {**plain, "torch": base.clone()}, "__author__": "tests"}
        (FIXTURES / f"detectron2_{protocol}.pkl").write_bytes(pickle.dumps(content, protocol))
    save_file(
        {"base": base, "bfloat": base.bfloat16(), "half": base.half()}, FIXTURES / "plain.safetensors", {"a": "b"}
    )
    values = [{"name": name, "data": ms.Tensor(array)} for name, array in plain.items()]
    values.append({"name": "bfloat", "data": ms.Tensor(arrays["bfloat"], ms.bfloat16)})
    ms.save_checkpoint(values, str(FIXTURES / "mindspore.ckpt"), append_dict={"note": "hi", "epoch": 3})


if __name__ == "__main__":
    main()
