"""MindGround: find what a sentence points at in an image, on MindSpore."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mindground.engine.checkpoint import load_checkpoint
    from mindground.inference.grounded import GroundedPredictor
    from mindground.inference.predictor import Predictor
    from mindground.models import build_model, list_models

__all__ = ["GroundedPredictor", "Predictor", "build_model", "list_models", "load_checkpoint"]
__version__ = "0.1.0"

# MindSpore takes more than a second to import; names are resolved when they are first used.
_HOMES = {
    "GroundedPredictor": "mindground.inference.grounded",
    "Predictor": "mindground.inference.predictor",
    "build_model": "mindground.models",
    "list_models": "mindground.models",
    "load_checkpoint": "mindground.engine.checkpoint",
}


def _of(module: str, name: str) -> Any:
    """An attribute of a module that is imported now."""
    return getattr(importlib.import_module(module), name)


def _hand_in_sources() -> None:
    """Tell `config.registry`, when it is first asked, where families, data sets and recipes are; nothing is imported
    before.
    """
    from mindground.config import registry

    registry.hand_in(
        registry.Sources(
            families=lambda: _of("mindground.models", "families")(),
            family=lambda name: _of("mindground.models", "family_facts")(name),
            formats=lambda: _of("mindground.data.formats.registry", "FORMATS"),
            recipes=lambda: _of("mindground.data.transforms", "RECIPES"),
        )
    )


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mindground' has no attribute {name!r}")
    from mindground.runtime import device

    device.prepare()  # some of these homes import MindSpore, which reads its start-up settings then
    return _of(_HOMES[name], name)
