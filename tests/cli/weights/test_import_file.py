"""What `mindground weights import` refuses before it builds a network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mindground.cli.verbs import main
from mindground.files.safetensors import write_safetensors_atomic

FIXTURE = Path(__file__).resolve().parents[2] / "engine" / "fixtures" / "schema1" / "vglaw" / "best.ckpt"


def test_a_checkpoint_of_ours_needs_no_import(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new.ckpt"
    for source in (
        FIXTURE,
        write_safetensors_atomic(tmp_path / "own.ckpt", {"model/a": np.ones(1)}, {"mindground": "{}"}),
    ):
        assert main(["weights", "import", str(source), "--family", "vglaw", "--out", str(out)]) == 2
        said = capsys.readouterr().err
        assert f"{source} is a MindGround checkpoint already" in said
        assert "--ckpt to eval, show and predict" in said and "--train.pretrained.model" in said
    assert not out.exists()
