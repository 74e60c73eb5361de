"""Adapted layers of an encoder with a head, run by torch: gradients of adapters, and scores.

Needs torch. A matrix of which no rank lives is only what it was: nothing of its adapter is computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gneiss.arrays import AnyArray, BoolArray, Float32Array, Int64Array
from gneiss.filters.encoder_models.torch_bert import Linear, TorchBert, one_thread
from gneiss.model_training.federated.encoder.adapters import SCALE, AdapterSpace, Form
from gneiss.model_training.federated.encoder.space import adapter_space
from gneiss.model_training.federated.strategies.steps import Gradient, Weights

_TEXTS_AT_ONCE = 64
#: A (ranks, inputs), E (ranks,) or None, and B (ranks, outputs).
_Adapter: TypeAlias = "tuple[Tensor, Tensor | None, Tensor]"


@dataclass(frozen=True, eq=False)
class Hidden:
    """Labelled texts as the frozen layers of an encoder leave them.

    states: float16 (texts, tokens, width); lengths: tokens of each; labels: int64 (texts,), from 0.
    """

    states: AnyArray
    lengths: Int64Array
    labels: Int64Array

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class AdaptedEncoder:
    """An encoder whose last layers are adapted, and a head over its first token. outputs: labels, a score each."""

    bert: TorchBert
    layers: int
    outputs: int

    def space(self, form: Form, rank: int, seed: int) -> AdapterSpace:
        """Its adapters, and its head."""
        return adapter_space(self.bert.config, self.layers, self.outputs, form, rank, seed)

    def gradient(
        self, space: AdapterSpace, alive: BoolArray, texts: Hidden, draw: np.random.Generator, batch: int
    ) -> Gradient:
        """The gradient of the mean log loss on one mini-batch after another, drawn with replacement."""

        def of_the_next_batch(weights: Weights) -> Weights:
            chosen = draw.integers(0, len(texts), batch)
            x = torch.from_numpy(np.ascontiguousarray(weights)).requires_grad_()
            with one_thread():
                loss = self.loss(space, alive, x, texts, chosen)
                (found,) = torch.autograd.grad(loss, x)
            gradient: Weights = found.numpy()
            return gradient

        return of_the_next_batch

    def loss(self, space: AdapterSpace, alive: BoolArray, x: Tensor, texts: Hidden, chosen: Int64Array) -> Tensor:
        """The mean log loss of some texts."""
        scores = self._scores(space, alive, x, texts, chosen)
        return functional.cross_entropy(scores, torch.from_numpy(texts.labels[chosen]))

    def scores(self, space: AdapterSpace, alive: BoolArray, weights: Weights, texts: Hidden) -> Float32Array:
        """Logits of texts, (texts, outputs)."""
        x = torch.from_numpy(np.ascontiguousarray(weights))
        found = np.zeros((len(texts), self.outputs), np.float32)
        with one_thread(), torch.inference_mode():
            for start in range(0, len(texts), _TEXTS_AT_ONCE):
                chosen = np.arange(start, min(start + _TEXTS_AT_ONCE, len(texts)))
                found[chosen] = self._scores(space, alive, x, texts, chosen).numpy()
        return found

    def figures(self, space: AdapterSpace, alive: BoolArray, weights: Weights, texts: Hidden) -> dict[str, int | float]:
        """How weights do on texts: their number, how many labels are predicted, and the sum of log losses."""
        scores = torch.from_numpy(self.scores(space, alive, weights, texts)).double()
        labels = torch.from_numpy(texts.labels)
        loss = float(functional.cross_entropy(scores, labels, reduction="sum")) if len(texts) else 0.0
        return {"documents": len(texts), "correct": int((scores.argmax(1) == labels).sum()), "loss_sum": loss}

    def _scores(self, space: AdapterSpace, alive: BoolArray, x: Tensor, texts: Hidden, chosen: Int64Array) -> Tensor:
        adapters, head = self._parts(space, alive, x)
        lengths = texts.lengths[chosen]
        states = torch.from_numpy(texts.states[chosen, : int(lengths.max())]).float()
        last = self.bert.config.layers
        linears = {layer: self._adapted(layer, adapters) for layer in range(last - self.layers, last)}
        tokens = self.bert.first_token(states, lengths, linears)
        by_label = head.reshape(self.outputs, self.bert.config.width + 1)
        return functional.linear(tokens, by_label[:, :-1], by_label[:, -1])

    def _parts(self, space: AdapterSpace, alive: BoolArray, x: Tensor) -> tuple[dict[str, _Adapter], Tensor]:
        """(matrix → adapter, head) of a vector."""
        lives = space.live(alive)
        sizes = [live * sum(space.widths(matrix)) for matrix, live in zip(space.matrices, lives, strict=True) if live]
        *rows, head = torch.split(x, [*sizes, space.head])
        found: dict[str, _Adapter] = {}
        for at, live in enumerate(lives):
            if not live:
                continue
            matrix = space.matrices[at]
            parts = torch.split(rows[len(found)].reshape(live, -1), [*space.widths(matrix)], dim=1)
            match space.form:
                case "svd":
                    found[matrix.name] = parts[0], parts[1][:, 0], parts[2]
                case "lora":
                    found[matrix.name] = parts[0], None, parts[1]
                case _:
                    found[matrix.name] = torch.from_numpy(space.drawn_a(at, alive)), None, parts[0]
        return found, head

    def _adapted(self, layer: int, adapters: dict[str, _Adapter]) -> Linear:
        plain = self.bert.linear(layer)

        def of(x: Tensor, name: str) -> Tensor:
            found = adapters.get(f"encoder.layer.{layer}.{name}")
            if found is None:
                return plain(x, name)
            a, e, b = found
            narrow = functional.linear(x, a)
            return plain(x, name) + SCALE * ((narrow if e is None else narrow * e) @ b)

        return of
