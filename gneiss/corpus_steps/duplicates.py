"""Duplicate documents: equal ones by a hash of the text, near-duplicates by MinHash; found, not dropped.

Across shards there are these stages: `keys` (map: what documents must share, by hash partition), `matched` (reduce:
pairs with equal keys), then `joined` and `clusters` for each range of the corpus (connected components).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from typing import Annotated, Any, ClassVar, Protocol, cast

import numpy as np
import pyarrow as pa
from pydantic import BeforeValidator, Field

from gneiss.annotation import Column
from gneiss.arrays import Int64Array, UInt64Array
from gneiss.batch import TextBatch
from gneiss.corpus_steps.cluster_stages import cluster_stages, clusters_of, ranges_of
from gneiss.corpus_steps.indexed_keys import HASHES, IndexedKeys, index_stages
from gneiss.corpus_steps.indexed_sets import FORMAT
from gneiss.corpus_steps.preference_stages import order_stages
from gneiss.corpus_steps.scope import Scope, check_group, files, group_of, have_no_group_in_common
from gneiss.corpus_steps.step import (
    MOST_PARTITIONS,
    REDUCER_MEMORY_BYTES,
    Batches,
    CorpusStep,
    PhaseDocuments,
    ShardSize,
    Stage,
    StepCorpus,
    StepResult,
)
from gneiss.corpus_steps.union import Union, check_against
from gneiss.dedup.minhash import criteria
from gneiss.dedup.minhash.criteria import Criterion

_CLUSTERS = (
    Column("near_cluster", "string", "shard:row of the first of its near-duplicates; null where it has none"),
    Column("near_cluster_size", "int64", "documents in its cluster of near-duplicates, itself included"),
    Column("near_first", "bool", "no earlier document is in its cluster"),
)
_EXACT = (
    Column("exact_copies", "int64", "documents with the same text, itself included"),
    Column("exact_first", "bool", "no earlier document has the same text"),
)
_VERIFIED = (
    Column("near_similarity", "float64", "similarity to the first of its near-duplicates; null for that one itself"),
    Column("near_candidates", "int64", "earlier documents that it was compared with"),
    Column("near_rejected", "int64", "of these, the ones that it does not resemble enough"),
)


def _is_none(value: object) -> bool:
    return value is None


def _is_empty(value: object) -> bool:
    return value == ()


def _against(kind: str, meaning: str) -> Column:
    return Column(f"{kind}_against", "int64", f"the number, in `against`, of the output {meaning}; null for this one")


@dataclass(frozen=True, eq=False)
class Members:
    """The documents of a shard that are in a cluster of two or more, and the first document of each one's cluster.

    row, first_shard (its number in the union), first_row, size: int64 (members,), in order of rows.
    """

    row: Int64Array
    first_shard: Int64Array
    first_row: Int64Array
    size: Int64Array

    @classmethod
    def of_batch(cls, batch: pa.RecordBatch) -> Members:
        """From the batch of a shard in the stage `clusters`."""
        return cls(*(np.asarray(column.to_numpy(), np.int64) for column in batch.columns))

    def sizes(self, rows: Int64Array) -> pa.Array:
        """For each row the documents in its cluster, itself included; 1 where it is the only one."""
        size = np.ones(len(rows), np.int64)
        size[np.searchsorted(rows, self.row)] = self.size
        return pa.array(size)

    def are_first(self, rows: Int64Array, shard: int) -> pa.Array:
        """For each row whether no earlier document is in its cluster; `shard`: the number of this one."""
        first = np.ones(len(rows), np.bool_)
        first[np.searchsorted(rows, self.row)] = (self.first_shard == shard) & (self.first_row == self.row)
        return pa.array(first)

    def names(self, rows: Int64Array, union: Union) -> pa.Array:
        """For each row the name of its cluster, shard and row of the first document; null where there is none here."""
        names: list[str | None] = [None] * len(rows)
        members = zip(np.searchsorted(rows, self.row).tolist(), self.first_shard, self.first_row, strict=True)
        for position, shard, row in members:
            names[position] = union.name(shard, row)
        return pa.array(names, pa.string())

    def against(self, rows: Int64Array, union: Union) -> pa.Array:
        """For each row the number of the other output that the first document of its cluster is of."""
        outputs = np.full(len(rows), -1)
        outputs[np.searchsorted(rows, self.row)] = union.against[self.first_shard]
        return pa.array(outputs, mask=outputs < 0)


class _Duplicates(CorpusStep):
    """Shared by both kinds: the step is a criterion, which defines what documents must share; stages find them."""

    is_stored: ClassVar[bool] = True

    scope: Scope
    group_by: str | None
    keep: str | None
    against: tuple[str, ...]

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[misc]  # of the criterion
        check_group(self.scope, self.group_by)
        check_against(self.scope, self.against)

    def annotations(self, members: Members, rows: Int64Array, union: Union, shard: int) -> dict[str, pa.Array]:
        """The step's columns for some rows of a shard, by its number in the union."""
        raise NotImplementedError

    @property
    def index_parameters(self) -> Mapping[str, Any] | None:
        """See CorpusStep: whatever makes keys; no other shard is ever compared with those of a file."""
        if self.scope == "file":
            return None
        given = {**asdict(self), "hashes": HASHES}  # type: ignore[call-overload]  # of the step, a dataclass
        return {name: value for name, value in given.items() if name not in ("keep", "against")}

    @property
    def sees_corpus(self) -> bool:
        """See CorpusStep."""
        return self.scope != "shard"

    def are_apart(self, earlier: Sequence[ShardSize], later: Sequence[ShardSize]) -> bool:
        """See CorpusStep: where no group has shards of both."""
        return self.scope != "corpus" and have_no_group_in_common(self._group, earlier, later)

    def scope_of(self, shards: Sequence[ShardSize]) -> Scope | None:
        """See CorpusStep: files of one shard each are seen at shard scope."""
        return "shard" if self.scope == "file" and all(len(group) == 1 for group in files(shards)) else None

    def _group(self, shard: ShardSize) -> str:
        """The same for shards that see each other, at scopes between a shard and the corpus."""
        return str(shard.file) if self.scope == "file" else group_of(self.key, self.group_by, shard.id)

    def _salt(self, shard: ShardSize) -> int:
        """The same for shards that see each other."""
        from xxhash import xxh3_64_intdigest

        if self.scope == "corpus":
            return 0
        return xxh3_64_intdigest(self._group(shard).encode("utf-8", "surrogateescape"))

    @property
    def _clustering(self) -> _Clustering:
        return _Components(self)

    def within_shard(self, documents: PhaseDocuments, model: None) -> StepResult:
        """See CorpusStep."""
        return self._clustering.within_shard(documents)

    def stages(self, corpus: StepCorpus) -> Sequence[Stage]:
        """See CorpusStep."""
        return self._clustering.stages(corpus)

    def results(self, corpus: StepCorpus) -> Callable[[int, PhaseDocuments], StepResult]:
        """See CorpusStep."""
        return self._clustering.results(corpus)

    @property
    def measures(self) -> Mapping[str, str | None]:
        """See CorpusStep."""
        return {"keep": self.keep}

    def _order_within(self, documents: PhaseDocuments) -> UInt64Array | None:
        """The order of preference of the rows of `_placed`."""
        from gneiss.dedup.preference import order_of

        if self.keep is None:
            return None
        order = np.zeros(documents.rows.max(initial=-1) + 1, np.uint64)
        order[documents.rows] = order_of(documents.measured(self.keep))
        return order

    def _partitions(self, corpus: StepCorpus) -> int:
        """Of the keys."""
        from gneiss.dedup.minhash.matching import partitions_for

        documents, keys = sum(Union.of(corpus).rows), cast(Criterion, self).keys_per_document
        return corpus.partitions or min(partitions_for(documents, keys, REDUCER_MEMORY_BYTES), MOST_PARTITIONS)

    def stored(self, annotations: Mapping[str, pa.Array], evidence: Mapping[str, pa.Array]) -> StepResult:
        """See CorpusStep: it makes no edits."""
        return StepResult(annotations)

    def reducer_memory_bytes(self, shards: Sequence[ShardSize]) -> int:
        """See CorpusStep."""
        return REDUCER_MEMORY_BYTES if self.sees_corpus else 0


