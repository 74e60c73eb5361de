"""The forward pass of BERT in torch, layer by layer: for a GPU, and for layers that are trained.

Needs torch (`pip install 'gneiss-curation[train]'`), so it is imported where it is used. On a CPU, in one thread: equal
texts and versions give equal numbers on one kind of processor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gneiss.arrays import AnyArray, Int64Array
from gneiss.errors import ModelError
from gneiss.filters.encoder_models.bert import Bert, BertConfig
from gneiss.filters.encoder_models.windows import Windows

#: (x, name) → x times a matrix of a layer, and its bias.
Linear: TypeAlias = Callable[[Tensor, str], Tensor]
_ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {"gelu": functional.gelu, "relu": functional.relu}
_TEXTS_AT_ONCE = 32


@dataclass(frozen=True, eq=False)
class TorchBert:
    """An encoder. weights: name → tensor, on one device."""

    config: BertConfig
    weights: Mapping[str, Tensor]

    @classmethod
    def of(cls, bert: Bert) -> TorchBert:
        """The same in torch."""
        return cls(bert.config, {name: torch.from_numpy(array) for name, array in bert.arrays.items()})

    def hidden(self, windows: Windows, texts: Sequence[str], layers: int) -> tuple[AnyArray, Int64Array]:
        """(states, lengths): what so many layers, the first ones, make of the first window of texts.

        states: float16 (texts, tokens, width), 0 past the end of a text; lengths: tokens of each, at least 1. Raises
        ModelError for an encoder whose states are too large for that.
        """
        ids = [(windows.of(text) or [np.array([*windows.before, *windows.after] or [0])])[0] for text in texts]
        lengths = np.array([len(own) for own in ids], np.int64)
        states = np.zeros((len(texts), windows.tokens, self.config.width), np.float16)
        by_length = np.argsort(lengths, kind="stable")
        with one_thread(), torch.inference_mode():
            for start in range(0, len(texts), _TEXTS_AT_ONCE):
                chosen = by_length[start : start + _TEXTS_AT_ONCE]
                longest = int(lengths[chosen].max())
                padded = np.zeros((len(chosen), longest), np.int64)
                for row, at in enumerate(chosen):
                    padded[row, : lengths[at]] = ids[at]
                real = _real(lengths[chosen], longest)
                x = self.embedded(torch.from_numpy(padded))
                for layer in range(layers):
                    x = self.layer(x, real, layer, self.linear(layer))
                states[chosen, :longest] = torch.where(real[:, :, None], x, 0).to(torch.float16).numpy()
        if not np.isfinite(states).all():
            raise ModelError("encoder: states of its layers are past 65,504; expected one whose states are smaller")
        return states, lengths

    def embedded(self, ids: Tensor) -> Tensor:
        """What the first layer reads of ids, (texts, tokens, width)."""
        of = "embeddings.{}_embeddings.weight".format
        x = self.weights[of("word")][ids] + self.weights[of("position")][: ids.shape[1]]
        if of("token_type") in self.weights:
            x = x + self.weights[of("token_type")][0]
        return self._norm(x, "embeddings.LayerNorm")

    def first_token(self, states: Tensor, lengths: Int64Array, linears: Mapping[int, Linear]) -> Tensor:
        """The first token of texts after the last layers, (texts, width); linears: the matrices of each of these."""
        real = _real(lengths, states.shape[1])
        x = states
        for layer, linear in sorted(linears.items()):
            x = self.layer(x, real, layer, linear, only_first=layer == self.config.layers - 1)
        return x[:, 0]

    def linear(self, layer: int) -> Linear:
        """The matrices of a layer as they are."""

        def of(x: Tensor, name: str) -> Tensor:
            path = f"encoder.layer.{layer}.{name}"
            return functional.linear(x, self.weights[f"{path}.weight"], self.weights[f"{path}.bias"])

        return of

    def layer(self, x: Tensor, real: Tensor, layer: int, linear: Linear, only_first: bool = False) -> Tensor:
        """A layer: (texts, tokens, width) in and out.

        real: which tokens are of the text, (texts, tokens); only_first: compute what becomes of the first token alone.
        """
        asking = x[:, :1] if only_first else x
        mixed = functional.scaled_dot_product_attention(
            self._by_head(linear(asking, "attention.self.query")),
            self._by_head(linear(x, "attention.self.key")),
            self._by_head(linear(x, "attention.self.value")),
            attn_mask=real[:, None, None, :],
        )
        mixed = linear(mixed.transpose(1, 2).flatten(2), "attention.output.dense")
        asking = self._norm(asking + mixed, f"encoder.layer.{layer}.attention.output.LayerNorm")
        between = _ACTIVATIONS[self.config.activation](linear(asking, "intermediate.dense"))
        return self._norm(asking + linear(between, "output.dense"), f"encoder.layer.{layer}.output.LayerNorm")

    def _by_head(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], self.config.heads, -1).transpose(1, 2)

    def _norm(self, x: Tensor, name: str) -> Tensor:
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return functional.layer_norm(x, (self.config.width,), weight, bias, self.config.epsilon)


def _real(lengths: Int64Array, tokens: int) -> Tensor:
    """Which tokens are of the text, (texts, tokens)."""
    return torch.arange(tokens)[None, :] < torch.from_numpy(lengths)[:, None]


@contextmanager
def one_thread() -> Iterator[None]:
    """In the block torch computes in one thread: sums then have one order, and a worker takes the core it asked for."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
