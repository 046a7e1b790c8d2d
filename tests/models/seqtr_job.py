"""Three steps of a tiny SeqTR on two samples: `python seqtr_job.py FOLDER FUSION`, alone or as one of two ranks."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from mindground.runtime import device


def main(folder: Path, fusion: str) -> None:
    """Save losses, parameters, statistics and their averages of this rank."""
    device.apply(device_target="CPU", mode_name="GRAPH")
    import mindspore as ms

    from mindground.config import TrainConfig
    from mindground.engine.optim import optimizer_from_config
    from mindground.engine.step import TrainStep
    from mindground.models.seqtr.builder import build_network
    from mindground.models.seqtr.config import (
        BertConfig,
        DarknetConfig,
        FusionConfig,
        GruConfig,
        HeadConfig,
        SeqtrConfig,
        TextConfig,
        VisualConfig,
    )
    from mindground.nn.batch_norm import set_batch_norm
    from mindground.runtime.distributed import get_comm
    from mindground.structures import Batch
    from mindground.weights.load import parameter_arrays

    comm = get_comm()
    ms.set_seed(3)
    text = TextConfig("gru", 12, gru=GruConfig(8, 32, freeze_embedding=False))
    joint = FusionConfig()
    if fusion == "kernels":
        text = TextConfig("bert", 12, bert=BertConfig(16, 1, 2, 16, 16, dropout=0.0, frozen_layers=0))
        joint = FusionConfig("kernels", depths=[1, 1, 2], head_dim=8, window=2)
    config = SeqtrConfig(
        task="multi",
        visual=VisualConfig("darknet", DarknetConfig(2, [1, 0, 1, 1, 0, 1], None)),
        text=text,
        fusion=joint,
        head=HeadConfig(32, 2, 32, 1, 1, 0.0, 20, 4),
    )
    net = build_network(config)
    set_batch_norm(net, "frozen")
    # Of a size at which Adam's steps follow the gradient and not its rounding.
    train = TrainConfig(optimizer="adam", amsgrad=True, lr=1e-3, eps=1e-3, clip_max_norm=0.15, ema_decay=0.999)
    step = TrainStep(net, optimizer_from_config(net, train), comm, graph=True, clip_max_norm=0.15)
    losses = []
    for number in range(3):
        rng = np.random.default_rng(number)
        sequence = rng.integers(0, 20, (2, net.layout.length)).astype(np.int32)
        padding = np.zeros((2, 64, 64), np.uint8)
        padding[0, 32:] = 1
        arrays = {
            "image": rng.standard_normal((2, 3, 64, 64), np.float32), "padding": padding,
            "token_ids": rng.integers(1, 12, (2, 6)).astype(np.int32), "token_mask": np.ones((2, 6), np.int32),
            "previous": np.roll(sequence, 1, 1), "sequence": sequence,
        }  # fmt: skip
        if comm.size == 2:
            arrays = {name: value[comm.rank : comm.rank + 1] for name, value in arrays.items()}
        losses.append(step([Batch(arrays, [], [], 0)], 1.0, number)["total"])
    names = {id(parameter): name for name, parameter in net.parameters_and_names()}
    state = {f"state/{name}": value for name, value in step.optimizer.state(names).items()}
    np.savez(folder / f"{comm.size}-{comm.rank}.npz", losses=np.asarray(losses), **parameter_arrays(net), **state)


if __name__ == "__main__":
    device.prepare()
    main(Path(sys.argv[1]), sys.argv[2])
