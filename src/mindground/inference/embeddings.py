"""Files of many encoded images, see `embedding_file`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mindground.files.images import read_image
from mindground.files.jpegs import warn_of_damage
from mindground.files.outputs import check_outputs, guarded
from mindground.inference.embedding_file import EMBEDDING_SUFFIX, Embedding, write_embedding
from mindground.inference.everything_files import each_image, unique_stems

__all__ = ["EmbeddingResults", "embed_files"]


@dataclass
class EmbeddingResults:
    """Attributes: files that were written; failures: path of an image -> why it could not be used."""

    files: list[Path]
    failures: dict[str, str]


def embed_files(
    predictor: Any,
    images: Sequence[Path],
    out: str | Path,
    *,
    dtype: Literal["float32", "float16"] = "float32",
    bands: Sequence[int] | None = None,
    overwrite: bool = False,
    inputs: Sequence[str | Path] = (),
) -> EmbeddingResults:
    """Encode every image and write `<image>.safetensors` to `out`; an image that cannot be read is reported.

    Args:
        predictor: of a network that answers prompts.
        images: paths, see `find_images`.
        dtype: of the numbers; float16 takes half the space, and answers differ a little.
        bands, overwrite, inputs: as `everything_files`.

    Raises:
        WriteError: a file cannot be written, or must not replace what is there.
    """
    results, names = EmbeddingResults([], {}), unique_stems(images)
    with guarded([*images, *inputs], overwrite=overwrite):
        check_outputs(Path(out) / f"{name}{EMBEDDING_SUFFIX}" for name in names.values())
        for path, name in names.items():
            with each_image(path, results.failures):
                pixels = read_image(path, bands=bands)
                warn_of_damage(path)
                with predictor.open(pixels) as session:
                    made = Embedding(session.embedding, session.size, predictor.network_key, path.name)
                results.files.append(write_embedding(Path(out) / f"{name}{EMBEDDING_SUFFIX}", made, dtype))
    return results
