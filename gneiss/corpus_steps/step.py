"""Corpus-wide steps: they see all documents that enter their phase before any of them is decided.

A step is a frozen value, its parameters, written in a recipe under its key. At shard scope it works within one shard.
At wider scopes its stages run before `curate`: each task of a stage writes one exchange file, and the next stage starts
when all exist. It returns its results to `curate` as edits and annotations.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias

import pyarrow as pa

from gneiss.annotation import Column
from gneiss.arrays import BoolArray, Int64Array
from gneiss.batch import TextBatch

if TYPE_CHECKING:
    from gneiss.edit import Edits

Batches: TypeAlias = Iterable[pa.RecordBatch]
#: Memory limit of a task over a hash partition.
REDUCER_MEMORY_BYTES = 1_000_000_000
#: Maximum number of partitions; those that are then too large are processed in several passes.
MOST_PARTITIONS = 2**16 - 1


class ShardSize(Protocol):
    """A shard as known to a step before reading it."""

    @property
    def id(self) -> str:
        """Its id."""

    @property
    def rows(self) -> int:
        """Rows of the input; where memory is asked for, perhaps a guess."""

    @property
    def text_bytes(self) -> int:
        """Bytes of text, according to the file's metadata, or a guess."""

    @property
    def file(self) -> Hashable:
        """The input file that it is a part of."""


class PhaseDocuments(Protocol):
    """The documents of a shard that enter the phase of a step."""

    @property
    def shard_id(self) -> str:
        """The shard that they are in."""

    @property
    def rows(self) -> Int64Array:
        """Their rows in the shard, int64 (documents,), rising."""

    @property
    def batch(self) -> TextBatch:
        """Their texts as they enter the phase."""

    def measured(self, measure: str) -> pa.Array:
        """The values of one of the step's `measures`, float64 (documents,)."""


class Segment(Protocol):
    """What a finished run, or an increment of one, left as an index of a step: the files of its kept stages."""

    @property
    def against(self) -> int | None:
        """The number, in the step's `against`, of the corpus that it is of; None for one of the same output."""

    @property
    def shards(self) -> Sequence[tuple[str, int]]:
        """Id and rows of each of its shards."""

    @property
    def before(self) -> int:
        """How many shards of other corpora that run had indexes of."""

    def tasks(self, stage: str) -> int:
        """How many tasks of a kept stage there were; 0 for a stage that there was not."""

    def batches(self, stage: str, task: int) -> Iterable[pa.RecordBatch]:
        """All batches of a task of a kept stage, in order; can be iterated once."""

    def read(self, stage: str, task: int, first: int, end: int) -> Sequence[pa.RecordBatch]:
        """The batches from number `first` up to `end` of a task of a kept stage, in one read."""


class StepCorpus(Protocol):
    """A corpus for the stages of one step: its shards by index, in order, and the files of its own stages."""

    @property
    def segments(self) -> Sequence[Segment]:
        """The indexes of what comes before these shards: of the step's `against`, then of earlier increments."""

    @property
    def keeps_index(self) -> bool:
        """Whether kept stages are asked for."""

    @property
    def shards(self) -> Sequence[ShardSize]:
        """All shards."""

    @property
    def partitions(self) -> int | None:
        """The number of hash partitions; None: as many as keep a task within REDUCER_MEMORY_BYTES."""

    @property
    def model(self) -> Any:
        """The result of the step's `load`, once per worker."""

    def texts(self, shard: int) -> TextBatch:
        """The texts that enter the phase, one for each row of a shard; empty for a row that does not reach it."""

    def measured(self, shard: int, measure: str) -> pa.Array:
        """The values of one of the step's `measures` for each row of a shard, float64; null for one that is not there.

        The texts of the shard, if they are wanted too, are then at hand.
        """

    def batch(self, stage: str, task: int, number: int = 0) -> pa.RecordBatch:
        """One batch of a task of an earlier stage of this step."""

    def batches(self, stage: str, task: int) -> Iterable[pa.RecordBatch]:
        """All batches of a task, in order; can be iterated once."""

    def across(self, stage: str, tasks: int, receiver: int) -> Iterable[pa.RecordBatch]:
        """The batches for a receiver of each of the tasks of a stage, in order; can be iterated several times."""

    def annotations(self, shard_id: str, columns: Sequence[str]) -> pa.Table | None:
        """Columns of an annotation shard of the output, for stages after `curate`; None for a quarantined shard."""


