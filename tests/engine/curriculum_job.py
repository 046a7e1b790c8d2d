"""A curriculum without models: `python -m engine.curriculum_job FOLDER KILL_AT` runs one and kills itself at a step.

Forty samples a source with reliabilities 0, 0.025 ... 0.975; the score of a "training" rises with the samples above 0.7
in its set and falls with those below; the "model" of the source `complex` measures everything as 0.55.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mindground.config import DataConfig, load_config
from mindground.curriculum.launch import Job, Measurement, Outcome
from mindground.curriculum.reliability import Measured
from mindground.curriculum.run import Curriculum, CurriculumSettings
from mindground.curriculum.subsets import Source
from mindground.data import Dataset, build_dataset
from mindground.structures import Sample

COUNT = 40
SENTENCES = {"simple": "the ship", "complex": "the ship at the pier"}


def _number(sample: Sample) -> int:
    return int(sample.sample_id.rsplit("s", 1)[-1])


def source(folder: Path, name: str) -> Source:
    """One source; its images need not exist."""
    samples = [
        Sample(str(folder / "images" / f"{i}.png"), f"s{i:02d}", str(i), SENTENCES[name], np.asarray([[0, 0, 9, 9]]))
        for i in range(COUNT)
    ]
    return Source(name, Dataset(samples, {}, name, "train"), 1.0 + (name == "complex"))


def settings(folder: Path) -> CurriculumSettings:
    """Settings of a fake training."""
    return CurriculumSettings(load_config(None, ["--train.batch_size=2", "--train.batch_sum=2"]), folder / "out")


@dataclass
class FakeTraining:
    """Replaces training and measuring; records every call, and fails during call number `fail_at`."""

    fail_at: int = -1
    kill: bool = False
    trained: list[str] = field(default_factory=list)
    measured: list[str] = field(default_factory=list)

    def evaluation(self, folder: Path) -> Dataset:
        """The evaluation split."""
        return Dataset([Sample(str(folder / "images" / "0.png"), "v", "0", "it", np.asarray([[0, 0, 9, 9]]))])

    def _interrupt(self) -> None:
        if len(self.trained) + len(self.measured) - 1 == self.fail_at:
            if self.kill:
                os.kill(os.getpid(), signal.SIGKILL)
            raise KeyboardInterrupt

    def train(self, job: Job) -> Outcome:
        """Better with every sample above 0.7, worse with every one below."""
        self.trained.append(job.key)
        job.run.path.mkdir(parents=True, exist_ok=True)
        job.run.last.write_text("position")
        self._interrupt()
        samples = build_dataset(job.config.data, "train")
        values = np.asarray([_number(sample) / COUNT for sample in samples])
        score = float((values > 0.7).sum() - 0.5 * (values <= 0.7).sum()) / 100
        job.run.best.write_text(job.key)
        return Outcome(score, job.run.best, {"prec@0.5": score})

    def measure(self, task: Measurement) -> list[Measured]:
        """By the sample's number, or blind."""
        self.measured.append(task.title)
        task.folder.mkdir(parents=True, exist_ok=True)
        self._interrupt()
        blind = task.title.endswith("by complex")
        dataset = build_dataset(DataConfig(dataset="jsonl", root=str(task.data)), "train")
        return [
            Measured(sample.sample_id, 0.55 if blind else _number(sample) / COUNT, (0, 0, 1, 1), (0, 0, 9, 9))
            for sample in dataset
        ]


def main(folder: Path, kill_at: int) -> None:
    """Run or continue a job in `folder`."""
    fake = FakeTraining(fail_at=kill_at, kill=True)
    sources = [source(folder, "simple")]
    Curriculum(settings(folder), sources, fake.evaluation(folder), train=fake.train, measure=fake.measure).run()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
