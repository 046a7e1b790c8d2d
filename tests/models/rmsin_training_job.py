"""A whole training of a tiny RMSIN: `python rmsin_training_job.py FOLDER`, alone or as one of several ranks.

Notes how far the ranks' BatchNorm statistics are apart before and after they are averaged for an evaluation or a save.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np

from mindground.runtime import device


def main(folder: Path) -> None:
    """Train and write one line a check."""
    from mindground.config import load_config
    from mindground.engine.trainer import Trainer, train
    from mindground.nn.batch_norm import buffers
    from mindground.runtime.distributed import get_comm

    words = {
        "data.root": folder / "data", "data.img_size": 64, "data.synthetic.image_size": 64, "data.sentences": "one",
        "data.synthetic.train_images": 6, "data.synthetic.val_images": 4, "data.num_workers": 0,
        "train.batch_size": 2, "train.max_epochs": 2, "train.eval_step": 1, "train.output_dir": folder,
        "train.warmup_steps": 1, "train.max_steps": 2, "train.save_steps": 1, "train.experiment_name": "run",
        "model.swin.embed_dim": 8, "model.swin.depths": [1, 1, 1, 1], "model.swin.num_heads": [1, 1, 2, 2],
        "model.text.hidden_size": 16, "model.text.num_attention_heads": 2, "model.text.intermediate_size": 16,
        "model.cim.heads": 2, "model.cim.key_dim": 4, "device.mode_name": "PYNATIVE", "device.device_target": "CPU",
        "eval.batch_size": 2, "device.threads": 1,
    }  # fmt: skip
    config = load_config(None, ["--family=rmsin", *(f"--{key}={value}" for key, value in words.items())])
    logging.basicConfig(level=logging.INFO)
    comm, notes = get_comm(), []

    def apart(trainer: Any) -> float:
        named = buffers(trainer.parts.model)
        joined = np.concatenate([np.asarray(value.asnumpy()).reshape(-1) for value in named.values()])
        all_of_them = comm.all_gather_object(joined)
        return float(max(np.abs(other - joined).max() for other in all_of_them))

    average, scores, save = Trainer._average_buffers, Trainer._scores, Trainer._save_last

    def averaged(trainer: Any) -> None:
        before = apart(trainer)
        average(trainer)
        notes.append(["averaged", trainer.state.step, before, apart(trainer)])

    def scored(trainer: Any, **more: Any) -> Any:
        found = scores(trainer, **more)
        notes.append(["scored", trainer.state.step, 0.0, apart(trainer)])
        return found

    def saved(trainer: Any) -> None:
        save(trainer)
        notes.append(["saved", trainer.state.step, 0.0, apart(trainer)])

    Trainer._average_buffers, Trainer._scores, Trainer._save_last = averaged, scored, saved
    train(config, comm)
    (folder / f"{comm.rank}.json").write_text(json.dumps(notes))


if __name__ == "__main__":
    device.prepare()
    main(Path(sys.argv[1]))
