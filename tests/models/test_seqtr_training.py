"""Training of SeqTR and MSAM: averages that go on to the bit, two ranks that count like one, files of both answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindground.engine.checkpoint import read_checkpoint

JOB = Path(__file__).with_name("seqtr_job.py")
TINY = (
    "--family=seqtr", "--data.img_size=64", "--data.synthetic.image_size=64", "--data.synthetic.train_images=4",
    "--data.synthetic.val_images=3", "--data.num_workers=0", "--model.visual.darknet.first=2",
    "--model.visual.darknet.blocks=[1,0,1,1,0,1]", "--model.text.gru.embedding=8", "--model.text.gru.hidden=32",
    "--model.head.width=32", "--model.head.heads=2", "--model.head.hidden=32", "--model.head.encoder_layers=1",
    "--model.head.decoder_layers=1", "--model.head.num_bin=20", "--model.head.num_ray=4", "--model.head.dropout=0.1",
    "--train.batch_size=2", "--train.ema_decay=0.999", "--train.lr_scheduler=constant", "--train.warmup_steps=0",
    "--train.log_freq=1", "--eval.batch_size=2", "--device.mode_name=PYNATIVE", "--device.device_target=CPU",
)  # fmt: skip


def trained(folder: Path, *words: str, tiny: Sequence[str] = TINY) -> Path:
    """The run folder of a training in this process."""
    from mindground.config import load_config
    from mindground.engine.trainer import train

    config = load_config(None, [*tiny, f"--data.root={folder.parent}", f"--train.output_dir={folder}", *words])
    return train(config)


def test_averages_of_parameters_and_statistics_go_on_within_an_epoch(tmp_path: Path) -> None:
    """Stopped after the first of many steps of an epoch: the checkpoint is that of the unbroken run, to the bit."""
    whole = trained(tmp_path / "whole", "--train.max_steps=2")
    trained(tmp_path / "broken", "--train.max_steps=1")
    stopped = read_checkpoint(tmp_path / "broken" / whole.name / "last.ckpt").state
    assert stopped["step"] == stopped["updates"] == 1 and stopped["epoch"] == 0 and stopped["samples"] == 2
    broken = trained(tmp_path / "broken", "--train.max_steps=2", "--train.resume=auto")
    first, second = (read_checkpoint(folder / "last.ckpt").tensors for folder in (whole, broken))
    assert first.keys() == second.keys()
    assert not [name for name in first if not np.array_equal(first[name], second[name])]
    averaged = {name for name in first if name.startswith("ema/")}
    assert any(name.endswith("moving_variance") for name in averaged) and len(averaged) > 40
    # Both are there, and they differ: parameters, and statistics that follow the batches.
    moved = [name for name in averaged if not np.array_equal(first[name], first["model/" + name.removeprefix("ema/")])]
    assert any(name.endswith("moving_mean") for name in moved) and any(name.endswith("weight") for name in moved)


def test_best_by_box_and_best_by_mask_are_two_files(tmp_path: Path) -> None:
    words = ("--model.task=multi", "--eval.select_by=[prec@0.5,mean_iou]", "--train.max_steps=1")
    folder = trained(tmp_path / "run", *words)
    both = [read_checkpoint(folder / name).state for name in ("best.ckpt", "best_mean_iou.ckpt")]
    assert both[0]["best"] == both[0]["metrics"]["prec@0.5"]
    assert both[1]["others"] == {"mean_iou": both[1]["metrics"]["mean_iou"]}


@pytest.mark.parametrize("fusion", ["simple", "kernels"])
def test_two_ranks_are_one_process(
    fusion: str, run_python: Callable[..., Any], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Under frozen statistics; parameters, moments and averages of both."""
    if not request.config.getoption("--all"):
        pytest.skip("minutes of compilation on every rank; --all runs it")
    for ranks in (1, 2):
        done = run_python([str(JOB), str(tmp_path), fusion], ranks=ranks, timeout=600)
        assert done.returncode == 0, done.stderr[-3000:]
    alone = dict(np.load(tmp_path / "1-0.npz"))
    losses = alone.pop("losses")
    for rank in (0, 1):
        shared = dict(np.load(tmp_path / f"2-{rank}.npz"))
        assert np.allclose(shared.pop("losses"), losses, rtol=2e-5), rank
        assert shared.keys() == alone.keys()
        worst = max((np.abs(shared[name] - alone[name]).max(), name) for name in alone)
        assert worst[0] < 2e-5, worst
    averages = [name for name in alone if name.startswith("state/ema/")]
    assert any(name.endswith("moving_mean") for name in averages)
    assert any(not np.array_equal(alone[name], alone[name.removeprefix("state/ema/")]) for name in averages)
