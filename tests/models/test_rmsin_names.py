"""The family is written here, not copied: names that only the upstream repositories use stand where files are read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

SOURCES = Path(__file__).resolve().parents[2] / "src" / "mindground"
FILES = sorted([*(SOURCES / "models" / "rmsin").glob("*.py"), *(SOURCES / "backbones").glob("swin*.py")])
# Classes and functions of RMSIN and LAVT-RIS.
CLASSES = (
    "MultiModalSwinTransformer MMBasicLayer PWAM SpatialImageLanguageAttention SimpleDecoding LAVTOne "
    "_LAVTSimpleDecode _LAVTOneSimpleDecode RepBlock RountingFunction AdaptiveRotatedConv2d "
    "batch_rotate_multiweight _get_rotation_matrix init_demo_model add_random_boxes NestedTensor"
).split()
# Names inside their state dicts: they are spelt in the map of names alone.
KEYS = ("rounting_func", "brb_3x3", "brb_identity", "image_lang_att", "project_mm.0", "conv2_4", "intra_ff", "csa1.m")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_name_of_the_upstream_programs(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    code = re.sub(r'"""(?:.|\n)*?"""|#.*', "", text)  # papers may be named in comments
    found = [name for name in CLASSES if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", code)]
    if path.name != "weights.py":
        found += [name for name in KEYS if name in code]
    assert not found


def test_the_names_would_be_found() -> None:
    weights = (SOURCES / "models" / "rmsin" / "weights.py").read_text(encoding="utf-8")
    written = [name for name in KEYS if name in weights]
    assert len(FILES) > 10 and len(written) >= len(KEYS) - 2  # the others are put together there


def test_the_page_says_so() -> None:
    page = (SOURCES.parents[1] / "docs" / "models" / "rmsin.md").read_text(encoding="utf-8")
    assert "No code of these repositories is used here: LAVT's is under GPL-3.0, RMSIN's has no licence." in page
