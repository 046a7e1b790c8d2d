"""What every peer needs: weights from the shared file, the box loss, the timed forward pass and step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import nn

__all__ = ["PeerSide", "giou", "load_weights"]


def load_weights(network: nn.Module, path: Path, counters: tuple[str, ...] = ()) -> None:
    """Copies the shared file into the network; every tensor of either must find its partner.

    Args:
        counters: endings of names that the network keeps beside its parameters.
    """
    with safe_open(path, "pt") as file, torch.no_grad():
        state = network.state_dict()
        wanted = {name for name in state if not (counters and name.endswith(counters))}
        if wanted != set(file.keys()):
            raise KeyError(f"peer and file differ in {sorted(wanted ^ set(file.keys()))}")
        for name in wanted:
            state[name].copy_(file.get_tensor(name))


def _corners(box: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return box[:, :2] - box[:, 2:] / 2, box[:, :2] + box[:, 2:] / 2


def giou(box: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Generalised IoU (B,) of boxes (B, 4) as centre and size."""
    (low, high), (low_t, high_t) = _corners(box), _corners(truth)
    shared = (torch.minimum(high, high_t) - torch.maximum(low, low_t)).clamp(min=0).prod(1)
    union = box[:, 2:].prod(1) + truth[:, 2:].prod(1) - shared
    outer = (torch.maximum(high, high_t) - torch.minimum(low, low_t)).prod(1)
    return shared / union - (outer - union) / outer


class PeerSide:
    """See `worker.Side`.

    Args:
        network: called with `inputs`, returns a tuple.
        inputs: of one batch.
        loss: outputs -> scalar.
        groups: of parameters, as torch.optim takes them.
        train: the `train` section.
        names: our names of the outputs.
        fused: update all parameters with PyTorch's fused kernel.
    """

    def __init__(
        self,
        network: nn.Module,
        inputs: Sequence[torch.Tensor],
        loss: Callable[..., torch.Tensor],
        groups: Sequence[Mapping[str, Any]],
        train: Any,
        names: Sequence[str],
        fused: bool = False,
    ) -> None:
        self.network, self.inputs, self.loss, self.train, self.names = network, inputs, loss, train, names
        self.trained = [parameter for group in groups for parameter in group["params"]]
        self.optimizer = (torch.optim.Adam if train.optimizer == "adam" else torch.optim.AdamW)(
            [dict(group) for group in groups],
            betas=(train.beta1, train.beta2),
            eps=train.eps,
            weight_decay=train.weight_decay,
            amsgrad=train.amsgrad,
            fused=fused,
        )

    def forward(self) -> dict[str, np.ndarray]:
        """Outputs under our names."""
        with torch.inference_mode():
            outputs = self.network(*self.inputs)
        return {name: value.numpy() for name, value in zip(self.names, outputs, strict=True)}

    def step(self) -> dict[str, float]:
        """Forward, backward, clipping, Adam or AdamW; as MindGround's step does, it reads loss and norm back."""
        self.optimizer.zero_grad(set_to_none=True)
        value = self.loss(*self.network(*self.inputs))
        value.backward()
        if self.train.clip_max_norm > 0:
            norm = nn.utils.clip_grad_norm_(self.trained, self.train.clip_max_norm)
        else:
            norm = nn.utils.get_total_norm([p.grad for p in self.trained if p.grad is not None])
        self.optimizer.step()
        return {"loss": float(value), "grad_norm": float(norm)}
