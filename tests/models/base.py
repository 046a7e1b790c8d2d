"""What every family must do, whatever it computes. A family takes part by an entry in `CASES`, not by a file.

`test_families.py` runs these on a network of a few thousand parameters and the samples of a learning proof
(`tests/overfit`): built from its own configuration, trained for a few steps through the public engine in both modes,
saved, loaded, exported and read back.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np

from mindground.structures import Prediction
from overfit import engine
from overfit.draw import IMAGES, SENTENCES, draw_instances, draw_referring

__all__ = ["CASES", "FamilyCase", "FamilyRun", "forward", "train_case"]

SIZE = 64  # pixels of a drawn image


@dataclass(frozen=True)
class FamilyCase:
    """One configuration of one family.

    Attributes:
        family: as the registry names it.
        tiny: overrides of its small configuration that leave a network of seconds.
        name: tells several cases of a family apart.
        variant: `tests/overfit/<family>-<variant>.yaml` instead of the family's small default.
        exports: names of weight maps (`weight_maps()`) that can write the whole network.
        steps: of training in graph mode; the operator-by-operator mode makes the first two of them.
        falls_to: the loss of the last steps as a part of the first one.
        slow: its graphs take minutes to compile; it runs with `--all`.
    """

    family: str
    tiny: tuple[str, ...]
    name: str = ""
    variant: str = ""
    exports: tuple[str, ...] = ()
    steps: int = 80
    falls_to: float = 0.8
    slow: bool = False

    def __str__(self) -> str:
        return f"{self.family}{f'-{self.name}' if self.name else ''}"


_RMSIN = (
    "--model.swin.embed_dim=8",
    "--model.swin.depths=[1,1,2,1]",
    "--model.swin.num_heads=[1,1,2,2]",
    "--model.text.hidden_size=32",
    "--model.text.num_attention_heads=2",
    "--model.text.intermediate_size=64",
    "--model.cim.heads=2",
    "--model.cim.key_dim=4",
    "--train.lr=2e-3",
)

_SEQTR = (
    "--model.visual.darknet.first=4",
    "--model.text.gru.embedding=16",
    "--model.text.gru.hidden=64",
    "--model.head.width=32",
    "--model.head.hidden=64",
    "--model.head.encoder_layers=1",
    "--model.head.decoder_layers=1",
    "--model.head.num_bin=32",
    "--model.head.num_ray=6",
)
_MSAM = (
    *_SEQTR,
    "--model.text.type=bert",
    "--model.text.bert.hidden_size=32",
    "--model.text.bert.num_hidden_layers=1",
    "--model.text.bert.num_attention_heads=2",
    "--model.text.bert.intermediate_size=64",
    "--model.text.bert.max_position_embeddings=32",
    "--model.text.bert.frozen_layers=0",
    "--model.text.bert.dropout=0",
    "--model.fusion.type=kernels",
    "--model.fusion.head_dim=8",
    "--model.fusion.window=4",
    "--data.tokenizer=wordpiece",
)

_SAM = (
    "--model.encoder.img_size=64",
    "--model.encoder.embed_dim=32",
    "--model.encoder.depth=2",
    "--model.encoder.num_heads=2",
    "--model.encoder.mlp_dim=64",
    "--model.encoder.window_size=3",
    "--model.encoder.global_blocks=[1]",
    "--model.decoder.width=32",
    "--model.decoder.num_heads=2",
    "--model.decoder.mlp_dim=64",
    "--model.decoder.iou_hidden=32",
    "--model.prompts.objects=2",
    "--model.prompts.rounds=2",
    "--train.lr=2e-3",
)

CASES = (
    FamilyCase(
        "vglaw",
        (
            "--model.vit.embed_dim=32",
            "--model.vit.depth=1",
            "--model.vit.num_heads=2",
            "--model.vit.pretrain_img_size=64",
            "--model.text.hidden_size=32",
            "--model.text.num_attention_heads=2",
            "--model.text.intermediate_size=64",
            "--model.generator_heads=2",
            "--model.law_rank=8",
            "--model.up_channels=16",
            "--model.pool_dim=16",
            "--model.box_hidden=32",
        ),
        exports=("vglaw",),
    ),
    FamilyCase(
        "clipvg",
        (
            "--model.clip.vision_width=32",
            "--model.clip.vision_heads=2",
            "--model.clip.text_width=32",
            "--model.clip.text_heads=2",
            "--model.clip.embed_dim=32",
            "--model.vl_nheads=2",
            "--model.vl_dim_feedforward=64",
            "--model.vl_enc_layers=1",
        ),
        exports=("clipvg",),
    ),
    FamilyCase("rmsin", _RMSIN, exports=("rmsin", "rmsin-two-part"), slow=True),
    FamilyCase("rmsin", (*_RMSIN, "--model.variant=lavt"), name="lavt", exports=("rmsin",), slow=True),
    FamilyCase("seqtr", _SEQTR, exports=("seqtr",), slow=True),
    FamilyCase("seqtr", (*_SEQTR, "--model.task=contour"), name="contour", exports=("seqtr",), slow=True),
    FamilyCase("seqtr", _MSAM, name="msam", exports=("seqtr",), slow=True),
    FamilyCase("sam", _SAM, exports=("sam", "sam-hf"), falls_to=0.9, slow=True),
    # The families of tests/families keep the contracts that the two above do not use.
    FamilyCase("test_detector", ("--model.width=8",), falls_to=0.9),
    FamilyCase("test_generator", ("--model.width=16",), falls_to=0.9),
)


@dataclass
class FamilyRun:
    """A case after its training.

    Attributes:
        config: resolved.
        batch: the first training batch.
        trained: what the engine left.
        model: of the checkpoint, in evaluation mode.
        outputs: of that model on the batch, by name.
        predictions: what it answers.
    """

    case: FamilyCase
    config: Any
    batch: Any
    trained: engine.Trained
    model: Any
    outputs: dict[str, np.ndarray]
    predictions: list[Prediction]


def forward(model: Any, batch: Any) -> dict[str, np.ndarray]:
    """Raw outputs of a network by name, in the mode that is set."""
    model.set_train(False)
    outputs = model(*(ms.Tensor(batch.arrays[name]) for name in model.input_names))
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    return {name: value.asnumpy() for name, value in zip(model.output_names, outputs, strict=True)}


def train_case(case: FamilyCase, folder: Path, mode: str, steps: int) -> FamilyRun:
    """Train a case for a few steps in one mode ("graph" or "pynative") and look at what was saved."""
    from mindground import load_checkpoint
    from mindground.engine.forward import Runner

    source = engine.source_file(case.family, case.variant)
    asks = engine.asks_expressions(source)
    samples = IMAGES * SENTENCES if asks else IMAGES
    (draw_referring if asks else draw_instances)(folder / "data", 3, SIZE, case.steps)
    extra = (
        f"--data.img_size={SIZE}",
        f"--device.mode_name={mode.upper()}",
        "--train.log_freq=1",
        "--train.warmup_steps=0",
        *case.tiny,
    )
    config = engine.configure(
        source, folder / "data", folder / "runs", steps=steps, samples=samples, seed=5, extra=extra
    )
    trained = engine.train(config)
    batch = engine.first_batch(config)
    model = load_checkpoint(trained.checkpoint).model
    runner = Runner(model, graph=mode == "graph")
    predictions = model.decode(model.infer(runner, batch.arrays), batch)
    return FamilyRun(case, config, batch, trained, model, forward(model, batch), predictions)
