"""Softmax attention that stores no N x N tensor for its gradient.

All cores take q (G, N, d), k (G, M, d), v (G, M, dv), where G is batch times heads, and return (G, N, dv):
softmax(scale * q k^T + bias) v. The CPU forms define their own gradient. It recomputes the probabilities,
needs no sum over an N x N tensor (the row sums of P * dP equal those of dO * O), and waits for the incoming gradient:
otherwise a compiled graph may merge it with the forward pass and keep every layer's N x N tensors alive.
"""

from __future__ import annotations

import mindspore as ms
from mindspore import nn, ops

from mindground.nn.kernels import fast_cpu_kernels
from mindground.nn.noise import Dropout
from mindground.nn.swap import swap_middle

__all__ = [
    "Attention",
    "FastCore",
    "GridAttention",
    "attention_core",
    "merge_heads",
    "scores_gradient",
    "split_heads",
]


def scores_gradient(
    probabilities: ms.Tensor, v: ms.Tensor, out: ms.Tensor, dout: ms.Tensor, keep: ms.Tensor | None
) -> ms.Tensor:
    """Gradient P * (dP - rowsum(dO * O)) of the attention logits (G, N, M)."""
    ones = ops.ones((out.shape[-1], 1), out.dtype)
    delta = ops.matmul((out * dout).reshape((-1, out.shape[-1])), ones).reshape(out.shape[:-1] + (1,))
    product = ops.BatchMatMul(transpose_b=True)
    if keep is not None:
        d_probabilities = product(dout, v) * keep
        return probabilities * (d_probabilities - ops.broadcast_to(delta, probabilities.shape))
    # The row sums are computed as one more column of the product: subtracting them from an N x N tensor
    # afterwards costs four times the product itself.
    queries = ops.concat((dout, -delta), -1)
    keys = ops.concat((v, ops.ones(v.shape[:-1] + (1,), v.dtype)), -1)
    return probabilities * product(queries, keys)


