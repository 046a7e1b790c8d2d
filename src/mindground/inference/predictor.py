"""Ask a trained model about an image of one's own.

    p = Predictor.load("runs/quickstart/best.ckpt")
    p("scene.jpg", "the ship left of the pier")            -> Prediction
    p("scene.jpg", ["the ship ...", "the largest tank"])   -> list of Prediction

Nothing here knows a family: what a network takes stands in its `input_names`, and what its outputs
mean in its `decode`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, overload

import numpy as np

from mindground.errors import CheckpointError, DataError, ImageError
from mindground.files.images import read_image, to_rgb8
from mindground.structures import Batch, Geometry, Prediction, Sample, xyxy_to_xywh

if TYPE_CHECKING:
    from PIL import Image

    from mindground.config import Config
    from mindground.models.base import GroundingModel

__all__ = ["Predictor", "as_rgb", "at_least", "check_sentence", "to_coco"]

_LOG = logging.getLogger("mindground")


class _Example(Protocol):
    arrays: dict[str, np.ndarray]
    geometry: Geometry
    sample: Sample


class _Transform(Protocol):
    def from_image(self, image: np.ndarray, expression: str) -> Any: ...

    def with_sentence(self, example: Any, expression: str) -> Any: ...


# Lengths, in tokens, to which sentences are cut where a network allows it: few, because graph mode compiles for each.
_LENGTHS = (16, 32)
# Sentences computed together at most: of one encoded image a row is only a sentence's share, otherwise a whole network.
_ROWS_OF_ONE_IMAGE, _WHOLE_ROWS = 16, 4


class Predictor:
    """A network, its transforms and its vocabulary, ready for images and sentences.

    Args:
        model: the network, with its weights.
        transform: has `from_image(image, expression)`, which gives the arrays the network takes, and
            `with_sentence(example, expression)` for the same picture.
        batch_size: sentences about one image that are computed together at most. None: 16 where the
            network keeps image and sentence apart until late, for then the image is encoded once for
            all of them, otherwise 4. A call makes its batches as large as the next power of two that
            holds its sentences, within this limit, so that graph mode compiles for few shapes.
        graph: compile the network once; False runs it operator by operator.
        name: what results call this model, for instance the checkpoint's file name.
        config: the configuration the checkpoint was trained with, if it came from one.
    """

    def __init__(
        self,
        model: GroundingModel,
        transform: _Transform,
        *,
        batch_size: int | None = None,
        graph: bool = True,
        name: str = "",
        config: Config | None = None,
    ) -> None:
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        self.model = model
        self.transform = transform
        self.batch_size = batch_size or (_ROWS_OF_ONE_IMAGE if model.image_names else _WHOLE_ROWS)
        self.name = name
        self.config = config
        self.model.set_train(False)
        from mindground.engine.evaluator import Forward, SplitForward

        self._forward = Forward(model, graph=graph)
        self._split = SplitForward(model, graph=graph) if model.image_names else None

    @classmethod
    def load(
        cls,
        path: str | Path,
        device: Literal["auto", "Ascend", "GPU", "CPU"] = "auto",
        *,
        mode: Literal["GRAPH", "PYNATIVE"] = "GRAPH",
        batch_size: int | None = None,
        adjust: Callable[[Config], Config] | None = None,
    ) -> Predictor:
        """Open a checkpoint; it holds configuration and vocabulary, so nothing else is needed.

        Args:
            device: as `device.device_target` of the configuration; "auto" takes the best there is.
            mode: GRAPH compiles once and is then faster, PYNATIVE starts at once.
            batch_size: as of the class.
            adjust: changes the checkpoint's configuration before the network is built.
        Raises:
            CheckpointError: no such file, or not a checkpoint of MindGround.
            DeviceError: this machine does not offer that device.
        """
        from mindground.runtime import device as devices

        devices.prepare()  # before anything imports MindSpore
        from mindground.config import DeviceConfig, from_dict, to_dict
        from mindground.data.transforms import make_transform
        from mindground.engine.checkpoint import load_checkpoint, read_checkpoint

        contents = read_checkpoint(path)  # a wrong file is told before a device is claimed
        if adjust is not None:
            contents = replace(contents, config=to_dict(adjust(from_dict(contents.config, source=str(path)))))
        devices.apply(DeviceConfig(device_target=device, mode_name=mode))
        loaded = load_checkpoint(contents)
        if loaded.tokenizer is None:
            raise CheckpointError(
                f"{path} holds no vocabulary, so it cannot read a sentence; take a trained checkpoint"
            )
        transform = make_transform("referring", loaded.config.data, loaded.tokenizer, training=False)
        return cls(
            loaded.model,
            transform,
            batch_size=batch_size,
            graph=mode == "GRAPH",
            name=Path(path).name,
            config=loaded.config,
        )

    @overload
    def __call__(self, image: Any, text: str, min_score: float = 0.0) -> Prediction: ...

    @overload
    def __call__(self, image: Any, text: Sequence[str], min_score: float = 0.0) -> list[Prediction]: ...

    def __call__(self, image: Any, text: str | Sequence[str], min_score: float = 0.0) -> Prediction | list[Prediction]:
        """Find what a sentence, or each of several, points at.

        Args:
            image: a path, a Pillow image, or an (H, W), (H, W, 3) RGB or (H, W, 4) array.
            text: one sentence gives one prediction, a list gives a list in its order.
            min_score: what the model is less sure of is left out; a prediction without boxes then
                says that nothing was found. A network for one referent always names something, so
                this threshold is the only "not in the picture" it can give.
        Raises:
            ImageError: not an image. DataError: an empty sentence.
        """
        pixels = as_rgb(image)
        sentences = [text] if isinstance(text, str) else list(text)
        checked = [check_sentence(sentence) for sentence in sentences]
        if not checked:
            return []
        first = self.transform.from_image(pixels, checked[0])
        examples = [first, *(self.transform.with_sentence(first, sentence) for sentence in checked[1:])]
        features = None
        if self._split is not None and len(examples) > 1:
            features = self._split.encode(self._batch(examples[:1], 1))
        rows = min(1 << (len(examples) - 1).bit_length(), self.batch_size)
        found: list[Prediction] = []
        for start in range(0, len(examples), rows):
            found += self._predict(examples[start : start + rows], features, rows)
        for sentence, prediction in zip(sentences, found, strict=True):
            prediction.expression = sentence
        found = [at_least(prediction, min_score) for prediction in found]
        return found[0] if isinstance(text, str) else found

    def _predict(self, examples: Sequence[_Example], features: Any, rows: int) -> list[Prediction]:
        """At most `rows` examples through the network; `features` of their image where it is encoded already."""
        batch = self._batch(examples, 1 if len(examples) == 1 and features is None else rows)
        if features is None or self._split is None:
            outputs = self._forward(batch)
        else:
            outputs = self._split(features, batch)
        return self.model.decode(outputs, batch)

    def _batch(self, examples: Sequence[_Example], rows: int) -> Batch:
        """Examples as a batch of a fixed number of rows, sentences cut where the network allows it."""
        padded = [*examples, *[examples[-1]] * (rows - len(examples))]
        arrays = {
            name: np.stack([example.arrays[name] for example in padded])
            for name in self.model.input_names
            if name in padded[0].arrays
        }
        if self.model.trims_text:
            longest = int(arrays["token_mask"].sum(1).max())
            cut = next((length for length in _LENGTHS if longest <= length), None)
            for name in ("token_ids", "token_mask"):
                arrays[name] = np.ascontiguousarray(arrays[name][:, :cut])
        return Batch(arrays, [e.sample for e in padded], [e.geometry for e in padded], len(examples))


def check_sentence(sentence: str) -> str:
    """The sentence without outer blanks. Raises DataError when nothing is left or it is not text."""
    if not isinstance(sentence, str):
        raise DataError(f"a sentence must be text, not {type(sentence).__name__}")
    stripped = sentence.strip()
    if not any(character.isprintable() and not character.isspace() for character in stripped):
        raise DataError("the sentence is empty; say in words what to find")
    return stripped


def as_rgb(image: Any) -> np.ndarray:
    """A path, a Pillow image or an array -> (H, W, 3) uint8 RGB; the input is not changed.

    Arrays: (H, W) or (H, W, 1) grey, (H, W, 3) RGB, (H, W, 4) RGBA, whose colour is kept and whose
    alpha is dropped. Values other than 8-bit ones are scaled as `data.images.to_rgb8` says.

    Raises:
        ImageError: not an image, or an array of another shape.
    """
    if isinstance(image, (str, Path)):
        return read_image(image)
    if not isinstance(image, np.ndarray) and hasattr(image, "getexif"):
        return _from_pillow(image)
    pixels = np.asarray(image)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    right_shape = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (3, 4))
    if not right_shape or 0 in pixels.shape or pixels.dtype.kind not in "buif":
        raise ImageError(
            "an image array must be numbers of shape (height, width), (height, width, 3) or (height, width, 4); "
            f"this one is {pixels.shape} {pixels.dtype}"
        )
    return to_rgb8(pixels.astype(np.uint8) * 255 if pixels.dtype == np.bool_ else pixels)


def _from_pillow(image: Image.Image) -> np.ndarray:
    """Turn a Pillow image upright and to RGB bytes."""
    from PIL import ImageOps

    try:
        upright = ImageOps.exif_transpose(image)
        deep = upright.mode.startswith("I") or upright.mode == "F"
        if not deep:
            has_alpha = upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info
            upright = upright.convert("RGBA" if has_alpha else "RGB")
        return to_rgb8(np.asarray(upright))
    except (OSError, ValueError) as error:
        raise ImageError(f"the image cannot be decoded: {error}; check that its file is whole") from error


def at_least(prediction: Prediction, min_score: float) -> Prediction:
    """The prediction without what scores below `min_score`; it may be left empty."""
    keep = np.flatnonzero(prediction.scores >= min_score)
    if len(keep) == len(prediction.scores):
        return prediction
    labels = None if prediction.labels is None else prediction.labels[keep]
    masks = tuple(prediction.masks[i] for i in keep) if prediction.masks else ()
    return Prediction(
        prediction.size,
        prediction.boxes_xyxy[keep],
        prediction.scores[keep],
        labels,
        masks,
        prediction.expression,
        dict(prediction.extras),
    )


def to_coco(prediction: Prediction, image_id: int | str = 0) -> list[dict[str, Any]]:
    """COCO-style result records: box as [left, top, width, height], mask as RLE, all in original pixels."""
    records = []
    labels = np.zeros(len(prediction.scores), np.int64) if prediction.labels is None else prediction.labels
    for index, box in enumerate(xyxy_to_xywh(prediction.boxes_xyxy)):
        record: dict[str, Any] = {
            "image_id": image_id,
            "category_id": int(labels[index]),
            "bbox": [round(float(value), 3) for value in box],
            "area": round(float(box[2] * box[3]), 3),
            "score": round(float(prediction.scores[index]), 6),
        }
        if prediction.expression is not None:
            record["text"] = prediction.expression
        if prediction.masks:
            record["segmentation"] = dict(prediction.masks[index])
            record["area"] = int(prediction.mask_arrays()[index].sum())
        records.append(record)
    return records
