"""A toy step, as docs/development.md shows it: which documents are as long as the longest one, of a shard or of all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa

from gneiss.annotation import STRICT_KEYS, Column
from gneiss.corpus_steps import Batches, CorpusStep, PhaseDocuments, Stage, StepCorpus, StepResult

LENGTH = pa.schema([("length_bytes", pa.int64())])


@dataclass(frozen=True)
class Longest(CorpusStep):
    """Finds the longest documents."""

    __pydantic_config__ = STRICT_KEYS
    key: ClassVar[str] = "longest"
    columns: ClassVar[tuple[Column, ...]] = (Column("is_longest", "bool", "no other document is longer"),)

    scope: Literal["shard", "corpus"] = "corpus"

    @property
    def sees_corpus(self) -> bool:
        """At corpus scope."""
        return self.scope == "corpus"

    @property
    def explanation(self) -> str:
        """For `gneiss explain`."""
        return f"finds     the longest documents (scope {self.scope})"

    def within_shard(self, documents: PhaseDocuments, model: Any) -> StepResult:
        """At shard scope."""
        return _compared(documents, int(np.diff(documents.batch.offsets).max(initial=0)))

    def stages(self, corpus: StepCorpus) -> Sequence[Stage]:
        """At corpus scope: the longest of each shard, then of all."""
        return (
            Stage("of_shard", len(corpus.shards), LENGTH, _of_shard, is_local=True),
            Stage("of_all", 1, LENGTH, _of_all),
        )

    def results(self, corpus: StepCorpus) -> Callable[[int, PhaseDocuments], StepResult]:
        """What the stages found."""
        longest = corpus.batch("of_all", 0)["length_bytes"][0].as_py()
        return lambda shard, documents: _compared(documents, longest)


def _of_shard(corpus: StepCorpus, shard: int) -> Batches:
    longest = np.diff(corpus.texts(shard).offsets).max(initial=0)
    return [pa.record_batch([pa.array([longest])], schema=LENGTH)]


def _of_all(corpus: StepCorpus, task: int) -> Batches:
    lengths = (batch["length_bytes"][0].as_py() for batch in corpus.across("of_shard", len(corpus.shards), 0))
    return [pa.record_batch([pa.array([max(lengths)])], schema=LENGTH)]


def _compared(documents: PhaseDocuments, longest: int) -> StepResult:
    return StepResult({"is_longest": pa.array(np.diff(documents.batch.offsets) == longest)})