class FastCore(nn.Cell):
    """The products of attention; a subclass defines `construct` and its gradient."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.bmm = ops.BatchMatMul()
        self.bmm_nt = ops.BatchMatMul(transpose_b=True)
        self.bmm_tn = ops.BatchMatMul(transpose_a=True)
        self.softmax = ops.Softmax(-1)


class _FastPlainCore(FastCore):
    """softmax(scale * q k^T) v."""

    def construct(self, q: ms.Tensor, k: ms.Tensor, v: ms.Tensor) -> ms.Tensor:
        return self.bmm(self.softmax(self.bmm_nt(q * self.scale, k)), v)

    def bprop(
        self, q: ms.Tensor, k: ms.Tensor, v: ms.Tensor, out: ms.Tensor, dout: ms.Tensor
    ) -> tuple[ms.Tensor, ms.Tensor, ms.Tensor]:
        scaled = ops.depend(q, dout) * self.scale
        probabilities = self.softmax(self.bmm_nt(scaled, k))
        d_scores = scores_gradient(probabilities, v, out, dout, None)
        return self.bmm(d_scores, k) * self.scale, self.bmm_tn(d_scores, scaled), self.bmm_tn(probabilities, dout)


class _FastBiasedCore(FastCore):
    """softmax(scale * q k^T + bias) v with a bias (G, N, M) that receives a gradient."""

    def construct(self, q: ms.Tensor, k: ms.Tensor, v: ms.Tensor, bias: ms.Tensor) -> ms.Tensor:
        return self.bmm(self.softmax(self.bmm_nt(q * self.scale, k) + bias), v)

    def bprop(
        self, q: ms.Tensor, k: ms.Tensor, v: ms.Tensor, bias: ms.Tensor, out: ms.Tensor, dout: ms.Tensor
    ) -> tuple[ms.Tensor, ms.Tensor, ms.Tensor, ms.Tensor]:
        scaled = ops.depend(q, dout) * self.scale
        probabilities = self.softmax(self.bmm_nt(scaled, k) + bias)
        d_scores = scores_gradient(probabilities, v, out, dout, None)
        d_q = self.bmm(d_scores, k) * self.scale
        return d_q, self.bmm_tn(d_scores, scaled), self.bmm_tn(probabilities, dout), d_scores


class _FastDroppedCore(FastCore):
    """(softmax(scale * q k^T + bias) * keep) v; `keep` (G, N, M) holds 0 or 1/(1-rate) and gets no gradient."""

    def construct(self, q: ms.Tensor, k: ms.Tensor, v: ms.Tensor, bias: ms.Tensor, keep: ms.Tensor) -> ms.Tensor:
        return self.bmm(self.softmax(self.bmm_nt(q * self.scale, k) + bias) * keep, v)

    def bprop(
        self,
        q: ms.Tensor,
        k: ms.Tensor,
        v: ms.Tensor,
        bias: ms.Tensor,
        keep: ms.Tensor,
        out: ms.Tensor,
        dout: ms.Tensor,
    ) -> tuple[ms.Tensor, ms.Tensor, ms.Tensor, ms.Tensor, ms.Tensor]:
        scaled = ops.depend(q, dout) * self.scale
        probabilities = self.softmax(self.bmm_nt(scaled, k) + bias)
        d_scores = scores_gradient(probabilities, v, out, dout, keep)
        d_q = self.bmm(d_scores, k) * self.scale
        d_v = self.bmm_tn(probabilities * keep, dout)
        return d_q, self.bmm_tn(d_scores, scaled), d_v, d_scores, ops.zeros_like(keep)


class _NativeCore(nn.Cell):
    """The same function with the framework's gradients."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.bmm = ops.BatchMatMul()
        self.bmm_nt = ops.BatchMatMul(transpose_b=True)
        self.softmax = ops.Softmax(-1)

    def construct(
        self,
        q: ms.Tensor,
        k: ms.Tensor,
        v: ms.Tensor,
        bias: ms.Tensor | None = None,
        keep: ms.Tensor | None = None,
    ) -> ms.Tensor:
        scores = self.bmm_nt(q * self.scale, k)
        if bias is not None:
            scores = scores + bias
        probabilities = self.softmax(scores)
        if keep is not None:
            probabilities = probabilities * keep
        return self.bmm(probabilities, v)


def attention_core(scale: float, kind: str = "plain") -> nn.Cell:
    """Cell without parameters that computes attention in the form that is fast on the device.

    Args:
        scale: factor of q k^T, usually head width ** -0.5.
        kind: "plain" (q, k, v), "biased" (q, k, v, bias) or "dropped" (q, k, v, bias, keep);
            bias and keep are (G, N, M).

    Raises:
        ValueError: an unknown kind.
    """
    forms = {"plain": _FastPlainCore, "biased": _FastBiasedCore, "dropped": _FastDroppedCore}
    if kind not in forms:
        raise ValueError(f"kind={kind!r}; choose one of {sorted(forms)}")
    return forms[kind](scale) if fast_cpu_kernels() else _NativeCore(scale)


