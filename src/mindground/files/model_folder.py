"""Folders in which weights of others come: weights, their configuration and their vocabulary beside each other."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindground.errors import WeightsError, shown

__all__ = ["ModelFolder", "beside", "find_model", "weights_file"]

_WEIGHTS = (
    "model.safetensors",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    "open_clip_pytorch_model.bin",
    "model.safetensors.index.json",
    "pytorch_model.bin.index.json",
)
_CONFIGS = ("config.json", "open_clip_config.json")
# Kind of tokeniser -> its vocabulary, as published folders call it.
_VOCABULARIES = {
    "wordpiece": ("vocab.txt",),
    "clip_bpe": ("bpe_simple_vocab_16e6.txt.gz", "bpe_simple_vocab_16e6.txt", "merges.txt"),
}
_MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class ModelFolder:
    """What lies beside weights.

    Attributes:
        weights: file of the weights.
        source: file of the configuration, or None.
        config: its content; empty where there is none.
        folder: the folder, where one was named; None where the file itself was.
    """

    weights: Path
    source: Path | None = None
    config: dict[str, Any] | None = None
    folder: Path | None = None

    def vocabulary(self, kind: str) -> Path | None:
        """The vocabulary in a named folder, or None.

        Raises:
            WeightsError: it is for sentences with capitals, which are read in lower case here.
        """
        names = _VOCABULARIES.get(kind, ()) if self.folder is not None else ()
        found = [self.folder / name for name in names if (self.folder / name).is_file()] if self.folder else []
        if found and kind == "wordpiece" and self.folder is not None:
            settings = self.folder / "tokenizer_config.json"
            if settings.is_file() and _read(settings).get("do_lower_case") is False:
                raise WeightsError(
                    f"{settings} says do_lower_case=false, and sentences are read in lower case here; take the uncased "
                    "model"
                )
        return found[0] if found else None


def find_model(path: str | Path) -> ModelFolder:
    """What a path of `train.pretrained` names: a file of weights, or a folder that has one.

    Raises:
        WeightsError: a folder without weights, or a configuration that is no JSON table.
    """
    path = Path(path).expanduser()
    folder = path if path.is_dir() else None
    if folder is not None:
        weights = [folder / name for name in _WEIGHTS if (folder / name).is_file()]
        if not weights:
            raise WeightsError(f"the folder {path} holds no weights; one of {', '.join(_WEIGHTS[:4])} belongs there")
        path = weights[0]
    source = beside(path)
    return ModelFolder(path, source, _read(source) if source is not None else None, folder)


def weights_file(path: str | Path) -> str:
    """The file of weights that a path of `train.pretrained` names."""
    return str(find_model(path).weights) if Path(path).expanduser().is_dir() else str(path)


def beside(path: Path) -> Path | None:
    """The configuration beside a file of weights, or None."""
    found = [path.with_name(name) for name in _CONFIGS if path.with_name(name).is_file()]
    return found[0] if found else None


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            data = stream.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise WeightsError(f"{path} is larger than 1 MiB, which no configuration of a model is")
        found = json.loads(data)
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path} is no readable JSON ({shown(str(error))}); fetch it again") from error
    if not isinstance(found, dict):
        raise WeightsError(f"{path} is {shown(found)}, not a table; fetch it again")
    return found
