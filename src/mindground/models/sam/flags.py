"""Flags of segment-anything's scripts that are no options of a verb here, and what to write instead."""

from __future__ import annotations

__all__ = ["REFUSED_FLAGS"]

REFUSED_FLAGS: dict[str, dict[str, str]] = {
    "device": {
        "cuda*": "write --device_target=GPU",
        "cpu": "write --device_target=CPU",
        "*": "write --device_target=auto, GPU, Ascend or CPU",
    },
    "model_type": {"*": "write --model.sam_type={value} to build a network; a checkpoint says what it holds"},
}
