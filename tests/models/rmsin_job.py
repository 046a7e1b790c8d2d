"""Two steps of a tiny network on two samples: `python rmsin_job.py FOLDER VARIANT`, alone or as one of two ranks."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from mindground.runtime import device


def main(folder: Path, variant: str) -> None:
    """Save losses and parameters of this rank."""
    device.apply(device_target="CPU", mode_name="GRAPH")
    import mindspore as ms

    from mindground.config import TrainConfig
    from mindground.engine.optim import optimizer_from_config
    from mindground.engine.step import TrainStep
    from mindground.models.rmsin.builder import build_network
    from mindground.models.rmsin.config import CimConfig, RmsinConfig, SwinConfig, TextConfig
    from mindground.nn.batch_norm import set_batch_norm
    from mindground.runtime.distributed import get_comm
    from mindground.structures import Batch
    from mindground.weights.load import parameter_arrays

    comm = get_comm()
    ms.set_seed(3)
    swin = SwinConfig(embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4, drop_path_rate=0.0)
    text = TextConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=16, dropout=0.0,
    )  # fmt: skip
    config = RmsinConfig(
        variant=variant, swin=swin, text=text, cim=CimConfig(heads=2, key_dim=4), routing_dropout=0.0,  # type: ignore[arg-type]
        loss_over="joint",
    )  # fmt: skip
    net = build_network(config, img_size=64)
    set_batch_norm(net, "frozen")
    # Of a size at which Adam's steps follow the gradient and not its rounding.
    train = TrainConfig(lr=1e-3, eps=1e-3, weight_decay=0.01, clip_max_norm=0.0)
    step = TrainStep(net, optimizer_from_config(net, train), comm, graph=True)
    losses = []
    for number in range(2):
        rng = np.random.default_rng(number)
        mask = np.zeros((2, 1, 64, 64), np.float32)
        # Referents of very different sizes: the divisors of two ranks differ.
        mask[0, 0, :8, :8], mask[1, 0, 4:60, 4:60] = 1, 1
        arrays = {
            "token_ids": rng.integers(5, 40, (2, 6)).astype(np.int32), "token_mask": np.ones((2, 6), np.int32),
            "image": rng.standard_normal((2, 3, 64, 64), np.float32), "mask": mask,
            "has_mask": np.ones((2, 1), np.float32),
        }  # fmt: skip
        if comm.size == 2:
            arrays = {name: value[comm.rank : comm.rank + 1] for name, value in arrays.items()}
        losses.append(step([Batch(arrays, [], [], 0)], 1.0, number)["total"])
    values = parameter_arrays(net)
    np.savez(folder / f"{comm.size}-{comm.rank}.npz", losses=np.asarray(losses), **values)


if __name__ == "__main__":
    device.prepare()
    main(Path(sys.argv[1]), sys.argv[2])
