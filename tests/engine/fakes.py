"""A tiny grounding model and its data, so that the engine is tested by itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from mindground.config import Config, from_dict
from mindground.engine.assemble import RunParts
from mindground.models.base import GroundingModel, ParameterGroup
from mindground.models.interface import ModelInterface
from mindground.nn.noise import Dropout
from mindground.structures import Batch, Geometry, Prediction, Sample
from mindground.tasks import MetricSettings
from mindground.tasks.referring import ReferringTask

WIDTH = 6


class FakeModel(GroundingModel):
    """Two dense layers and a dropout; learns a linear map to a box."""

    input_names: ClassVar[tuple[str, ...]] = ("image",)
    target_names: ClassVar[tuple[str, ...]] = ("box",)
    output_names: ClassVar[tuple[str, ...]] = ("box",)
    term_names = ("square",)

    def __init__(self, dropout: float = 0.2, seed: int = 0) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        self.first = nn.Dense(WIDTH, 16)
        self.second = nn.Dense(16, 4)
        self.dropout = Dropout(dropout)
        for parameter in self.get_parameters():
            parameter.set_data(ms.Tensor(rng.standard_normal(parameter.shape).astype(np.float32) * 0.3))

    def construct(self, image: ms.Tensor) -> tuple[ms.Tensor, ...]:
        return (self.second(self.dropout(ops.tanh(self.first(image)))),)

    def loss(self, outputs: tuple[ms.Tensor, ...], box: ms.Tensor) -> tuple[ms.Tensor, ...]:
        square = ops.square(outputs[0] - box).mean()
        return square, square

    def decode(self, outputs: dict[str, np.ndarray], batch: Batch) -> list[Prediction]:
        return [Prediction((8, 8), row[None], np.ones(1)) for row in outputs["box"][: batch.count]]

    def parameter_groups(self) -> list[ParameterGroup]:
        return [
            ParameterGroup("visual", tuple(self.first.trainable_params())),
            ParameterGroup("base", tuple(self.second.trainable_params())),
            ParameterGroup("lang", ()),
        ]


def make_batch(rows: np.ndarray, seed: int = 5) -> Batch:
    """Rows of a fixed linear problem by index."""
    weight = np.random.default_rng(seed).standard_normal((WIDTH, 4)).astype(np.float32)
    image = np.stack([np.random.default_rng(1000 + int(i)).standard_normal(WIDTH) for i in rows]).astype(np.float32)
    samples = [Sample("none.png", f"s{int(i)}", f"i{int(i)}", "a thing", np.zeros((1, 4))) for i in rows]
    geometries = [Geometry((8, 8), (8, 8), (8, 8)) for _ in rows]
    return Batch({"image": image, "box": image @ weight}, samples, geometries, len(rows))


@dataclass
class FakeLoader:
    """Joint batches are the same for any number of ranks, as the real loader promises."""

    batch_size: int
    rows: int = 48
    seed: int = 1
    rank: int = 0
    world: int = 1
    poison: tuple[int, int] | None = None

    def __len__(self) -> int:
        return self.rows // (self.batch_size * self.world)

    def epoch(self, n: int, start_batch: int = 0) -> Iterator[Batch]:
        order = np.random.default_rng([self.seed, n]).permutation(self.rows)
        joint = self.batch_size * self.world
        for k in range(start_batch, len(self)):
            batch = make_batch(order[k * joint : (k + 1) * joint][self.rank :: self.world])
            if self.poison == (n, k):
                batch.arrays["image"][0, 0] = np.nan
            yield batch


@dataclass
class FakeMetrics:
    """Mean absolute error turned into a score."""

    errors: list[float] = field(default_factory=list)

    def update(self, predictions: list[Prediction], batch: Batch) -> None:
        truth = batch.arrays["box"]
        self.errors += [float(np.abs(p.boxes_xyxy[0] - t).mean()) for p, t in zip(predictions, truth, strict=False)]

    def state(self) -> list[float]:
        return self.errors

    def merge(self, states: list[list[float]]) -> None:
        self.errors = [error for state in states for error in state]

    def records(self) -> list[dict[str, Any]]:
        return []

    def compute(self) -> dict[str, float]:
        return {"prec@0.5": 1.0 / (1.0 + float(np.mean(self.errors)))}


@dataclass
class OneRank:
    """`distributed.Comm` of a single process."""

    rank: int = 0
    size: int = 1
    reduces_on_device: bool = False

    def broadcast_object(self, value: Any) -> Any:
        return value

    def all_gather_object(self, value: Any) -> list[Any]:
        return [value]

    def barrier(self) -> None:
        return None


class FakeTask(ReferringTask):
    """A task whose score is that of `FakeMetrics`."""

    def metrics(self, settings: MetricSettings) -> Any:
        return FakeMetrics()


TASK = FakeTask(ModelInterface("expression", ("box",)))


def fake_config(folder: Any, **train: Any) -> Config:
    """Configuration of a fake run below `folder`."""
    settings = {
        "output_dir": str(folder),
        "experiment_name": "fake",
        "batch_size": 8,
        "max_epochs": 3,
        "lr": 0.01,
        "lr_factors": {"visual": 2.0},
        "clip_max_norm": 1.0,
        "log_freq": 1,
        "random_encoders": True,
        **train,
    }
    return from_dict({"train": settings, "device": {"device_target": "CPU"}})


def fake_parts(config: Config, comm: Any | None = None, **loader: Any) -> RunParts:
    """Parts of a fake run."""
    comm = comm or OneRank()
    model = FakeModel(dropout=loader.pop("dropout", 0.2))
    batches = FakeLoader(config.train.batch_size, rank=comm.rank, world=comm.size, **loader)
    scored = FakeLoader(8, rows=16, rank=comm.rank, world=comm.size)
    return RunParts(model, TASK, None, batches, scored, "prec@0.5", eval_name="val")