class _FastGridCore(nn.Cell):
    """softmax(scale * q k^T + rel_h[..., :, None] + rel_w[..., None, :]) v on a grid of keys.

    The two position terms are computed by the same product: q gets the columns rel_h and rel_w, k the rows of two
    constant indicator matrices. No addition to an N x N tensor and no sum over one is needed,
    forward or backward.
    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.bmm = ops.BatchMatMul()
        self.bmm_nt = ops.BatchMatMul(transpose_b=True)
        self.bmm_tn = ops.BatchMatMul(transpose_a=True)
        self.softmax = ops.Softmax(-1)
        self.concat = ops.Concat(-1)

    def _keys(self, k: ms.Tensor, indicator: ms.Tensor) -> ms.Tensor:
        spread = ops.broadcast_to(indicator.expand_dims(0), (k.shape[0],) + indicator.shape)
        return self.concat((k, spread))

    def construct(
        self,
        q: ms.Tensor,
        k: ms.Tensor,
        v: ms.Tensor,
        rel_h: ms.Tensor,
        rel_w: ms.Tensor,
        indicator: ms.Tensor,
    ) -> ms.Tensor:
        queries = self.concat((q * self.scale, rel_h, rel_w))
        return self.bmm(self.softmax(self.bmm_nt(queries, self._keys(k, indicator))), v)

    def bprop(
        self,
        q: ms.Tensor,
        k: ms.Tensor,
        v: ms.Tensor,
        rel_h: ms.Tensor,
        rel_w: ms.Tensor,
        indicator: ms.Tensor,
        out: ms.Tensor,
        dout: ms.Tensor,
    ) -> tuple[ms.Tensor, ms.Tensor, ms.Tensor, ms.Tensor, ms.Tensor, ms.Tensor]:
        scaled = ops.depend(q, dout) * self.scale
        keys = self._keys(ops.depend(k, dout), indicator)
        probabilities = self.softmax(self.bmm_nt(self.concat((scaled, rel_h, rel_w)), keys))
        d_scores = scores_gradient(probabilities, v, out, dout, None)
        width, rows, columns = q.shape[-1], rel_h.shape[-1], rel_w.shape[-1]
        d_q, d_rel_h, d_rel_w = ops.split(self.bmm(d_scores, keys), [width, rows, columns], -1)
        d_k = self.bmm_tn(d_scores, scaled)
        return d_q * self.scale, d_k, self.bmm_tn(probabilities, dout), d_rel_h, d_rel_w, ops.zeros_like(indicator)


class _NativeGridCore(nn.Cell):
    """The same function with a broadcast bias and the framework's gradients."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.core = _NativeCore(scale)

    def construct(
        self,
        q: ms.Tensor,
        k: ms.Tensor,
        v: ms.Tensor,
        rel_h: ms.Tensor,
        rel_w: ms.Tensor,
        indicator: ms.Tensor,
    ) -> ms.Tensor:
        groups, queries = q.shape[0], q.shape[1]
        bias = rel_h.expand_dims(-1) + rel_w.expand_dims(-2)
        return self.core(q, k, v, bias.reshape((groups, queries, indicator.shape[0])))


