"""Adapters of low rank beside the matrices of an encoder, and the one vector that they travel as.

W₀ + s·B·diag(E)·A, of which W₀ stays as it is. A vector has of each matrix its live ranks one after the other, each
with its row of A, its E and its column of B, as far as they are trained; then the head of the encoder.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np

from gneiss.arrays import BoolArray, Float32Array, Float64Array
from gneiss.errors import InputError
from gneiss.model_training.federated.encoder.ranks import Importance
from gneiss.model_training.federated.strategies.steps import Weights

#: What is trained of an adapter: A, E and B; A and B; B.
Form: TypeAlias = Literal["svd", "lora", "frozen_a"]
#: What a rank is judged by: the importance of its weights, or |E|.
Score: TypeAlias = Literal["importance", "magnitude"]
#: s, what adapters are multiplied with.
SCALE = 2.0


@dataclass(frozen=True)
class Matrix:
    """A matrix of an encoder that is adapted, (outputs, inputs)."""

    name: str
    outputs: int
    inputs: int


@dataclass(frozen=True, eq=False)
class Adapter:
    """An adapter: a (ranks, inputs), e (ranks,), b (ranks, outputs), each row a rank; e is None for ones."""

    a: Weights
    e: Weights | None
    b: Weights

    @property
    def product(self) -> Weights:
        """What it adds to its matrix, (outputs, inputs)."""
        scaled = self.b if self.e is None else self.b * self.e[:, None]
        added: Weights = SCALE * np.einsum("ro,ri->oi", scaled, self.a)
        return added


@dataclass(frozen=True)
class AdapterSpace:
    """What adapters there are.

    matrices: those adapted; rank: of each at the start; head: weights of the head; form: what is trained; seed: of what
    is random at the start, and of an A that stays so. Raises InputError for a form or a rank that there is not.
    """

    matrices: tuple[Matrix, ...]
    rank: int
    head: int
    form: Form
    seed: int = 0

    def __post_init__(self) -> None:
        if self.form not in get_args(Form):
            raise InputError(f"adapters: expected one of {', '.join(get_args(Form))}, found {self.form!r}")
        if not 1 <= self.rank <= 1024:
            raise InputError(f"adapters: expected a rank of 1 to 1024, found {self.rank}")

    @property
    def ranks(self) -> int:
        """Ranks of all matrices together."""
        return self.rank * len(self.matrices)

    def widths(self, matrix: Matrix) -> tuple[int, ...]:
        """Trained weights of one rank: of A's row, E and B's column, as far as they are trained."""
        match self.form:
            case "svd":
                return matrix.inputs, 1, matrix.outputs
            case "lora":
                return matrix.inputs, matrix.outputs
        return (matrix.outputs,)

    def live(self, alive: BoolArray) -> list[int]:
        """How many ranks of each matrix live."""
        counts: list[int] = self.by_matrix(alive).sum(axis=1).tolist()
        return counts

    def size(self, alive: BoolArray) -> int:
        """Weights of a vector in which these ranks live, (ranks,)."""
        lives = zip(self.matrices, self.live(alive), strict=True)
        return self.head + sum(live * sum(self.widths(matrix)) for matrix, live in lives)

    def by_matrix(self, alive: BoolArray) -> BoolArray:
        """(matrices, rank)."""
        return alive.reshape(len(self.matrices), self.rank)

    def rows(self, x: Weights, alive: BoolArray) -> tuple[list[Weights], Weights]:
        """(rows, head): views of a vector: of each matrix its live ranks, (live, width), and the head."""
        found, at = [], 0
        for matrix, live in zip(self.matrices, self.live(alive), strict=True):
            end = at + live * (width := sum(self.widths(matrix)))
            found.append(x[at:end].reshape(live, width))
            at = end
        return found, x[at:]

    def adapters(self, x: Weights, alive: BoolArray) -> tuple[dict[str, Adapter], Weights]:
        """(matrix → adapter, head) of a vector. A matrix without a live rank has no adapter."""
        rows, head = self.rows(x, alive)
        found = {}
        for at, (matrix, own) in enumerate(zip(self.matrices, rows, strict=True)):
            if not len(own):
                continue
            parts = np.split(own, np.cumsum(self.widths(matrix))[:-1], axis=1)
            match self.form:
                case "svd":
                    found[matrix.name] = Adapter(parts[0], parts[1][:, 0], parts[2])
                case "lora":
                    found[matrix.name] = Adapter(parts[0], None, parts[1])
                case _:
                    found[matrix.name] = Adapter(self.drawn_a(at, alive).astype(x.dtype), None, parts[0])
        return found, head

    def drawn_a(self, at: int, alive: BoolArray) -> Float32Array:
        """The random A of a matrix, by its place: its live ranks, (live, inputs)."""
        a, _ = self._drawn(at)
        live: Float32Array = a[self.by_matrix(alive)[at]]
        return live

    def begin(self) -> Float32Array:
        """The vector that a training begins with: what adapters add is 0, and so is the head."""
        parts = []
        for at, matrix in enumerate(self.matrices):
            a, b = self._drawn(at)
            match self.form:
                case "svd":
                    parts.append(np.hstack([a, np.zeros((self.rank, 1), np.float32), b]).ravel())
                case "lora":
                    parts.append(np.hstack([a, np.zeros_like(b)]).ravel())
                case _:
                    parts.append(np.zeros(self.rank * matrix.outputs, np.float32))
        return np.concatenate([*parts, np.zeros(self.head, np.float32)])

    def _drawn(self, at: int) -> tuple[Float32Array, Float32Array]:
        """Random A (rank, inputs) with the variance 1/inputs, and B (rank, outputs) with 1/rank."""
        matrix = self.matrices[at]
        draw = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, at])))
        a = draw.standard_normal((self.rank, matrix.inputs)) / math.sqrt(matrix.inputs)
        b = draw.standard_normal((self.rank, matrix.outputs)) / math.sqrt(self.rank)
        return a.astype(np.float32), b.astype(np.float32)

    def rank_scores(self, x: Weights, alive: BoolArray, importance: Importance, score: Score) -> Float64Array:
        """How much each live rank matters: that of its E, and the means of its A and of its B; or |E| alone."""
        rows, _ = self.rows(x if score == "magnitude" else importance.score, alive)
        found = []
        for matrix, own in zip(self.matrices, rows, strict=True):
            e = own[:, matrix.inputs].astype(np.float64)
            if score == "magnitude":
                found.append(np.abs(e))
                continue
            a, b = own[:, : matrix.inputs], own[:, matrix.inputs + 1 :]
            found.append(e + a.mean(axis=1, dtype=np.float64) + b.mean(axis=1, dtype=np.float64))
        return np.concatenate(found)

    def kept(self, x: Weights, alive: BoolArray, survivors: BoolArray) -> Weights:
        """A vector without the ranks that have gone."""
        rows, head = self.rows(x, alive)
        stays = [
            own[after[before]].ravel()
            for own, before, after in zip(rows, self.by_matrix(alive), self.by_matrix(survivors), strict=True)
        ]
        return np.concatenate([*stays, head])