@dataclass(frozen=True)
class ExactDuplicates(_Duplicates, criteria.ExactDuplicates):
    """Documents with the same text, among those of a `scope`."""

    key: ClassVar[str] = "exact_duplicates"

    scope: Scope = "corpus"
    group_by: Annotated[str | None, Field(exclude_if=_is_none)] = None
    keep: Annotated[str | None, Field(exclude_if=_is_none)] = None
    against: Annotated[tuple[str, ...], Field(exclude_if=_is_empty)] = ()

    @property
    def columns(self) -> tuple[Column, ...]:  # type: ignore[override]  # one is there only where it has a meaning
        """See CorpusStep."""
        return (*_EXACT, _against("exact", "that has the text first")) if self.against else _EXACT

    @property
    def explanation(self) -> str:
        """See CorpusStep."""
        return f"finds     same text ({_listed(self)})"

    def annotations(self, members: Members, rows: Int64Array, union: Union, shard: int) -> dict[str, pa.Array]:
        """See _Duplicates."""
        others = {"exact_against": members.against(rows, union)} if self.against else {}
        return {"exact_copies": members.sizes(rows), "exact_first": members.are_first(rows, shard), **others}


def _written_out(given: Any) -> Any:
    """`verify: 0.8` is `verify: {at_least: 0.8}`."""
    return {"at_least": given} if isinstance(given, int | float) and not isinstance(given, bool) else given