class GridAttention(nn.Cell):
    """Attention over a grid of keys with one additive term per key row and one per key column.

    construct takes q, k, v, then rel_h (G, N, rows), rel_w (G, N, columns) and the constant
    `indicator` (rows * columns, rows + columns) of `grid_indicator`.

    Args:
        scale: factor of q k^T.
        most_logits: numbers of a tensor of logits; where all groups together have more, they are computed in parts,
            one after the other, first by groups and then by queries. 0 = all at once.
    """

    def __init__(self, scale: float, most_logits: int = 0) -> None:
        super().__init__()
        self.core = _FastGridCore(scale) if fast_cpu_kernels() else _NativeGridCore(scale)
        self.most_logits = most_logits

    def construct(
        self,
        q: ms.Tensor,
        k: ms.Tensor,
        v: ms.Tensor,
        rel_h: ms.Tensor,
        rel_w: ms.Tensor,
        indicator: ms.Tensor,
    ) -> ms.Tensor:
        """See the class for the arguments; returns (G, N, dv)."""
        groups, queries, keys = q.shape[0], q.shape[1], k.shape[1]
        if self.most_logits == 0 or groups * queries * keys <= self.most_logits:
            return self.core(q, k, v, rel_h, rel_w, indicator)
        sizes = _parts(groups, max(1, self.most_logits // (queries * keys)))
        q_parts, k_parts, v_parts = ops.split(q, sizes, 0), ops.split(k, sizes, 0), ops.split(v, sizes, 0)
        h_parts, w_parts = ops.split(rel_h, sizes, 0), ops.split(rel_w, sizes, 0)
        found, last = (), q
        for index in range(len(sizes)):
            # Not before the part in front of it is done: otherwise the logits of several exist at the same time.
            part = ops.depend(q_parts[index], last)
            last = self._by_queries(part, k_parts[index], v_parts[index], h_parts[index], w_parts[index], indicator)
            found = found + (last,)
        return ops.concat(found, 0)

    def _by_queries(
        self,
        q: ms.Tensor,
        k: ms.Tensor,
        v: ms.Tensor,
        rel_h: ms.Tensor,
        rel_w: ms.Tensor,
        indicator: ms.Tensor,
    ) -> ms.Tensor:
        groups, queries, keys = q.shape[0], q.shape[1], k.shape[1]
        if groups * queries * keys <= self.most_logits:
            return self.core(q, k, v, rel_h, rel_w, indicator)
        sizes = _parts(queries, max(1, self.most_logits // (groups * keys)))
        q_parts, h_parts, w_parts = ops.split(q, sizes, 1), ops.split(rel_h, sizes, 1), ops.split(rel_w, sizes, 1)
        found, last = (), q
        for index in range(len(sizes)):
            part = ops.depend(q_parts[index], last)
            last = self.core(part, k, v, h_parts[index], w_parts[index], indicator)
            found = found + (last,)
        return ops.concat(found, 1)


def _parts(count: int, most: int) -> list[int]:
    """Sizes of at most `most` that sum up to `count`."""
    return [most] * (count // most) + ([count % most] if count % most else [])


def split_heads(x: ms.Tensor, heads: int) -> ms.Tensor:
    """(B, N, heads * d) -> (B * heads, N, d)."""
    batch, count, width = x.shape
    x = swap_middle(x.reshape((batch, count, heads, width // heads)))
    return x.reshape((batch * heads, count, width // heads))


def merge_heads(x: ms.Tensor, heads: int) -> ms.Tensor:
    """(B * heads, N, d) -> (B, N, heads * d)."""
    groups, count, width = x.shape
    x = swap_middle(x.reshape((groups // heads, heads, count, width)))
    return x.reshape((groups // heads, count, heads * width))


class Attention(nn.Cell):
    """Multi-head attention on projected inputs, with an optional key mask and probability dropout.

    Args:
        heads: number of heads; they split the channel axis contiguously.
        head_width: channels of one head.
        dropout: rate on the probabilities, in training only.
        scale: factor of q k^T; None means head_width ** -0.5.
    """

    def __init__(self, heads: int, head_width: int, dropout: float = 0.0, scale: float | None = None) -> None:
        super().__init__()
        factor = head_width**-0.5 if scale is None else scale
        self.heads = heads
        self.rate = dropout
        self.plain = attention_core(factor, "plain")
        self.biased = attention_core(factor, "biased")
        self.dropped = attention_core(factor, "dropped")
        self.dropout = Dropout(dropout)

    def construct(self, q: ms.Tensor, k: ms.Tensor, v: ms.Tensor, bias: ms.Tensor | None = None) -> ms.Tensor:
        """q (B, N, C), k (B, M, C), v (B, M, Cv), bias (B, 1 or heads, 1 or N, M) or None -> (B, N, Cv)."""
        batch, count, keys = q.shape[0], q.shape[1], k.shape[1]
        q, k, v = split_heads(q, self.heads), split_heads(k, self.heads), split_heads(v, self.heads)
        shape = (batch * self.heads, count, keys)
        if bias is not None:
            bias = ops.broadcast_to(bias, (batch, self.heads, count, keys)).reshape(shape)
        if self.training and self.rate > 0.0:
            keep = self.dropout(ops.ones(shape, q.dtype))
            bias = ops.zeros(shape, q.dtype) if bias is None else bias
            out = self.dropped(q, k, v, bias, keep)
        elif bias is not None:
            out = self.biased(q, k, v, bias)
        else:
            out = self.plain(q, k, v)
        return merge_heads(out, self.heads)
