"""What the configuration beside a published file says of keys here; importing it imports no MindSpore."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mindground.config.registry import SourceKeys
from mindground.errors import WeightsError, shown

__all__ = ["bert_keys", "clip_keys"]

_SIZES = ("hidden_size", "num_attention_heads", "intermediate_size", "max_position_embeddings")
# Entries of BERT's config.json that have one value here, and what they are where they are absent.
_FIXED = {"hidden_act": "gelu", "position_embedding_type": "absolute", "type_vocab_size": 2}
# Names of activations in configurations of CLIP -> ours.
_ACTIVATIONS = {"quick_gelu": "quick_gelu", "gelu": "gelu"}


def bert_keys(config: Mapping[str, Any], section: str) -> SourceKeys:
    """Keys that Hugging Face's config.json of BERT says; empty for a configuration of something else.

    Args:
        config: its content.
        section: of BERT's keys in the family's configuration, `model.text`.

    Raises:
        WeightsError: a size that is none, or a variant of BERT that is not built here.
    """
    if "hidden_size" not in config or config.get("model_type", "bert") != "bert":
        return SourceKeys()
    for name, only in _FIXED.items():
        if config.get(name, only) != only:
            raise WeightsError(f"config.json says {name}={shown(config[name])}, and only {only!r} is read here")
    keys: dict[str, Any] = {f"{section}.{name}": _size(config, name) for name in _SIZES if name in config}
    eps = config.get("layer_norm_eps", 1e-12)
    if isinstance(eps, bool) or not isinstance(eps, (int, float)) or not 0 < eps < 1:
        raise WeightsError(f"config.json says layer_norm_eps={shown(eps)}, which is none")
    keys[f"{section}.layer_norm_eps"] = float(eps)
    most = {}
    if "num_hidden_layers" in config:
        most[f"{section}.num_hidden_layers"] = _size(config, "num_hidden_layers")
    return SourceKeys(keys, most)


def clip_keys(config: Mapping[str, Any], section: str) -> SourceKeys:
    """The activation that config.json (Hugging Face) or open_clip_config.json of CLIP says; empty for something else.

    Args:
        config: its content.
        section: of CLIP's keys in the family's configuration, `model.clip`.

    Raises:
        WeightsError: another activation, two of them, or heads that are not 64 wide.
    """
    inner = config.get("model_cfg", config)
    if isinstance(inner, Mapping) and "vision_cfg" in inner:
        for name in ("vision_cfg", "text_cfg"):
            tower = inner.get(name)
            _check_heads(tower, "width", "heads", name)
        # open_clip's networks have GELU where they do not say quick_gelu.
        return SourceKeys({f"{section}.activation": "quick_gelu" if inner.get("quick_gelu") else "gelu"})
    towers = {name: config.get(name) for name in ("vision_config", "text_config")}
    if not all(isinstance(tower, Mapping) for tower in towers.values()):
        return SourceKeys()
    said = set()
    for name, tower in towers.items():
        _check_heads(tower, "hidden_size", "num_attention_heads", name)
        # Hugging Face writes what differs from its usual values, and quick_gelu is usual.
        said.add(str(tower.get("hidden_act", "quick_gelu")) if isinstance(tower, Mapping) else "")
    if len(said) != 1 or not said <= set(_ACTIVATIONS):
        raise WeightsError(f"config.json says hidden_act {shown(sorted(said))}, and quick_gelu or gelu is read")
    return SourceKeys({f"{section}.activation": _ACTIVATIONS[said.pop()]})


def _check_heads(tower: Any, width: str, heads: str, name: str) -> None:
    """Raises WeightsError where a tower says that its heads are not 64 wide, which is what no shape tells."""
    if not isinstance(tower, Mapping) or width not in tower or heads not in tower:
        return
    if _size(tower, width) != 64 * _size(tower, heads):
        raise WeightsError(
            f"{name} says {heads}={tower[heads]} at a width of {tower[width]}, and the heads of CLIP are 64 wide here"
        )


def _size(config: Mapping[str, Any], name: str) -> int:
    value = config[name]
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1 << 20:
        raise WeightsError(f"config.json says {name}={shown(value)}, which is no size")
    return value
