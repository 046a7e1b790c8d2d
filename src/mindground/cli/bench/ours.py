"""MindGround's side: the evaluator's forward pass and the trainer's own step."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

__all__ = ["OurSide", "idle", "load_start", "write_start"]

# Deviation of the noise on every start value: zeros (biases, the last generator layer) would hide errors.
_NOISE = 0.02


def _prepared(config: Any) -> Any:
    from mindground.models import build_model
    from mindground.runtime import device

    device.apply(**vars(config.device))
    device.seed_everything(config.train.seed)
    return build_model(config)


def idle(config: Any) -> None:
    """Only what every process needs: MindSpore with its device selected."""
    from mindground.runtime import device

    device.apply(**vars(config.device))
    import mindground.engine.step  # noqa: F401
    import mindground.models  # noqa: F401


def write_start(family: Any, config: Any, folder: Path) -> None:
    """weights.safetensors under the peer's names and arrays.npz, the same for both sides."""
    from mindground.files.atomic import atomic_file
    from mindground.files.safetensors import write_safetensors_atomic
    from mindground.weights.load import parameter_arrays

    rng = np.random.default_rng(config.train.seed)
    start = {
        name: (value + _NOISE * rng.standard_normal(value.shape)).astype(np.float32)
        for name, value in parameter_arrays(_prepared(config)).items()
    }
    write_safetensors_atomic(folder / "weights.safetensors", family.weight_map().to_theirs(start), {"format": "np"})
    with atomic_file(folder / "arrays.npz") as stream:
        np.savez(stream, **family.arrays(config, rng))


def load_start(family: Any, config: Any, folder: Path) -> Any:
    """The family's network with the weights that `write_start` has written."""
    from mindground.files.weights import read_weights
    from mindground.weights.load import load_into, parameter_shapes

    model = _prepared(config)
    path = folder / "weights.safetensors"
    load_into(model, family.weight_map().to_ours(read_weights(path).tensors, parameter_shapes(model)), source=path.name)
    return model


class OurSide:
    """See `worker.Side`.

    Args:
        family: module with `weight_map`.
        config: resolved configuration.
        folder: with weights.safetensors and arrays.npz.
        training: build the training step; otherwise the forward pass.
    """

    def __init__(self, family: Any, config: Any, folder: Path, training: bool) -> None:
        from mindground.engine.forward import Runner
        from mindground.engine.optim import optimizer_from_config
        from mindground.engine.step import TrainStep
        from mindground.structures import Batch

        arrays = dict(np.load(folder / "arrays.npz"))
        self.batch = Batch(arrays, [], [], len(next(iter(arrays.values()))))
        self.model = load_start(family, config, folder)
        self.steps = 0
        graph = config.device.mode_name == "GRAPH"
        if training:
            optimizer = optimizer_from_config(self.model, config.train)
            comm = SimpleNamespace(rank=0, size=1, reduces_on_device=False)
            self._step = TrainStep(
                self.model,
                optimizer,
                comm,
                graph=graph,
                clip_max_norm=config.train.clip_max_norm,
                accumulation=config.train.accumulation,
                seed=config.train.seed,
            )
        else:
            self.model.set_train(False)
            self._runner = Runner(self.model, graph=graph)

    def forward(self) -> dict[str, np.ndarray]:
        """Outputs by name."""
        return self._runner.network(self.batch.arrays)

    def step(self) -> dict[str, float]:
        """One step at the configured learning rates."""
        terms = self._step([self.batch], 1.0, self.steps)
        self.steps += 1
        # The update runs on while the step returns; it ends before a parameter can be read.
        self._step.optimizer.parameters[-1].asnumpy()
        return {"loss": terms["total"], "grad_norm": terms["grad_norm"]}
