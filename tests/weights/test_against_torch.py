"""The same files read by PyTorch itself, where it is installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mindground.files.weights import read_weights

torch = pytest.importorskip("torch")
DTYPES = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.lists(st.integers(0, 4), max_size=4),
    dtype=st.sampled_from(DTYPES),
    legacy=st.booleans(),
    layout=st.sampled_from(["plain", "permuted", "strided", "expanded"]),
    wrapped=st.sampled_from(["", "model", "state_dict"]),
)
def test_any_tensor(tmp_path: Path, shape: list[int], dtype: str, legacy: bool, layout: str, wrapped: str) -> None:
    value = (torch.randn(shape) * 50).to(getattr(torch, dtype))
    if layout == "permuted" and value.ndim:
        value = value.permute(*reversed(range(value.ndim)))
    elif layout == "strided" and value.ndim:
        value = value[1::2]
    elif layout == "expanded":
        value = value.unsqueeze(0).expand(3, *value.shape)
    path = tmp_path / "w.pth"
    state = {"a": value, "again": value}
    torch.save({wrapped: state} if wrapped else state, path, _use_new_zipfile_serialization=not legacy)
    found = read_weights(path)
    assert found.format == ("torch-legacy" if legacy else "torch-zip")
    wanted = (value.float() if dtype == "bfloat16" else value).numpy()
    for name in state:
        assert found.tensors[name].dtype == wanted.dtype and found.tensors[name].shape == wanted.shape
        np.testing.assert_array_equal(found.tensors[name], wanted)


def test_a_whole_pickled_module_is_refused(tmp_path: Path) -> None:
    from mindground.errors import UnsafeFileError

    for legacy in (False, True):
        torch.save(torch.nn.Linear(2, 2), tmp_path / "m.pth", _use_new_zipfile_serialization=not legacy)
        with pytest.raises(UnsafeFileError, match="torch.nn.modules.linear.Linear"):
            read_weights(tmp_path / "m.pth")


def test_an_optimiser_beside_the_weights(tmp_path: Path) -> None:
    net = torch.nn.Linear(2, 2)
    optimiser = torch.optim.AdamW(net.parameters())
    net(torch.ones(1, 2)).sum().backward()
    optimiser.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [3])
    content = {"model": net.state_dict(), "optimizer": optimiser.state_dict(), "lr": schedule.state_dict(), "epoch": 1}
    torch.save(content, tmp_path / "c.pth")
    found = read_weights(tmp_path / "c.pth")
    assert set(found.tensors) == {"weight", "bias"} and found.metadata["epoch"] == 1
    assert "optimizer" in found.metadata["left_out"]
