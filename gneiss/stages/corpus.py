"""The corpus as corpus-wide rounds see it: all shards of a run, and the texts that reach a phase."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pyarrow as pa

from gneiss.batch import TextBatch
from gneiss.curate.curate import first_input
from gneiss.curate.loaded_models import Prepared
from gneiss.curate.phase import PhaseInput, decide_phase
from gneiss.curate.phase_result import PhaseResult
from gneiss.curate.reading import read_documents
from gneiss.errors import InputError
from gneiss.input.shard import Shard
from gneiss.recipe.recipe import Recipe
from gneiss.recipe.rule import locked_connection
from gneiss.stages.exchange import Exchange

if TYPE_CHECKING:
    import duckdb

Batches: TypeAlias = Iterable[pa.RecordBatch]
#: What a reducer over a hash partition may hold.
REDUCER_MEMORY_BYTES = 1_000_000_000
#: A partition that this leaves too large is worked on in several passes.
MOST_PARTITIONS = 2**16 - 1


@dataclass(frozen=True)
class Round:
    """Tasks that can run beside each other, each of which leaves one exchange file.

    tasks: how many; schema: of their batches; open: once per worker, the work of a task.
    """

    name: str
    tasks: int
    schema: pa.Schema
    open: Callable[[], Callable[[int], Batches]]


@dataclass(frozen=True)
class Corpus:
    """The shards of a run, in order, as its corpus-wide rounds see them: a picklable value that every worker opens.

    partitions: of hashes; by default as many as keep a reducer within its memory. The answers are the same.
    """

    recipe: Recipe
    prepared: Prepared
    shards: tuple[Shard, ...]
    output: Path
    partitions: int | None = None

    @property
    def exchange(self) -> Exchange:
        """The files of all rounds."""
        return Exchange(self.output)

    @property
    def shard_ids(self) -> list[str]:
        """The ids of the shards, in order."""
        return [shard.id for shard in self.shards]

    def computed(self, phase: int, shard: int) -> PhaseResult:
        """What a phase before a corpus-wide one has computed of a shard. Raises OutputError."""
        batch = self.exchange.batch(computed_name(self.recipe, phase), shard, 0)
        return PhaseResult.of_batch(batch, self.shard_ids)


def computed_name(recipe: Recipe, phase: int) -> str:
    """The name of the round that computes a phase for those after it."""
    return f"computed_{recipe.phases[phase].name}"


@dataclass(frozen=True, eq=False)
class Reader:
    """A corpus in a worker: reads the documents that reach a phase."""

    corpus: Corpus
    connection: duckdb.DuckDBPyConnection

    @classmethod
    def of(cls, corpus: Corpus) -> Reader:
        """Open a corpus."""
        return cls(corpus, locked_connection())

    def entering(self, phase: int, shard: int) -> PhaseInput | None:
        """The documents of a shard that reach a phase; None for a shard that cannot be read.

        What earlier phases computed is read from their rounds, and decided again.
        """
        recipe = self.corpus.recipe
        its = self.corpus.shards[shard]
        try:
            documents = read_documents(its, recipe.input.text, recipe.inputs)
        except InputError:  # `curate` meets the same error, and puts the shard into quarantine with the reason
            return None
        entering = first_input(its.id, documents)
        for earlier in range(phase):
            computed = self.corpus.computed(earlier, shard)
            entering = decide_phase(recipe.phases[earlier], self.connection, entering, computed).staying
        return entering

    def text(self, phase: int, shard: int) -> TextBatch:
        """The texts that reach a phase, one for each row of the shard; empty for a row that does not reach it."""
        entering, rows = self.entering(phase, shard), self.corpus.shards[shard].rows
        if entering is None:
            return TextBatch(np.empty(0, np.uint8), np.zeros(rows + 1, np.int64))
        return entering.batch.placed(entering.rows, rows)
