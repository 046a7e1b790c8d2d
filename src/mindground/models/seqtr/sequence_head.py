"""From the fused map to logits of tokens: projection, encoder, decoder, predictor; and the same one token at a time."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from mindground.models.seqtr.sequences import Layout
from mindground.models.seqtr.transformer import Decoder, EncoderLayer, GridPositions
from mindground.nn import init
from mindground.nn.conv import Conv2d
from mindground.nn.linear import Linear

__all__ = ["SequenceHead"]

_FAR = 1e9


class _Projection(nn.Cell):
    """1x1 convolution with bias and GroupNorm of 32 groups."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.conv = Conv2d(in_channels, width)
        self.gn = nn.GroupNorm(32, width, eps=1e-5)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return self.gn(self.conv(x))


class SequenceHead(nn.Cell):
    """Everything behind the fusion.

    Args:
        in_channels: of the fused map.
        layout: of the sequences.
        width, heads, hidden: of the transformer; `width` is a multiple of 32.
        encoder_layers, decoder_layers: numbers of layers.
        dropout: in training only.
    """

    def __init__(
        self,
        in_channels: int,
        layout: Layout,
        width: int = 256,
        heads: int = 8,
        hidden: int = 1024,
        encoder_layers: int = 6,
        decoder_layers: int = 3,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.layout, self.width, self.heads = layout, width, heads
        self.project = _Projection(in_channels, width)
        self.positions = GridPositions(width)
        self.encoder = nn.CellList([EncoderLayer(width, heads, hidden, dropout) for _ in range(encoder_layers)])
        self.decoder = Decoder(width, heads, hidden, decoder_layers, dropout)
        self.tokens = init.parameter(init.normal((layout.classes, width), 1.0), "tokens")
        self.places = init.parameter(init.normal((layout.length, width), 1.0), "places")
        self.names_tasks = layout.task == "multi"
        if self.names_tasks:
            self.tasks = init.parameter(init.normal((2, width), 1.0), "tasks")
        self.predictor = nn.CellList(
            [Linear(width, out, start="kaiming_uniform") for out in (width, width, layout.classes)]
        )
        later = np.triu(np.full((layout.length, layout.length), -_FAR, np.float32), 1)
        self.later = ms.Tensor(later.reshape(1, 1, *later.shape))

    def real(self, padding: ms.Tensor, size: tuple[int, int]) -> ms.Tensor:
        """padding (B, H, W) of 1 and 0 -> (B, h, w) float32, 1 inside the image: the pixel under each corner."""
        height, width = padding.shape[1], padding.shape[2]
        rows = [i * height // size[0] for i in range(size[0])]
        columns = [i * width // size[1] for i in range(size[1])]
        picked = ops.gather(padding.astype(ms.float32), ms.Tensor(rows, ms.int32), 1)
        return 1.0 - ops.gather(picked, ms.Tensor(columns, ms.int32), 2)

    def memory(self, fused: ms.Tensor, padding: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor, ms.Tensor]:
        """Fused map (B, C, h, w), padding (B, H, W) -> memory (B, M, D), with positions, and key bias (B, 1, 1, M)."""
        x = self.project(fused)
        batch, width, rows, columns = x.shape
        real = ops.stop_gradient(self.real(padding, (rows, columns)))
        positions = self.positions(real)
        bias = ((real.reshape((batch, rows * columns)) - 1.0) * _FAR).expand_dims(1).expand_dims(1)
        x = ops.transpose(x.reshape((batch, width, rows * columns)), (0, 2, 1))
        for layer in self.encoder:
            x = layer(x, positions, bias)
        return x, x + positions, bias

    def table(self) -> ms.Tensor:
        """Vectors of all inputs: tokens, then the start (zeros, or the two tasks)."""
        if self.names_tasks:
            return ops.concat((self.tokens, self.tasks), 0)
        return ops.concat((self.tokens, ops.zeros((1, self.width), self.tokens.dtype)), 0)

    def decode(self, memory: ms.Tensor, placed: ms.Tensor, bias: ms.Tensor, previous: ms.Tensor) -> ms.Tensor:
        """Memory and `previous` (B, N) int32, what stands before every place -> hidden states (B, N, D)."""
        x = ops.gather(self.table(), previous, 0)
        places = ops.broadcast_to(self.places.expand_dims(0), x.shape)
        return self.decoder(x, places, memory, placed, self.later, bias)

    def logits(self, hidden: ms.Tensor) -> ms.Tensor:
        """(B, N, D) -> (B, N, classes)."""
        return self.predictor[2](ops.relu(self.predictor[1](ops.relu(self.predictor[0](hidden)))))

    def construct(self, fused: ms.Tensor, padding: ms.Tensor, previous: ms.Tensor) -> ms.Tensor:
        """Fused map (B, C, h, w), padding (B, H, W), previous (B, N) int32 -> logits (B, N, classes)."""
        memory, placed, bias = self.memory(fused, padding)
        return self.logits(self.decode(memory, placed, bias, previous))

    # ---- one token at a time -------------------------------------------------------------------------------------

    def prepare(self, fused: ms.Tensor, padding: ms.Tensor) -> tuple[ms.Tensor, ...]:
        """Fused map and padding -> what all steps share: key bias by heads, keys and values of the memory."""
        return self.shared(*self.memory(fused, padding))

    def shared(self, memory: ms.Tensor, placed: ms.Tensor, bias: ms.Tensor) -> tuple[ms.Tensor, ...]:
        """What `memory` gave -> what all steps of decoding share, see `prepare`."""
        batch, count = memory.shape[0], memory.shape[1]
        spread = ops.broadcast_to(bias.reshape((batch, 1, 1, count)), (batch, self.heads, 1, count))
        found = (spread.reshape((batch * self.heads, 1, count)),)
        for layer in self.decoder.layers:
            found = found + layer.prepare(memory, placed)
        return found

    def advance(self, token: ms.Tensor, place: ms.Tensor, *state: ms.Tensor) -> tuple[ms.Tensor, ...]:
        """One token of every sequence.

        Args:
            token: (B,) int32, what stands before this place.
            place: (1,) int32.
            state: what `prepare` gave, then keys and values of the places before for every layer,
                (B * heads, N, d) each, zeros at the start.

        Returns:
            Logits (B, classes), then the caches with this place filled in.
        """
        layers = len(self.decoder.layers)
        bias, memory, caches = state[0], state[1 : 1 + 2 * layers], state[1 + 2 * layers :]
        count, groups = self.layout.length, bias.shape[0]
        x = ops.gather(self.table(), token, 0).expand_dims(1)
        at = ops.broadcast_to(ops.gather(self.places, place, 0).expand_dims(0), x.shape)
        numbers = ops.arange(count).astype(ms.int32)
        here = (numbers == place).astype(ms.float32).reshape((1, count, 1))
        seen = (numbers <= place).astype(ms.float32).reshape((1, 1, count))
        earlier = ops.broadcast_to((seen - 1.0) * _FAR, (groups, 1, count))
        filled = ()
        for index in range(layers):
            pair = (caches[2 * index], caches[2 * index + 1])
            kept = (memory[2 * index], memory[2 * index + 1])
            x, keys, values = self.decoder.layers[index].advance(x, at, here, earlier, bias, pair, kept)
            filled = filled + (keys, values)
        return (self.logits(self.decoder.norm(x))[:, 0], *filled)
