"""Pre-training and fine-tuning as two commands of two steps each, the second with other words and another task."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from commands import call
from mindground.cli.train import main as train
from mindground.engine.checkpoint import load_checkpoint, read_checkpoint

SMALL = (
    "--family=seqtr",
    "--device.mode_name=PYNATIVE",
    "--data.img_size=64",
    "--data.synthetic.train_images=4",
    "--data.synthetic.val_images=1",
    "--data.num_workers=0",
    "--data.vocab_from=all",
    "--train.batch_size=2",
    "--eval.batch_size=2",
    "--train.max_steps=2",
    "--train.warmup_steps=0",
    "--data.max_len=4",
    "--model.visual.darknet.first=2",
    "--model.visual.darknet.blocks=[0,0,0,0,0,0]",
    "--model.text.gru.embedding=4",
    "--model.text.gru.hidden=32",
    "--model.head.width=32",
    "--model.head.heads=1",
    "--model.head.hidden=16",
    "--model.head.encoder_layers=1",
    "--model.head.decoder_layers=1",
    "--model.head.num_ray=4",
)
TABLE = "text_encoder.words.embedding_table"


def test_two_commands(tmp_path: Path) -> None:
    shared = [*SMALL, f"--data.root={tmp_path / 'data'}", f"--train.output_dir={tmp_path}"]
    done = call(train, *shared, "--train.ema_decay=0.9", "--train.experiment_name=before")
    assert done.returncode == 0, done.stderr
    first = tmp_path / "before" / "best.ckpt"
    last = read_checkpoint(tmp_path / "before" / "last.ckpt")
    averages, before = last.part("ema"), read_checkpoint(first).part("model")
    # The best checkpoint holds the averages, and from them the second training starts.
    assert all(np.array_equal(before[name], array) for name, array in averages.items())
    words = tmp_path / "glove.txt"
    words.write_text("red 1 2 3 4\nship 5 6 7 8\n")
    done = call(
        train,
        *shared,
        "--data.synthetic.seed=3",
        "--model.task=contour",
        "--model.text.gru.freeze_embedding=true",
        f"--train.pretrained.model={first}",
        f"--train.pretrained.words={words}",
        "--train.fresh=[words,positions]",
        "--train.lr=0",
        "--train.experiment_name=after",
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    assert f"{TABLE}: left out by train.fresh" in said and "sequence_head.places: of (5, 32)" in said
    loaded = load_checkpoint(tmp_path / "after" / "last.ckpt")
    after = read_checkpoint(tmp_path / "after" / "last.ckpt").part("model")
    tokens = list(loaded.tokenizer.tokens)  # type: ignore[union-attr]
    np.testing.assert_array_equal(after[TABLE][tokens.index("ship")], [5, 6, 7, 8])
    assert after["sequence_head.places"].shape == (9, 32)
    # At learning rate 0 all other weights are those of the first training; statistics of BatchNorm go on.
    same = [n for n in before if n not in (TABLE, "sequence_head.places") and ".moving_" not in n]
    assert same and all(np.array_equal(after[name], before[name]) for name in same)
