"""The scores of a shard's documents, from the answers that there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from gneiss.arrays import BoolArray, Float64Array
from gneiss.errors import InputError, first_line
from gneiss.model_training.coding.guard import ScoreSource, is_certain, is_in_guard_band, on_grid
from gneiss.model_training.coding.linear import decoded, largest_weight, rounding_bound
from gneiss.model_training.heads.head import Answers, Head
from gneiss.output.parquet import read_table
from gneiss.store.place import Place

#: The columns of a file of answers.
ANSWERS = pa.schema([pa.field("score", pa.float64()), pa.field("entries", pa.int64()), pa.field("mass", pa.float64())])
#: Where a network's decision is.
THRESHOLD = 0.5


@dataclass(frozen=True, eq=False)
class HeadScores:
    """Scores of a head for a shard, on the grid, (documents,); NaN where there is none, or none yet.

    is_exact: what the head itself gives, to the last bit; is_pending: wait for it; the others are estimates.
    """

    score: Float64Array
    is_exact: BoolArray
    is_pending: BoolArray

    def sources(self) -> list[ScoreSource]:
        """Where each score is from."""
        return [
            ScoreSource.EXACT if exact else ScoreSource.PENDING if pending else ScoreSource.CODED
            for exact, pending in zip(self.is_exact.tolist(), self.is_pending.tolist(), strict=True)
        ]


def read_answers(place: Place) -> Answers:
    """A file of answers. Raises InputError."""
    try:
        table = read_table(place, ANSWERS.names)
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"{place}: cannot read: {first_line(error)}; delete it, and run the same command again"
        ) from error
    return Answers(*(table[name].to_numpy() for name in ANSWERS.names))


def exact_scores(answers: Answers) -> HeadScores:
    """Those of a head that has answered."""
    score = on_grid(answers.score)
    return HeadScores(score, np.ones(len(score), np.bool_), np.zeros(len(score), np.bool_))


def no_scores(documents: int) -> HeadScores:
    """Those of a head that nothing is known of."""
    every = np.ones(documents, np.bool_)
    return HeadScores(np.full(documents, np.nan), ~every, every)


class Decoder:
    """Decodes what a lost head would have answered. heads: in the order of the coded head's code."""

    def __init__(self, heads: Mapping[str, Head], coded: Head) -> None:
        assert coded.code is not None
        self._names = list(heads)
        self._beta = np.array(coded.code.coefficients)
        self._is_linear = coded.is_linear
        largest = [largest_weight([head.network[at] for head in heads.values()], self._beta) for at in range(2)]
        self._largest = max(largest)

    def scores(self, lost: str, known: Mapping[str, Answers], of_coded: Answers) -> HeadScores:
        """The scores of a lost head, from the answers of all others and of the coded one."""
        at = self._names.index(lost)
        of_heads = [None if name == lost else known[name].score for name in self._names]
        found = decoded(of_heads, [of_coded.score], self._beta[None])[at]
        if self._is_linear:
            # the bias is a feature more, of value 1
            bound = rounding_bound(of_coded.entries + 1, of_coded.mass + 1, self._largest, self._beta, at)
            # where workers' encoders differ in a bit of a text's features, the head is to say what it finds
            is_same = np.all([answers.mass == of_coded.mass for answers in known.values()], axis=0)
            is_exact = is_certain(found, bound) & is_same
            return HeadScores(np.where(is_exact, on_grid(found), np.nan), is_exact, ~is_exact)
        is_pending = is_in_guard_band(found, THRESHOLD)
        is_exact = np.isnan(found)  # a document without features, which has no score
        return HeadScores(np.where(is_pending, np.nan, on_grid(np.clip(found, 0, 1))), is_exact, is_pending)