@dataclass(frozen=True)
class NearDuplicates(_Duplicates, criteria.NearDuplicates):
    """Documents that share many shingles of words, among those of a `scope`."""

    key: ClassVar[str] = "near_duplicates"

    verify: Annotated[criteria.Verification | None, BeforeValidator(_written_out), Field(exclude_if=_is_none)] = None
    scope: Scope = "corpus"
    group_by: Annotated[str | None, Field(exclude_if=_is_none)] = None
    keep: Annotated[str | None, Field(exclude_if=_is_none)] = None
    against: Annotated[tuple[str, ...], Field(exclude_if=_is_empty)] = ()

    @property
    def columns(self) -> tuple[Column, ...]:  # type: ignore[override]  # some are there only where they have a meaning
        """See CorpusStep."""
        others = (_against("near", "with the first of its near-duplicates"),) if self.against else ()
        return (*_CLUSTERS, *others, *self._clustering.columns)

    @property
    def explanation(self) -> str:
        """See CorpusStep."""
        return f"finds     near-duplicates ({_listed(self)})"

    @property
    def index_parameters(self) -> Mapping[str, Any] | None:
        """See CorpusStep."""
        of_keys = super().index_parameters
        return None if of_keys is None else {**of_keys, **self._clustering.index_parameters}

    @property
    def _clustering(self) -> _Clustering:
        return _Stars(self, self.verify) if self.verify else _Components(self)

    def annotations(self, members: Members, rows: Int64Array, union: Union, shard: int) -> dict[str, pa.Array]:
        """See _Duplicates."""
        others = {"near_against": members.against(rows, union)} if self.against else {}
        return {
            "near_cluster": members.names(rows, union),
            "near_cluster_size": members.sizes(rows),
            "near_first": members.are_first(rows, shard),
            **others,
        }