@dataclass(frozen=True)
class Stage:
    """Tasks that can run beside each other; each leaves one exchange file.

    Parameters: `name`: within the step; `tasks`: how many, numbered from 0; `schema`: of the batches of a task; `work`:
    the batches of a task, by its number; `is_local`: a task reads nothing but texts of the shard of its number and what
    the same task of the stages right before wrote, so that no barrier is needed between them; `receivers`: how many
    there are, where they read `across` all tasks: batch `i` is for receiver `i % receivers`. Then the files of tasks
    may be merged, and are gone afterwards, unless `is_read_by_task`: later stages also read the batches of one task.
    `is_kept`: the files are part of the output's index; their bytes may depend on the shards alone; `level`: of their
    compression (zstd).
    """

    name: str
    tasks: int
    schema: pa.Schema
    work: Callable[[StepCorpus, int], Batches]
    is_local: bool = False
    receivers: int | None = None
    is_read_by_task: bool = False
    is_kept: bool = False
    level: int = 1


@dataclass(frozen=True, eq=False)
class StepResult:
    """A step's results for the documents of a shard that enter its phase.

    annotations: an array (documents,) for each of its columns; edits: of the texts that enter the phase, if any;
    evidence: an array (documents,) for each of its evidence fields.
    """

    annotations: Mapping[str, pa.Array]
    edits: Edits | None = None
    evidence: Mapping[str, pa.Array] = field(default_factory=dict)


class CorpusStep:
    """Base class of corpus-wide steps, with defaults for optional members.

    key: in a phase of a recipe; columns: its annotations; evidence: fields of further columns of the annotation shard,
    which rules cannot read; count_names: what it counts; counted_after: those of them that only its stages after
    `curate` know where it sees the corpus.
    """

    key: ClassVar[str]
    columns: ClassVar[tuple[Column, ...]]
    evidence: ClassVar[tuple[pa.Field, ...]] = ()
    #: Whether annotation shards hold all that it found, so that `stored` can make its result of them.
    is_stored: ClassVar[bool] = False
    count_names: ClassVar[tuple[str, ...]] = ()
    counted_after: ClassVar[tuple[str, ...]] = ()

    @property
    def against(self) -> tuple[str, ...]:
        """Outputs of finished runs whose documents come before those of this one."""
        return ()

    @property
    def index_parameters(self) -> Mapping[str, Any] | None:
        """What an index of this step must agree on, beside model files, to be read by it; None where it keeps none."""
        return None

    @property
    def sees_corpus(self) -> bool:
        """Whether it sees more than a shard, so that its stages must run before any shard is decided."""
        raise NotImplementedError

    def are_apart(self, earlier: Sequence[ShardSize], later: Sequence[ShardSize]) -> bool:
        """Whether it compares none of these shards with one of those, so that it needs no index to decide them."""
        return False

    def scope_of(self, shards: Sequence[ShardSize]) -> str | None:
        """A narrower `scope` that gives the same results and sees no corpus, where these shards have one."""
        return None

    @property
    def explanation(self) -> str:
        """A line for `gneiss explain`: a verb, and what it looks for, with which parameters."""
        raise NotImplementedError

    @property
    def measures(self) -> Mapping[str, str | None]:
        """The parameters that are SQL expressions over annotations of earlier phases, and over the size of the text."""
        return {}

    @property
    def model_files(self) -> tuple[str, ...]:
        """Files that `load` needs: local paths or `hf://repo@revision/file`."""
        return ()

    def load(self, files: Mapping[str, Path]) -> Any:
        """Once per worker: open the files (name in the recipe → local path). Raises ModelError."""
        return None

    def within_shard(self, documents: PhaseDocuments, model: Any) -> StepResult:
        """Its results within one shard."""
        raise NotImplementedError

    def stages(self, corpus: StepCorpus) -> Sequence[Stage]:
        """Its stages before `curate`, in order. Raises RecipeError where the shards do not fit the parameters."""
        return ()

    def results(self, corpus: StepCorpus) -> Callable[[int, PhaseDocuments], StepResult]:
        """Its stages' results, once per worker: a function of a shard's index and its documents."""
        raise NotImplementedError

    def stored(self, annotations: Mapping[str, pa.Array], evidence: Mapping[str, pa.Array]) -> StepResult:
        """Its result for documents by what annotation shards hold of it, where that is all."""
        raise NotImplementedError

    def stages_after(self, corpus: StepCorpus) -> Sequence[Stage]:
        """Its stages after `curate`, which read annotation shards."""
        return ()

    def counts(self, rows: Int64Array, result: StepResult, is_kept: BoolArray) -> Mapping[str, int]:
        """What it counts in a shard; `rows`: of the documents that entered; `is_kept`: bool, by row of the shard."""
        return {}

    def counts_after(self, corpus: StepCorpus) -> Mapping[str, int]:
        """The counts `counted_after` of its stages after `curate`, of all these shards; increments are added up."""
        return {}

    def shard_memory_bytes(self, shards: Sequence[ShardSize]) -> int:
        """Memory of a worker for the texts of a shard, or other data held at once, in addition to models."""
        return 0

    def reducer_memory_bytes(self, shards: Sequence[ShardSize]) -> int:
        """Memory of a task of its stages over all shards or a partition."""
        return REDUCER_MEMORY_BYTES if self.sees_corpus else 0
