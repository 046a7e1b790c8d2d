"""Files of encoded images: what the image encoder of a promptable network gives, kept so that a session opens at once.

A file is a safetensors container with one tensor, `image_embedding`, and the size of its image and the key of its
network as metadata. Reading one runs nothing of it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mindground.errors import DataError, WeightsError, printable, shown
from mindground.files.safetensors import write_safetensors_atomic
from mindground.files.weights import read_weights
from mindground.structures import check_size

if TYPE_CHECKING:
    from mindground.config import Config
    from mindground.models.base import GroundingModel

__all__ = ["EMBEDDING_SUFFIX", "FORMAT", "Embedding", "network_key", "read_embedding", "write_embedding"]

EMBEDDING_SUFFIX = ".safetensors"
FORMAT = "mindground-image-embedding"
VERSION = "1"
DTYPES = ("float32", "float16")
_TENSOR = "image_embedding"


@dataclass(frozen=True)
class Embedding:
    """One encoded image.

    Attributes:
        values: (1, C, g, g) float32.
        size: (height, width) of the image in pixels.
        network: key of the network that has made it, see `network_key`.
        image: name of the image's file, or empty.
    """

    values: np.ndarray
    size: tuple[int, int]
    network: str
    image: str = ""


def network_key(model: GroundingModel, config: Config | None) -> str:
    """16 hexadecimal digits that change with the weights of the image encoder and with how images are prepared."""
    from mindground.engine.features import encoder_hash

    settings: dict[str, Any] = {} if config is None else asdict(config.model)
    prepared = [] if config is None else [config.data.img_size, list(config.data.mean), list(config.data.std)]
    own = f"{encoder_hash(model, 'image', settings)} {json.dumps(prepared)}"
    return hashlib.sha256(own.encode()).hexdigest()[:16]


def write_embedding(path: str | Path, embedding: Embedding, dtype: Literal["float32", "float16"] = "float32") -> Path:
    """Write one file and return its path.

    Raises:
        DataError: the numbers are not finite in `dtype`.
        WriteError: it cannot be written, or must not replace what is there.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype={dtype!r} is none of {', '.join(DTYPES)}")
    with np.errstate(over="ignore"):
        values = np.asarray(embedding.values).astype(dtype)
    if not np.isfinite(values).all():
        raise DataError(f"{path}: the embedding is not finite in {dtype}; take float32, or another checkpoint")
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "network": embedding.network,
        "size": json.dumps(list(embedding.size)),
        "image": printable(embedding.image, 300),
    }
    return write_safetensors_atomic(path, {_TENSOR: values}, metadata)


def read_embedding(path: str | Path, network: str | None = None) -> Embedding:
    """Read one file.

    Args:
        network: key of the network that shall use it; None accepts any.

    Raises:
        DataError: it is no such file, or damaged, or belongs to another network.
    """
    name = printable(path, 300)
    try:
        found = read_weights(path)
    except WeightsError as error:
        raise DataError(f"{error}") from error
    metadata, values = found.metadata, found.tensors.get(_TENSOR)
    if metadata.get("format") != FORMAT:
        raise DataError(f"{name}: is no file of an encoded image; write one with `mindground predict --embed DIR`")
    if metadata.get("version") != VERSION:
        raise DataError(f"{name}: has version {shown(metadata.get('version'))}, this program reads {VERSION}")
    if values is None or set(found.tensors) != {_TENSOR} or values.dtype.name not in DTYPES:
        raise DataError(f"{name}: does not hold one tensor {_TENSOR} of float16 or float32; write it again")
    if values.ndim != 4 or values.shape[0] != 1 or values.shape[2] != values.shape[3] or 0 in values.shape:
        raise DataError(f"{name}: {_TENSOR} is {shown(values.shape)}, not (1, C, g, g); write it again")
    if not np.isfinite(values).all():
        raise DataError(f"{name}: holds numbers that are not finite; write it again")
    try:
        size = json.loads(str(metadata.get("size")))
    except (ValueError, RecursionError):
        size = metadata.get("size")
    size = check_size(size, f"{name}: the size of the image")
    if network is not None and metadata.get("network") != network:
        raise DataError(
            f"{name}: was encoded by network {shown(metadata.get('network'))}, and this one is {network!r}; encode the "
            "image again with `mindground predict --embed DIR`, or take the checkpoint that it belongs to"
        )
    image = str(metadata.get("image", ""))
    return Embedding(np.ascontiguousarray(values, np.float32), size, str(metadata.get("network")), image)
