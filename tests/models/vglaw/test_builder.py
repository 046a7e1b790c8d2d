"""Sizes that VG-LAW cannot work with are told before a network is built."""

from __future__ import annotations

import pytest

from mindground.config import load_config
from mindground.errors import ConfigError
from mindground.models.vglaw.builder import build


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("data.img_size=100", "data.img_size=100 is no multiple of the 16 pixels of a patch; use 96"),
        ("data.max_len=500", "data.max_len=500 exceeds the .* positions of the text encoder .*; use"),
    ],
)
def test_sizes_that_cannot_work_are_refused(override: str, says: str) -> None:
    config = load_config(None, ["model.text.vocab_size=20", override])
    with pytest.raises(ConfigError, match=says):
        build(config)
