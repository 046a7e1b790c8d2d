"""Prediction with a trained model on any image.

    p = Predictor.load("runs/quickstart/best.ckpt")
    p("scene.jpg", "the ship left of the pier")            -> Prediction
    p("scene.jpg", ["the ship ...", "the largest tank"])   -> list of Prediction
    p("scene.jpg")                                         -> Prediction, for a model that finds every instance

Nothing here depends on a family: a network says what it takes in `input_names`, what is computed once per image in
`encoders`, how it computes in `infer` and what its outputs mean in `decode`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, overload

import numpy as np

from mindground.errors import CheckpointError, DataError, ImageError, printable
from mindground.inference.embedding_file import EMBEDDING_SUFFIX, network_key, read_embedding
from mindground.inference.found import found_in
from mindground.inference.images import as_rgb
from mindground.runtime.threads import one_at_a_time
from mindground.structures import Batch, Example, Prediction, ProbabilityMap
from mindground.visualize.caption import plain_caption

if TYPE_CHECKING:
    from mindground.config import Config
    from mindground.models.base import GroundingModel
    from mindground.tasks import Task
    from mindground.visualize.caption import Caption

__all__ = ["Predictor", "as_rgb", "check_min_score", "check_sentence"]


class _Transform(Protocol):
    def from_image(self, image: np.ndarray, expression: str | None = None) -> Example: ...

    def with_expression(self, example: Example, expression: str) -> Example: ...


# Lengths in tokens to which the padding is cut where a network allows it: few, because graph mode compiles for each.
_LENGTHS = (16, 32)
# The most sentences in one batch: where the image is encoded once for all of them, and where the whole network runs
# for each.
_SHARED_IMAGE, _WHOLE_NETWORK = 16, 4
# Arrays of the sentence; an encoder that reads none of them depends on the image only.
_TEXT_ARRAYS = frozenset({"token_ids", "token_mask"})


class Predictor:
    """A network, its transforms and its vocabulary, ready for images and, where the network reads them, sentences.

    Any number of threads may call any number of predictors: images are read and prepared at the same time, networks
    run one after another, because MindSpore compiles and runs one graph at a time in a process.

    Args:
        model: the network, with its weights.
        transform: makes the network's input arrays from an image and a sentence.
        asks_expression: False for a network that finds every instance without a sentence.
        batch_size: the most sentences about one image in one batch. None: 16 where the network encodes the
            image independently of the sentence, and so once for all of them, otherwise 4. A call rounds
            its number of sentences up to a power of two, within this limit, so that graph mode compiles
            for few shapes.
        graph: compile the network; False runs it operator by operator.
        precision: see `load`.
        name: name of the model in results, for instance the checkpoint's file name.
        config: the configuration the checkpoint was trained with, if it came from one.
        categories: id -> name of the labels, where the model has classes.
    """

    def __init__(
        self,
        model: GroundingModel,
        transform: _Transform,
        *,
        asks_expression: bool = True,
        batch_size: int | None = None,
        graph: bool = True,
        precision: str = "float32",
        name: str = "",
        config: Config | None = None,
        categories: Mapping[int, str] | None = None,
    ) -> None:
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        from mindground.engine.forward import Runner

        self.model, self.transform, self.asks_expression = model, transform, asks_expression
        self.name, self.config, self.categories = name, config, dict(categories or {})
        self._bands = (config.data.bands or None) if config is not None else None
        # Of a checkpoint; a network that is handed in alone has none.
        self._task: Task | None = None
        self.model.set_train(False)
        self._runner = Runner(model, graph=graph, precision=precision)
        # Encoders that run once for many sentences about one image.
        self._shared: tuple[str, ...] = ()
        if model.shares_image_features:
            self._shared = tuple(n for n, part in model.encoders.items() if not _TEXT_ARRAYS.intersection(part.inputs))
        self.batch_size = batch_size or (_SHARED_IMAGE if self._shared else _WHOLE_NETWORK)

    @classmethod
    def load(
        cls,
        path: str | Path,
        device: Literal["auto", "Ascend", "GPU", "CPU"] = "auto",
        *,
        mode: Literal["GRAPH", "PYNATIVE"] = "GRAPH",
        precision: Literal["float32", "float16", "bfloat16"] = "float32",
        batch_size: int | None = None,
        adjust: Callable[[Config], Config] | None = None,
    ) -> Predictor:
        """Load a checkpoint, which holds configuration and vocabulary, so that nothing else is needed.

        Args:
            device: as `device.device_target` of the configuration; "auto" takes the fastest available.
            mode: GRAPH compiles once and is faster afterwards, PYNATIVE starts at once.
            precision: in which the network computes, whatever the training used; CPUs have float32 only.
            batch_size: see the class.
            adjust: applies overrides to the stored configuration before the network is built.

        Raises:
            CheckpointError: there is no such file, or it is not a checkpoint of MindGround.
            DeviceError: this machine does not have that device.
        """
        with one_at_a_time():
            return cls._load(path, device, mode=mode, precision=precision, batch_size=batch_size, adjust=adjust)

    @classmethod
    def _load(
        cls,
        path: str | Path,
        device: Literal["auto", "Ascend", "GPU", "CPU"],
        *,
        mode: Literal["GRAPH", "PYNATIVE"],
        precision: Literal["float32", "float16", "bfloat16"],
        batch_size: int | None,
        adjust: Callable[[Config], Config] | None,
    ) -> Predictor:
        from mindground.runtime import device as devices

        devices.prepare()  # before anything imports MindSpore
        from mindground.data.transforms import build_transform
        from mindground.engine.checkpoint import load_checkpoint, read_checkpoint, stored_config
        from mindground.models import model_interface
        from mindground.tasks import task_of

        contents = read_checkpoint(path)  # before the device is selected, so that a wrong file is reported at once
        config = stored_config(contents)
        config = adjust(config) if adjust is not None else config
        devices.apply(device, mode_name=mode, precision=precision, joins=False)
        loaded = load_checkpoint(contents, lambda _: config)
        task = task_of(model_interface(config))
        if task.asks_expression and loaded.tokenizer is None:
            raise CheckpointError(
                f"{path} holds no vocabulary, so it cannot read a sentence; take a trained checkpoint"
            )
        made = cls(
            loaded.model,
            build_transform(config.data, task.kind, task.truth, tokenizer=loaded.tokenizer),
            asks_expression=task.asks_expression,
            batch_size=batch_size,
            graph=mode == "GRAPH",
            precision=precision,
            name=Path(path).name,
            config=config,
            categories=loaded.categories,
        )
        made._task = task
        return made

    def caption(self, prediction: Prediction, min_score: float | None = None) -> Caption:
        """The words of a figure of a prediction, as its task says them (`visualize.draw(..., caption=...)`).

        Args:
            min_score: what scores less is not shown; None takes the task's own threshold.
        """
        if self._task is None:
            return plain_caption(prediction, min_score)
        return self._task.caption(None, prediction, self.categories, min_score)

    @overload
    def __call__(
        self,
        image: Any,
        text: str | None = None,
        min_score: float = 0.0,
        *,
        bgr: bool = False,
        bands: Sequence[int] | None = None,
        probability: bool = False,
    ) -> Prediction: ...

    @overload
    def __call__(
        self,
        image: Any,
        text: Sequence[str],
        min_score: float = 0.0,
        *,
        bgr: bool = False,
        bands: Sequence[int] | None = None,
        probability: bool = False,
    ) -> list[Prediction]: ...

    def __call__(
        self,
        image: Any,
        text: str | Sequence[str] | None = None,
        min_score: float = 0.0,
        *,
        bgr: bool = False,
        bands: Sequence[int] | None = None,
        probability: bool = False,
    ) -> Prediction | list[Prediction]:
        """Find what a sentence, or each of several sentences, refers to; without a sentence, every instance.

        Args:
            image: a path, a Pillow image, or an (H, W), (H, W, 3) RGB or (H, W, 4) RGBA array; which numbers mean
                what is said in `files.pixels.array_to_rgb8`.
            text: one sentence gives one prediction, a list gives a list in its order. None for a network that reads
                no sentence.
            min_score: boxes with a lower score are left out; a prediction without boxes then says that
                nothing was found. A network for one referent always gives a box; a threshold leaves out
                weak answers, and is no test of presence.
            bgr: the array's channels are blue, green, red, as OpenCV reads files.
            bands: three band numbers from 1 that are red, green and blue, or one that is grey; of a TIFF, or of an
                array (H, W, C). None takes `data.bands` of the checkpoint for files, and else what the file names.
            probability: keep how likely each pixel belongs to the mask (`Prediction.probability`).

        Raises:
            ImageError: not an image, or one without these bands.
            DataError: `min_score` for a network that gives no score, an empty sentence, one that is no text, no
                sentence where the network needs one, or one where it reads none, `probability` of a network that
                gives none.
        """
        check_min_score(min_score)
        if probability and not self.gives_probability:
            raise DataError("probability=True: this network gives no mask with a probability of its pixels")
        if min_score > 0 and not self.gives_scores:
            raise DataError(
                f"min_score={min_score} does nothing: this network gives a box without a score; leave it out"
            )
        if bands is None and isinstance(image, (str, Path)):
            bands = self._bands
        pixels = as_rgb(image, bgr=bgr, bands=bands)
        source = image if isinstance(image, (str, Path)) else pixels
        if not self.asks_expression:
            if self.asks_prompt:
                raise DataError(
                    "this network answers points and boxes: with predictor.open(image) as session, call "
                    "session(points=[(x, y)]), session(box=(left, top, right, bottom)) or session.everything()"
                )
            if text is not None:
                raise DataError("this network finds every instance and reads no sentence; leave the sentence out")
            every = self._predict([self.transform.from_image(pixels)], {}, 1, probability)[0].at_least(min_score)
            return found_in(every, source, bands)
        if text is None:
            raise DataError("this network finds what a sentence names; give a sentence")
        sentences = list(text) if isinstance(text, Iterable) and not isinstance(text, (str, bytes)) else [text]
        checked = [check_sentence(sentence) for sentence in sentences]
        if not checked:
            return []
        first = self.transform.from_image(pixels, checked[0])
        examples = [first, *(self.transform.with_expression(first, sentence) for sentence in checked[1:])]
        features = self._image_features(first) if len(examples) > 1 else {}
        size = min(1 << (len(examples) - 1).bit_length(), self.batch_size)
        found: list[Prediction] = []
        for start in range(0, len(examples), size):
            found += self._predict(examples[start : start + size], features, size, probability)
        for sentence, prediction in zip(sentences, found, strict=True):
            prediction.expression = sentence
            prediction.extras["unknown_words"] = self.unknown_words(sentence)
        found = [found_in(prediction.at_least(min_score), source, bands) for prediction in found]
        return found[0] if isinstance(text, str) else found

    def scene(self, image: Any, text: str | Sequence[str] | None = None, **options: Any) -> Any:
        """Find a sentence, or every instance, in an image of any size; see `inference.scene_call.answer_scene`."""
        from mindground.inference.scene_call import answer_scene

        return answer_scene(self, image, text, **options)

    def open(self, image: Any, *, bgr: bool = False, bands: Sequence[int] | None = None) -> Any:
        """A session of prompts about one image, which is encoded once; for networks that answer points and boxes.

        Args:
            image, bgr, bands: see `__call__`. The path of a file that `mindground predict --embed` has written gives a
                session at once, which has no pixels.

        Raises:
            ImageError: not an image, or one without these bands.
            DataError: the network answers no prompts, or an embedding is damaged or belongs to another network.
        """
        if isinstance(image, (str, Path)) and Path(image).suffix == EMBEDDING_SUFFIX:
            if bgr or bands is not None:
                raise ImageError(f"{printable(image, 300)} is an encoded image; bgr and bands mean nothing for it")
            kept = read_embedding(image, self.network_key)
            return self.model.open_session(self._runner, self.transform, None, kept.values, kept.size)
        if bands is None and isinstance(image, (str, Path)):
            bands = self._bands
        return self.model.open_session(self._runner, self.transform, as_rgb(image, bgr=bgr, bands=bands))

    @property
    def asks_prompt(self) -> bool:
        """Whether the network answers points and boxes, and `open` gives a session."""
        from mindground.models.base import GroundingModel

        return type(self.model).open_session is not GroundingModel.open_session

    @cached_property
    def network_key(self) -> str:
        """16 hexadecimal digits of the image encoder and of how images are prepared; files of encoded images hold it.

        Raises:
            DataError: the network answers no prompts.
        """
        if not self.asks_prompt:
            raise DataError("this network answers no points or boxes, and keeps no encoded images")
        return network_key(self.model, self.config)

    @property
    def gives_scores(self) -> bool:
        """Whether predictions carry a confidence; without one `min_score` is refused."""
        return self._task is None or self._task.interface.scored

    @property
    def gives_masks(self) -> bool:
        """Whether an answer holds masks; of a network that is handed in alone, whether it has their logits."""
        return self.gives_probability if self._task is None else "mask" in self._task.interface.answers

    @property
    def gives_probability(self) -> bool:
        """Whether `probability=True` is possible."""
        return bool(self.model.mask_logits)

    def unknown_words(self, sentence: str) -> list[str]:
        """Words of a sentence that the vocabulary does not know; the answer does not depend on what they mean."""
        tokenizer = getattr(self.transform, "tokenizer", None)
        return [] if tokenizer is None else list(tokenizer.unread(sentence))

    def _image_features(self, example: Example) -> dict[str, Any]:
        """The features of one image that do not depend on the sentence."""
        features: dict[str, Any] = {}
        with one_at_a_time():
            for name in self._shared:
                encoder = self.model.encoders[name]
                arrays = {key: example.arrays[key][None] for key in encoder.inputs}
                features.update(zip(encoder.outputs, self._runner.features(name, arrays), strict=True))
        return features

    def _predict(
        self, examples: Sequence[Example], features: Mapping[str, Any], size: int, probability: bool
    ) -> list[Prediction]:
        """Predictions for at most `size` examples; `features` of their image where it is already encoded."""
        batch = self._batch(examples, 1 if len(examples) == 1 and not features else size)
        with one_at_a_time():
            outputs = self.model.infer(self._runner, {**batch.arrays, **features})
            found = self.model.decode(outputs, batch)
        for index, prediction in enumerate(found if probability else ()):
            # A copy: the rest of the batch is not kept with it.
            logits = np.array(outputs[self.model.mask_logits][index, 0], np.float32)
            prediction.probability = ProbabilityMap(logits, batch.geometries[index])
        return found

    def _batch(self, examples: Sequence[Example], size: int) -> Batch:
        """Examples as a batch of a fixed size, with less padding of the sentences where the network allows it."""
        padded = [*examples, *[examples[-1]] * (size - len(examples))]
        arrays = {
            name: np.stack([example.arrays[name] for example in padded])
            for name in self.model.input_names
            if name in padded[0].arrays
        }
        if self.model.cuts_text:
            longest = int(arrays["token_mask"].sum(1).max())
            cut = next((length for length in _LENGTHS if longest <= length), None)
            for name in ("token_ids", "token_mask"):
                arrays[name] = np.ascontiguousarray(arrays[name][:, :cut])
        return Batch(arrays, [e.sample for e in padded], [e.geometry for e in padded], len(examples))


def check_min_score(value: float) -> float:
    """The threshold itself. Raises DataError when it is no finite number; nothing would ever be below it."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not math.isfinite(value):
        raise DataError(f"min_score is {value!r}; give a number, usually from 0 to 1")
    return float(value)


def check_sentence(sentence: str) -> str:
    """The sentence without leading and trailing white space. Raises DataError when it is empty or not text."""
    if not isinstance(sentence, str):
        raise DataError(f"a sentence must be text, not {type(sentence).__name__}")
    stripped = sentence.strip()
    if not any(character.isprintable() and not character.isspace() for character in stripped):
        raise DataError("the sentence is empty; write what to find")
    try:
        stripped.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(f"the sentence {ascii(stripped[:60])} is no valid Unicode; write it as UTF-8") from error
    return stripped
