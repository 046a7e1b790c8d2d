"""BERT encoder against Hugging Face."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import nn

from golden.case import Case
from golden.claim import Checks, claim
from golden.compute import fill, loss_and_gradients, weighted_sum
from mindground.backbones.bert import HUGGINGFACE_MAP, Bert


class Stages(nn.Cell):
    """Embeddings, every layer's output and the pooled first token, in one graph."""

    def __init__(self, net: Bert) -> None:
        super().__init__()
        self.net = net

    def construct(self, ids: ms.Tensor, mask: ms.Tensor, types: ms.Tensor) -> tuple[ms.Tensor, ...]:
        bias = self.net.key_bias(mask)
        x = self.net.embeddings(ids, types)
        found = [x]
        for layer in self.net.encoder.layer:
            x = layer(x, bias)
            found.append(x)
        found.append(self.net.pool(x))
        return tuple(found)


class Ends(nn.Cell):
    """(last hidden state, pooled first token)."""

    def __init__(self, net: Bert) -> None:
        super().__init__()
        self.net = net

    def construct(self, ids: ms.Tensor, mask: ms.Tensor, types: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        hidden = self.net(ids, mask, types)
        return hidden, self.net.pool(hidden)


@claim(model="BERT", holds=("output/pooler",))
def check(case: Case, mode: str, checks: Checks) -> None:
    """Hidden states, pooler, and gradient norms where the case has them."""
    config = {name: value for name, value in case.config.items() if name != "hidden_act"}
    net = Bert(dropout=0.0, padding_idx=0, **config)
    net.set_train(False)
    fill(net, case, HUGGINGFACE_MAP)
    inputs = [ms.Tensor(case.inputs[n].astype(np.int32)) for n in ("input_ids", "attention_mask", "token_type_ids")]
    values = [value.asnumpy() for value in Stages(net)(*inputs)]
    found = {f"hidden{index}": value for index, value in enumerate(values[:-1])} | {"pooler": values[-1]}
    for name, value in found.items():
        if name in case.outputs:
            checks.output(name, value, case.outputs[name])
        if name + "_s" in case.outputs:
            step = 16 if name == "hidden0" else 8
            reference = case.outputs[name + "_s"]
            checks.output(name + "_s", value[..., ::step], reference)
    if len(case.grad_norms):
        net.set_train(True)
        scalar = weighted_sum(Ends(net), [case.inputs["r"], case.inputs["r_pool"]])
        scalar.set_train(True)
        _, gradients = loss_and_gradients(scalar, net, inputs)
        checks.grad_norms(HUGGINGFACE_MAP.to_theirs(gradients), case.grad_norms)
