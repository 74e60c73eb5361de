"""The stages of substring dedup over a corpus, or over groups of shards such as those of a file.

At corpus scope anchors are shuffled, never the corpus. The stages (map tasks by shard, reduce tasks by partition):
`order` (only with `first_by`), `units` (only of tokens: the ids, so that nothing is tokenized twice), `selected` (where
the anchors of a shard are, for its own later tasks), `keys`, `repeated` (which keys occur twice), `contents` (hashes of
the surroundings of those), `wanted` (which texts must be seen), `texts`, `answers` (what repeats what), and `cuts`;
gneiss/dedup/corpus_scope says what the records are. Of a group a task holds all shards and finds their cuts in memory;
a group of one is left to `curate`. Both end with `cuts` and `repeated_bytes` (how much of each document is cut
elsewhere). After `curate`, `kept_sources` and `orphans` count the cuts whose surviving copy was not kept.

Shards that are known by an index come first: in all stages from `repeated` to `answers` some of their passages take the
place of their texts (`substring_known`). Shards are numbered in the union of these and the corpus. `passages`, kept, is
what a later run knows this corpus by.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from gneiss.arrays import read_only
from gneiss.batch import TextBatch
from gneiss.corpus_steps.preference_stages import measured_order, order_in, order_stages
from gneiss.corpus_steps.step import REDUCER_MEMORY_BYTES, Batches, Stage, StepCorpus
from gneiss.corpus_steps.substring_known import known_passages, known_stages
from gneiss.corpus_steps.substring_plan import SubstringPlan
from gneiss.corpus_steps.substring_sources import (
    ANSWERED,
    SOURCES,
    by_bucket,
    column_of,
    repeated_bytes,
    repeated_in_group,
    sources,
    within,
)

if TYPE_CHECKING:
    from gneiss.dedup.corpus_scope import Selected
    from gneiss.dedup.units import Units

#: Cuts as stages exchange them: rows, and shards by number in the union.
CUTS = pa.schema([(name, pa.int64()) for name in ("row", "start", "end", "source_shard", "source_row", "source_start")])
#: The compression of passages, which are text.
_KEPT_LEVEL = 9
FLAGS = pa.schema([("flag", pa.bool_())])
TEXTS = {
    unit: pa.schema([("text", pa.large_list(type_))]) for unit, type_ in (("bytes", pa.uint8()), ("tokens", pa.int32()))
}
#: Tokens of a document: ids, how many bytes after the one before each starts, and bytes of the whole document.
TOKENS = pa.schema([("ids", pa.large_list(pa.int32())), ("steps", pa.large_list(pa.int32())), ("size", pa.int64())])


def stages_before(plan: SubstringPlan, corpus: StepCorpus) -> Sequence[Stage]:
    """The stages that find what is cut, in order."""
    shards, buckets = len(corpus.shards), len(plan.buckets)
    if plan.groups is not None:
        return (
            Stage("cuts", buckets, CUTS, partial(_group_cuts, plan)),
            Stage("repeated_bytes", buckets, ANSWERED, partial(repeated_in_group, plan), is_local=True),
        )
    from gneiss.dedup.corpus_scope import answers, contents, keys, selected
    from gneiss.dedup.corpus_scope.passages import schema_of

    partitions, union = plan.scheme.partitions, plan.known + shards
    tasks = len(plan.known_buckets) + shards
    kept = Stage("passages", shards, schema_of(plan.unit), partial(_kept, plan), is_kept=True, level=_KEPT_LEVEL)
    of_contents = contents.SCHEMA if plan.first_by is None else contents.CONTENTS_IN_ORDER
    return (
        *order_stages(plan.first_by, corpus),
        *([Stage("units", shards, TOKENS, _token_units, True)] if plan.unit == "tokens" else []),
        Stage("selected", shards, selected.schema_of(plan.scheme.min_length), partial(_selected, plan), True),
        Stage("keys", shards, keys.SCHEMA, partial(_keys, plan), True, partitions),
        *known_stages(plan),
        Stage("repeated", partitions, FLAGS, partial(_repeated, plan), receivers=union),
        Stage("contents", tasks, of_contents, partial(_contents, plan), receivers=partitions),
        Stage("wanted", partitions, FLAGS, partial(_wanted, plan), receivers=union, is_read_by_task=True),
        Stage("texts", tasks, TEXTS[plan.unit], partial(_texts, plan), receivers=partitions),
        Stage("answers", partitions, answers.SCHEMA, partial(_answers, plan), receivers=union),
        *_cut_stages(plan, shards),
        Stage("sources", shards, SOURCES, partial(sources, plan), True, buckets),
        Stage("repeated_bytes", buckets, ANSWERED, partial(repeated_bytes, plan)),
        *([kept] * corpus.keeps_index),
    )


def _cut_stages(plan: SubstringPlan, shards: int) -> Sequence[Stage]:
    """What ends with cuts in bytes: of tokens, only the shard of a source knows the byte where it starts."""
    if plan.unit == "bytes":
        return (Stage("cuts", shards, CUTS, partial(_cuts, plan)),)
    from gneiss.dedup.corpus_scope import cuts

    buckets = len(plan.union_buckets)
    return (
        Stage("token_cuts", shards, cuts.SCHEMA, partial(_token_cuts, plan)),
        Stage("asked", shards, SOURCES, partial(_asked, plan), True, buckets),
        Stage("replied", buckets, ANSWERED, partial(_replied, plan), receivers=shards),
        Stage("cuts", shards, CUTS, partial(_cuts_in_bytes, plan)),
    )


def _token_units(corpus: StepCorpus, shard: int) -> Batches:
    """The tokens of a shard, a row for each of its rows."""
    from gneiss.dedup.units import Units

    batch = corpus.texts(shard)
    units = Units.of_tokens(batch, corpus.model.tokens(batch))
    assert units.starts is not None
    steps = np.diff(units.starts, prepend=0)
    firsts = units.bounds[:-1][np.diff(units.bounds) > 0]
    steps[firsts] = units.starts[firsts]
    bounds = pa.array(units.bounds)
    lists = (pa.LargeListArray.from_arrays(bounds, pa.array(v.astype(np.int32))) for v in (units.values, steps))
    return [pa.record_batch([*lists, pa.array(units.sizes)], schema=TOKENS)]


def _units_of(plan: SubstringPlan, corpus: StepCorpus, number: int) -> Units:
    """The units of a shard of the union, of a known one those that take part."""
    known = plan.known
    return known_passages(plan, corpus, number).units if number < known else _units(plan, corpus, number - known)


def _units(plan: SubstringPlan, corpus: StepCorpus, shard: int) -> Units:
    """The units of a shard: its bytes, or its tokens as the stage `units` left them."""
    from gneiss.dedup.units import Units

    if plan.unit == "bytes":
        return Units.of_bytes(corpus.texts(shard))
    batch = corpus.batch("units", shard)
    ids, steps = batch.column("ids"), batch.column("steps").flatten().to_numpy()
    bounds = np.asarray(ids.offsets, np.int64)
    starts = np.cumsum(steps, dtype=np.int64)
    counts = np.diff(bounds)
    before = np.append(0, starts)[bounds[:-1]]  # steps count from the first byte of each document
    starts -= np.repeat(before, counts)
    return Units(read_only(ids.flatten().to_numpy()), bounds, starts, column_of(batch, "size"))


def _to_shard(plan: SubstringPlan, corpus: StepCorpus, stage: str, number: int) -> list[pa.RecordBatch]:
    """What all partitions sent to a shard of the union."""
    return list(corpus.across(stage, plan.scheme.partitions, number))


def _of_union(plan: SubstringPlan, corpus: StepCorpus, stage: str, partition: int) -> Iterable[pa.RecordBatch]:
    """What all shards of the union sent to a partition."""
    return corpus.across(stage, len(plan.known_buckets) + len(corpus.shards), partition)


def _members(plan: SubstringPlan, task: int) -> range:
    """The shards of the union that a task over it serves: some known ones, or one of the corpus."""
    buckets = plan.known_buckets
    if task < len(buckets):
        return buckets[task]
    shard = task - len(buckets)
    return range(plan.known + shard, plan.known + shard + 1)


def _passes(*sent: Iterable[pa.RecordBatch]) -> int:
    from gneiss.dedup.corpus_scope import passes_for

    return passes_for(sum(batch.num_rows for batches in sent for batch in batches), REDUCER_MEMORY_BYTES)


def _selected(plan: SubstringPlan, corpus: StepCorpus, shard: int) -> Batches:
    from gneiss.dedup.corpus_scope import Selected

    return [Selected.of(_units(plan, corpus, shard), plan.scheme).to_batch(plan.scheme)]


def _anchors(plan: SubstringPlan, corpus: StepCorpus, number: int, units: Units) -> Selected:
    """The anchors of a shard of the union; of a known one little takes part, and is selected again."""
    from gneiss.dedup.corpus_scope import Selected

    if number < plan.known:
        return Selected.of(units, plan.scheme)
    return Selected.read(corpus.batch("selected", number - plan.known), units, plan.scheme)


def _keys(plan: SubstringPlan, corpus: StepCorpus, shard: int) -> Batches:
    from gneiss.dedup.corpus_scope import shard_keys

    return shard_keys(_anchors(plan, corpus, plan.known + shard, _units(plan, corpus, shard)), plan.scheme)


def _repeated(plan: SubstringPlan, corpus: StepCorpus, partition: int) -> Batches:
    from gneiss.dedup.corpus_scope import repeated_keys

    sent = corpus.across("keys", len(corpus.shards), partition)
    known = corpus.across("known_keys", len(plan.known_buckets), partition)
    return repeated_keys(sent, _passes(sent, known), known)


def _contents(plan: SubstringPlan, corpus: StepCorpus, task: int) -> Batches:
    from gneiss.dedup.corpus_scope import shard_contents

    for number in _members(plan, task):
        repeated = _to_shard(plan, corpus, "repeated", number)
        if number < plan.known:
            passages = known_passages(plan, corpus, number)
            units, begins = passages.units, (passages.row, passages.start)
            first = None if plan.first_by is None else np.zeros(len(passages.row), np.uint64)
        else:
            units, begins = _units(plan, corpus, number - plan.known), None
            first = order_in(plan.first_by, corpus, number - plan.known)
        anchors = _anchors(plan, corpus, number, units)
        yield from shard_contents(units, anchors, plan.scheme, repeated, first, begins)


def _wanted(plan: SubstringPlan, corpus: StepCorpus, partition: int) -> Batches:
    from gneiss.dedup.corpus_scope import wanted_texts

    sent = _of_union(plan, corpus, "contents", partition)
    return wanted_texts(sent, _passes(sent))


def _texts(plan: SubstringPlan, corpus: StepCorpus, task: int) -> Batches:
    from gneiss.dedup.corpus_scope import shard_texts

    for number in _members(plan, task):
        units = _units_of(plan, corpus, number)
        sent = (_to_shard(plan, corpus, stage, number) for stage in ("repeated", "wanted"))
        yield from shard_texts(units, _anchors(plan, corpus, number, units), plan.scheme, *sent)


def _answers(plan: SubstringPlan, corpus: StepCorpus, partition: int) -> Batches:
    from gneiss.dedup.corpus_scope import answer_shards

    sent, texts = (_of_union(plan, corpus, stage, partition) for stage in ("contents", "texts"))
    wanted = list(corpus.batches("wanted", partition))
    return answer_shards(sent, wanted, texts, plan.scheme, plan.policy, _passes(sent), plan.known)


def _kept(plan: SubstringPlan, corpus: StepCorpus, shard: int) -> Batches:
    """The passages of a shard."""
    from gneiss.dedup.corpus_scope import shard_passages

    units, answers = _units(plan, corpus, shard), _to_shard(plan, corpus, "answers", plan.known + shard)
    return shard_passages(units, plan.scheme.copies(units), plan.scheme, answers, plan.foreign)


def _cuts_of(plan: SubstringPlan, corpus: StepCorpus, shard: int, units: Units) -> pa.RecordBatch:
    from gneiss.dedup.corpus_scope import shard_cuts

    number = plan.known + shard
    answers = _to_shard(plan, corpus, "answers", number)
    copies = plan.scheme.copies(units)
    order = order_in(plan.first_by, corpus, shard)
    return shard_cuts(number, units, copies, plan.scheme, answers, plan.policy, plan.fill_gaps, order)


def _cuts(plan: SubstringPlan, corpus: StepCorpus, shard: int) -> Batches:
    from gneiss.dedup.units import Units

    batch = corpus.texts(shard)
    return [_shrunk(plan, batch, _cuts_of(plan, corpus, shard, Units.of_bytes(batch)))]


def _token_cuts(plan: SubstringPlan, corpus: StepCorpus, shard: int) -> Batches:
    return [_cuts_of(plan, corpus, shard, _units(plan, corpus, shard))]


def _asked(plan: SubstringPlan, corpus: StepCorpus, shard: int) -> Batches:
    """Where sources start, in tokens, for each bucket of shards: only the shard of a source knows the byte."""
    found = corpus.batch("token_cuts", shard)
    columns = (column_of(found, name) for name in ("source_shard", "source_document", "source_start"))
    return by_bucket(plan.union_buckets, *columns)


def _replied(plan: SubstringPlan, corpus: StepCorpus, bucket: int) -> Batches:
    """For each shard that asked, the bytes in the order of its questions."""
    sent = corpus.across("asked", len(corpus.shards), bucket)
    asked = [[column_of(batch, name) for name in SOURCES.names] for batch in sent]
    starts = [np.zeros(len(source_shard), np.int64) for source_shard, _, _ in asked]
    for number in plan.union_buckets[bucket]:
        units = (
            known_passages(plan, corpus, number) if number < plan.known else _units(plan, corpus, number - plan.known)
        )
        for (source_shard, row, unit), start in zip(asked, starts, strict=True):
            here = source_shard == number
            start[here] = units.byte_offsets(row[here], unit[here])
    for (_, row, _), start in zip(asked, starts, strict=True):
        yield pa.record_batch([row, start], schema=ANSWERED)


def _cuts_in_bytes(plan: SubstringPlan, corpus: StepCorpus, shard: int) -> Batches:
    found = corpus.batch("token_cuts", shard)
    start = np.zeros(found.num_rows, np.int64)
    source_shard = column_of(found, "source_shard")
    replied = corpus.across("replied", len(plan.union_buckets), shard)
    for bucket, batch in zip(plan.union_buckets, replied, strict=True):
        start[within(source_shard, bucket)] = column_of(batch, "amount")
    found = found.set_column(found.schema.get_field_index("source_start"), "source_start", pa.array(start))
    return [_shrunk(plan, corpus.texts(shard), found)]


def _group_cuts(plan: SubstringPlan, corpus: StepCorpus, group: int) -> Batches:
    """The cuts of every shard of a group, found in memory; none of a shard that is a group by itself."""
    members = plan.buckets[group]
    if len(members) == 1:
        yield pa.RecordBatch.from_pylist([], CUTS)
        return
    orders, batches = [], []
    for shard in members:
        orders.append(measured_order(plan.first_by, corpus, shard))
        batches.append(corpus.texts(shard))
    first_row = np.append(0, np.cumsum([len(batch) for batch in batches]))
    sizes = [np.diff(batch.offsets) for batch in batches]
    data = np.concatenate([batch.data[batch.offsets[0] : batch.offsets[-1]] for batch in batches])
    whole = TextBatch(data, np.append(0, np.cumsum(np.concatenate(sizes))))
    del batches
    given = [order for order in orders if order is not None]
    order = np.concatenate(given) if given else None
    document, start, end, source, source_start = plan.find_spans(whole, corpus.model, order)
    source_member = np.searchsorted(first_row, source, side="right") - 1
    for member in range(len(members)):
        low, high = np.searchsorted(document, first_row[member : member + 2])
        mine = slice(low, high)
        columns = [
            document[mine] - first_row[member],
            start[mine],
            end[mine],
            source_member[mine] + members.start,
            (source - first_row[source_member])[mine],
            source_start[mine],
        ]
        yield pa.record_batch(columns, schema=CUTS)


def _shrunk(plan: SubstringPlan, batch: TextBatch, found: pa.RecordBatch) -> pa.RecordBatch:
    """Cuts with their ends moved inwards to a boundary; what becomes empty is gone."""
    from gneiss.dedup.boundaries import shrink_cuts
    from gneiss.dedup.spans import BOUNDARIES

    row, start, end, shard, source_row, source_start = (
        np.asarray(column.to_numpy(), np.int64) for column in found.columns
    )
    boundary = BOUNDARIES.index(plan.boundary)
    new_start, new_end = shrink_cuts(batch.data, batch.offsets, row, start, end, boundary)
    left = new_start < new_end
    columns = (row, new_start, new_end, shard, source_row, source_start + new_start - start)
    return pa.record_batch([column[left] for column in columns], schema=CUTS)
