"""Before the first step: all ranks have the same code, configuration, files, data and weights."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import mindspore as ms
import numpy as np
from mindspore import nn

from mindground.engine.vocabulary import digest_of_sentences
from mindground.runtime.agreement import agree_on, agree_on_files, code_version
from mindground.structures import Sample

if TYPE_CHECKING:
    from mindground.config import Config
    from mindground.engine.assemble import RunParts

__all__ = ["check_same_job", "check_same_parts", "digest_of_samples", "same_parameters"]

_LOG = logging.getLogger("mindground")


def check_same_job(config: Config, comm: Any) -> None:
    """Compare what is known before anything is read: code, configuration, seeds, and the files of weights.

    Raises:
        DeviceError: on every rank; it names the machines that have something else, or lack a file.
    """
    if comm.size == 1:
        return
    from mindground.config import fingerprint

    agree_on(
        comm,
        {"code": code_version(), "configuration": fingerprint(config), "seed": str(config.train.seed)},
    )
    train = config.train
    files = [*train.pretrained.values(), config.data.vocab]
    if train.resume not in ("", "auto"):
        files.append(train.resume)
    agree_on_files(comm, filter(None, files))


def check_same_parts(parts: RunParts, comm: Any) -> None:
    """Compare the samples of every split, in their order, and the vocabulary.

    Raises:
        DeviceError: on every rank; it names the machines whose data are others.
    """
    if comm.size == 1:
        return
    loaders = {"training data": parts.loader, parts.eval_name: parts.eval_loader, **parts.more_loaders}
    facts = {
        (name if name == "training data" else f"split {name!r}"): digest_of_samples(loader.dataset)
        for name, loader in loaders.items()
        if loader is not None
    }
    if parts.tokenizer is not None:
        payload = json.dumps(parts.tokenizer.to_payload(), sort_keys=True, default=repr)
        facts["vocabulary"] = hashlib.sha256(payload.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    agree_on(comm, facts)


def digest_of_samples(samples: Iterable[Sample]) -> str:
    """Number of samples, and digits that change with ids, sentences, boxes, labels, outlines and their order.

    Paths are left out: machines may have the same images in different places.
    """
    total, count, sentences = hashlib.sha256(), 0, []
    for sample in samples:
        count += 1
        words = [sample.sample_id, sample.image_id, str(sample.size), str(len(sample.segmentations))]
        total.update("\0".join(words).encode("utf-8", "surrogatepass"))
        total.update(sample.boxes_xyxy.tobytes() + sample.labels.tobytes())
        for outline in sample.segmentations:
            _add_outline(total, outline)
        sentences.append(sample.expression or "")
    total.update(digest_of_sentences(sentences).encode())
    return f"{count} samples, {total.hexdigest()[:12]}"


def _add_outline(total: Any, outline: Any) -> None:
    if isinstance(outline, list):
        for part in outline:
            total.update(np.asarray(part, np.float32).tobytes())
    elif isinstance(outline, dict):
        counts = outline.get("counts", b"")
        total.update(counts if isinstance(counts, bytes) else str(counts).encode("utf-8", "surrogatepass"))


def same_parameters(model: nn.Cell, comm: Any) -> int:
    """Give all ranks the parameters of the first, whatever their own initialisation was.

    Equal seeds and equal files make equal parameters, so usually only digests travel.

    Returns:
        The number of bytes that were sent to every rank.
    """
    if comm.size == 1:
        return 0
    parameters = [parameter for _, parameter in model.parameters_and_names()]
    values = [np.ascontiguousarray(parameter.asnumpy()) for parameter in parameters]
    digests = [hashlib.sha256(value.view(np.uint8).reshape(-1).data).hexdigest() for value in values]
    everybody = comm.all_gather_object(digests)
    differ = [place for place, theirs in enumerate(zip(*everybody, strict=True)) if len(set(theirs)) > 1]
    for place in differ:
        value = np.array(values[place])
        comm.broadcast_array_(value)
        if comm.rank:
            parameters[place].set_data(ms.Tensor(value, parameters[place].dtype))
    sent = sum(values[place].nbytes for place in differ)
    if differ and comm.rank == 0:
        _LOG.info("%d of %d tensors came from the first rank (%.1f MB)", len(differ), len(values), sent / 1e6)
    return sent
