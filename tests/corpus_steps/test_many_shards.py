"""What is done for one shard looks at the shards that it names, never at all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import pyarrow as pa

from gneiss.batch import TextBatch
from gneiss.corpus_steps import Dedup
from gneiss.corpus_steps.duplicates import Members
from gneiss.corpus_steps.substring_plan import SubstringPlan
from gneiss.corpus_steps.substring_sources import ANSWERED
from gneiss.corpus_steps.substring_stages import CUTS
from gneiss.corpus_steps.union import Union
from gneiss.dedup.corpus_scope import Scheme


@dataclass(frozen=True)
class AShard:
    """A shard as steps know it."""

    id: str
    rows: int = 3
    text_bytes: int = 12
    file: str = ""


class BillionShards(Sequence[AShard]):
    """Shards that can be looked up, not gone through."""

    @overload
    def __getitem__(self, index: int) -> AShard: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[AShard]: ...
    def __getitem__(self, index: Any) -> Any:
        return AShard(f"s{int(index)}")

    def __len__(self) -> int:
        return 10**9

    def __iter__(self) -> Iterator[AShard]:
        raise AssertionError("all shards are gone through for one")


@dataclass(frozen=True)
class ACorpus:
    """A corpus whose stages cut four spans from shard 5."""

    shards: Sequence[AShard]

    def batch(self, stage: str, task: int, number: int = 0) -> pa.RecordBatch:
        """The cuts; no document is repeated elsewhere."""
        if stage == "repeated_bytes":
            return pa.RecordBatch.from_pylist([], ANSWERED)
        row, start = [0, 0, 2, 2], [0, 2, 0, 2]
        end = [s + 2 for s in start]
        return pa.record_batch([row, start, end, [5, 7, 999_999_999, 2], row, start], schema=CUTS)


@dataclass(frozen=True)
class Documents:
    """Three documents of four bytes."""

    shard_id: str
    rows: Any
    batch: TextBatch


class APlan:
    """Where the stages left what they found."""

    known = 0

    def cuts_place(self, shard: int) -> tuple[int, int]:
        """The shard's own task."""
        return shard, 0

    def bucket_place(self, shard: int) -> tuple[int, int]:
        """One bucket."""
        return 0, shard


@dataclass(frozen=True)
class Ids:
    """Ids that can be looked up, not gone through."""

    shards: Sequence[AShard]

    def __getitem__(self, index: int) -> str:
        return self.shards[index].id


class Own:
    """Every shard is of this output."""

    def __getitem__(self, index: Any) -> Any:
        return np.full(np.shape(index), -1)


def union_of(shards: Sequence[AShard]) -> Any:
    ids: Any = Ids(shards)
    own: Any = Own()
    return Union(ids, (), 0, own, own)


def numbers(*values: int) -> Any:
    return np.array(values, np.int64)


def test_clusters_name_the_shards_of_their_first_documents() -> None:
    shards = BillionShards()
    members = Members(numbers(1, 2, 4), numbers(7, 3, 7), numbers(1, 0, 0), numbers(2, 2, 3))
    rows = numbers(0, 1, 2, 4)
    assert members.are_first(rows, 7).to_pylist() == [True, True, False, False]
    assert members.names(rows, union_of(shards)).to_pylist() == [None, "s7:1", "s3:0", "s7:0"]


def test_cuts_name_the_shards_of_their_sources() -> None:
    documents = Documents("s5", numbers(0, 1, 2), TextBatch.of(["abcd"] * 3))
    corpus: Any = ACorpus(BillionShards())
    plan: Any = APlan()
    found = Dedup(scope="corpus")._found(plan, union_of(corpus.shards), corpus, 5, documents)
    (listed,) = (column.to_pylist() for column in found.evidence.values())
    assert [[cut["source_shard"] for cut in of_row] for of_row in listed] == [[None, "s7"], [], ["s999999999", "s2"]]


class BillionGroups(Sequence[range]):
    """Groups of two shards that can be looked up, not gone through."""

    def __getitem__(self, index: Any) -> Any:
        return range(2 * index, 2 * index + 2)

    def __len__(self) -> int:
        return 10**9

    def __iter__(self) -> Iterator[range]:
        raise AssertionError("all groups are gone through for one shard")


def test_the_group_of_a_shard_is_looked_up() -> None:
    groups: Any = BillionGroups()
    plan = SubstringPlan("bytes", "protect", "char", 1.0, None, groups, groups, Scheme(200, 1), 0, 0, Dedup()._spans)
    assert plan.bucket_place(7) == (3, 1)
    assert plan.cuts_place(1_999_999_998) == (999_999_999, 0)