class _Clustering(Protocol):
    """How documents with equal keys become clusters: see CorpusStep for what it does."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """Beside those that every step of its kind has."""

    @property
    def index_parameters(self) -> Mapping[str, Any]:
        """What makes up its part of an index, beside what makes keys."""

    def within_shard(self, documents: PhaseDocuments) -> StepResult: ...

    def stages(self, corpus: StepCorpus) -> Sequence[Stage]: ...

    def results(self, corpus: StepCorpus) -> Callable[[int, PhaseDocuments], StepResult]: ...


@dataclass(frozen=True)
class _Components:
    """Documents with equal keys are in one cluster, unseen: connected components."""

    step: _Duplicates
    columns: ClassVar[tuple[Column, ...]] = ()
    index_parameters: ClassVar[Mapping[str, Any]] = {}

    def within_shard(self, documents: PhaseDocuments) -> StepResult:
        from gneiss.dedup.minhash.in_memory import clusters_within

        step = self.step
        batch = clusters_within(_placed(documents), cast(Criterion, step), step._order_within(documents))
        alone = Union.alone(documents.shard_id)
        return StepResult(step.annotations(Members.of_batch(batch), documents.rows, alone, 0))

    def stages(self, corpus: StepCorpus) -> Sequence[Stage]:
        from gneiss.dedup.minhash import keys, matching

        step, criterion, partitions = self.step, cast(Criterion, self.step), self.step._partitions(corpus)
        work = partial(_keys, criterion, step._salt, partitions)
        matched = partial(_matched, criterion.keys_per_document, partitions)
        return (
            *order_stages(step.keep, corpus),
            Stage("keys", len(corpus.shards), keys.SCHEMA, work, True, partitions),
            Stage("matched", partitions, matching.SCHEMA, matched, receivers=len(ranges_of(corpus))),
            *cluster_stages(step.keep, partitions, corpus),
            *index_stages(criterion.keys_per_document, partitions, step.keep, corpus),
        )

    def results(self, corpus: StepCorpus) -> Callable[[int, PhaseDocuments], StepResult]:
        union, ranges = Union.of(corpus), ranges_of(corpus)

        def result(shard: int, documents: PhaseDocuments) -> StepResult:
            members = Members.of_batch(clusters_of(corpus, ranges, union.before + shard))
            return StepResult(self.step.annotations(members, documents.rows, union, union.before + shard))

        return result


@dataclass(frozen=True)
class _Stars:
    """Documents are compared before they are joined, and a cluster is what resembles its first one."""

    step: NearDuplicates
    verification: criteria.Verification
    columns: ClassVar[tuple[Column, ...]] = _VERIFIED
    index_parameters: ClassVar[Mapping[str, Any]] = {"shingle_sets": FORMAT}

    def within_shard(self, documents: PhaseDocuments) -> StepResult:
        from gneiss.dedup.minhash.in_memory import verified_within

        order = self.step._order_within(documents)
        clusters, pairs = verified_within(_placed(documents), self.step, self.verification, order)
        return self._result(clusters, [pairs], documents.rows, Union.alone(documents.shard_id), 0)

    def stages(self, corpus: StepCorpus) -> Sequence[Stage]:
        from gneiss.corpus_steps.verified_stages import verified_stages

        step = self.step
        return verified_stages(step, step.keep, step._salt, step._partitions(corpus), corpus)

    def results(self, corpus: StepCorpus) -> Callable[[int, PhaseDocuments], StepResult]:
        from gneiss.corpus_steps.star_stages import clusters_of
        from gneiss.corpus_steps.verified_stages import verifiers_for

        verifiers, union = verifiers_for(corpus), Union.of(corpus)

        def result(shard: int, documents: PhaseDocuments) -> StepResult:
            clusters, pairs = clusters_of(self.step.keep, corpus, shard), corpus.across("verified", verifiers, shard)
            return self._result(clusters, pairs, documents.rows, union, union.before + shard)

        return result

    def _result(
        self, clusters: pa.RecordBatch, pairs: Batches, rows: Int64Array, union: Union, shard: int
    ) -> StepResult:
        compared, similar = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
        for batch in pairs:
            places = np.searchsorted(rows, batch.column("row").to_numpy())
            compared += np.bincount(places, minlength=len(rows))
            is_similar = batch.column("similarity").is_valid().to_numpy(zero_copy_only=False)
            similar += np.bincount(places[is_similar], minlength=len(rows))
        members = Members.of_batch(clusters.select(clusters.schema.names[:-1]))
        place = np.full(len(rows), -1)
        place[np.searchsorted(rows, members.row)] = np.arange(len(members.row))
        annotations = {
            **self.step.annotations(members, rows, union, shard),
            "near_similarity": clusters.column("similarity").take(pa.array(place, mask=place < 0)),
            "near_candidates": pa.array(compared),
            "near_rejected": pa.array(compared - similar),
        }
        return StepResult(annotations)


def _placed(documents: PhaseDocuments) -> TextBatch:
    """A text for each row up to the last that reaches the phase."""
    rows = documents.rows
    return documents.batch.placed(rows, int(rows[-1]) + 1 if len(rows) else 0)


def _listed(step: ExactDuplicates | NearDuplicates) -> str:
    given = {name: value for name, value in asdict(step).items() if value is not None and value != ()}
    return ", ".join(f"{name} {value}" for name, value in given.items())


def _keys(
    criterion: Criterion, salt: Callable[[ShardSize], int], partitions: int, corpus: StepCorpus, shard: int
) -> Batches:
    from gneiss.dedup.minhash.keys import shard_keys

    # rows that do not reach the phase have an empty text here, which has no duplicates
    return shard_keys(corpus.texts(shard), criterion, partitions, salt=salt(corpus.shards[shard]))


def _matched(keys_per_document: int, partitions: int, corpus: StepCorpus, partition: int) -> Batches:
    from gneiss.dedup.minhash.clusters import numbers_of
    from gneiss.dedup.minhash.matching import matched, passes_for

    sent, ranges = corpus.across("keys", len(corpus.shards), partition), ranges_of(corpus)
    known = IndexedKeys(corpus.segments, keys_per_document, partition, partitions)
    passes = passes_for(sum(batch.num_rows for batch in chain(known, sent)), REDUCER_MEMORY_BYTES)
    for batch in matched(sent, passes, known, Union.of(corpus).before):
        yield from ranges.parted(batch, numbers_of(batch, "", ranges.starts))
