"""Corpus scope in stages, against the reference engine on all shards as one corpus."""

from __future__ import annotations

import random
import sysconfig
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.arrays import UInt64Array
from gneiss.batch import TextBatch
from gneiss.dedup import corpus_scope as across
from gneiss.dedup import duplicate_spans
from gneiss.dedup.corpus_scope import Passages, Scheme, Selected
from gneiss.dedup.corpus_scope.sought import _are_set
from gneiss.dedup.preference import order_of
from gneiss.dedup.units import Units
from gneiss.errors import InputError
from tests.dedup.corpus_scope.in_memory import Row, cuts_across, rows_in_bytes, spans_across
from tests.dedup.test_substring import POLICIES, ByteRuns

Shards = list[list[str]]

few_letters = st.text(alphabet="ab", max_size=40)
repetitive = st.lists(st.sampled_from(["a", "ab", "abc", "aaaa", "€", "é", "xyzzy"]), max_size=12).map("".join)
stretches = st.builds(lambda part, times, tail: part * times + tail, st.sampled_from(["x", "ab"]), st.integers(0, 90),
                      few_letters)  # fmt: skip
documents = st.lists(few_letters | repetitive | stretches, max_size=4)
corpora = st.lists(documents, max_size=5)
schemes = st.builds(Scheme, st.integers(1, 30), st.integers(1, 5), st.integers(0, 3))


def units_of(texts: list[str], unit: str) -> Units:
    batch = TextBatch.of(texts)
    return Units.of_bytes(batch) if unit == "bytes" else Units.of_tokens(batch, ByteRuns().tokens(batch))


def found(
    shards: Shards,
    scheme: Scheme,
    policy: str,
    unit: str = "bytes",
    passes: int = 1,
    fill_gaps: float = 1.0,
    orders: list[UInt64Array] | None = None,
) -> list[Row]:
    return spans_across([units_of(texts, unit) for texts in shards], scheme, policy, passes, fill_gaps, orders)


def expected(
    shards: Shards,
    min_length: int,
    policy: str,
    unit: str = "bytes",
    fill_gaps: float = 1.0,
    first_by: list[float | None] | None = None,
) -> list[Row]:
    """The reference on the concatenation."""
    place = [(shard, row) for shard, texts in enumerate(shards) for row in range(len(texts))]
    spans = duplicate_spans(
        [text for texts in shards for text in texts],
        min_length=min_length,
        unit=unit,
        tokenizer=ByteRuns(),
        engine="suffix-array",
        policy=policy,
        fill_gaps=fill_gaps,
        first_by=first_by,
    )
    rows = zip(*(column.to_pylist() for column in spans.table.columns), strict=True)
    return [(*place[row], start, end, *place[source], at) for row, start, end, source, at in rows]


@pytest.mark.parametrize("policy", POLICIES)
@given(shards=corpora, scheme=schemes, passes=st.integers(1, 3))
@pytest.mark.slow
def test_bytes_as_of_one_corpus(policy: str, shards: Shards, scheme: Scheme, passes: int) -> None:
    assert found(shards, scheme, policy, passes=passes) == expected(shards, scheme.min_length, policy)


@pytest.mark.parametrize("policy", POLICIES)
@given(shards=corpora, scheme=schemes, passes=st.integers(1, 2), share=st.sampled_from([1.0, 0.8, 0.4]))
@pytest.mark.slow
def test_tokens_as_of_one_corpus(policy: str, shards: Shards, scheme: Scheme, passes: int, share: float) -> None:
    rows = expected(shards, scheme.min_length, policy, "tokens", share)
    assert found(shards, scheme, policy, "tokens", passes, share) == rows


@pytest.mark.parametrize("policy", POLICIES)
@given(
    shards=corpora,
    scheme=schemes,
    passes=st.integers(1, 2),
    unit=st.sampled_from(["bytes", "tokens"]),
    share=st.sampled_from([1.0, 0.5]),
    values=st.lists(st.sampled_from([None, 1.0, 2.0, 3.0]), min_size=20),
)
@pytest.mark.slow
def test_another_order_as_of_one_corpus(
    policy: str, shards: Shards, scheme: Scheme, passes: int, unit: str, share: float, values: list[float | None]
) -> None:
    """Also where a copy in an earlier shard, or an earlier document of the shard, is not the first."""
    bounds = np.cumsum([0, *map(len, shards)]).tolist()
    first_by = values[: bounds[-1]]
    orders = [order_of(pa.array(first_by[low:high], pa.float64())) for low, high in pairwise(bounds)]
    rows = expected(shards, scheme.min_length, policy, unit, share, first_by)
    assert found(shards, scheme, policy, unit, passes, share, orders) == rows


def stretches(rows: Iterable[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """What is cut, whatever it repeats: shard, row, start and end, where cuts that touch are one."""
    found: list[tuple[int, ...]] = []
    for shard, row, start, end, *_ in rows:
        touches = found and found[-1][:2] == (shard, row) and found[-1][3] == start
        found.append((shard, row, found.pop()[2] if touches else start, end))
    return found


@pytest.mark.parametrize("policy", POLICIES)
@given(
    parts=st.lists(st.lists(documents, max_size=3), min_size=2, max_size=4),
    scheme=schemes,
    unit=st.sampled_from(["bytes", "tokens"]),
    values=st.none() | st.lists(st.sampled_from([None, 1.0, 2.0]), min_size=48, max_size=48),
)
@pytest.mark.slow
def test_increments_as_of_one_corpus(
    policy: str, parts: list[Shards], scheme: Scheme, unit: str, values: list[float | None] | None
) -> None:
    """Each part is compared with the passages that those before it left: as the parts so far, those first."""
    known: list[Passages] = []
    ranked: list[float] = []
    for number, part in enumerate(parts):
        so_far = [texts for shards in parts[: number + 1] for texts in shards]
        counts = [len(texts) for texts in so_far]
        first_by = orders = None
        if values is not None:  # earlier parts come first, whatever their values, which count within a part
            own = [values[n] for n in range(sum(counts[len(known) :]))]
            ranked += [10.0 * (len(parts) - number) + (value or 0.0) for value in own]
            first_by = ranked
            bounds = np.cumsum([0, *counts[len(known) :]]).tolist()
            orders = [order_of(pa.array(own[low:high], pa.float64())) for low, high in pairwise(bounds)]
        units = [units_of(texts, unit) for texts in part]
        cuts, left = cuts_across(known, units, scheme, policy, 1, 1.0, orders)
        rows = expected(so_far, scheme.min_length, policy, unit, 1.0, first_by)
        mine, theirs = rows_in_bytes(cuts, [*known, *units], len(known)), [row for row in rows if row[0] >= len(known)]
        if values is None:
            assert mine == theirs
        else:  # of several earlier copies the first by shard and row is the source
            assert stretches(mine) == stretches(theirs)
        known += left


@given(parts=st.lists(st.lists(documents, max_size=2), min_size=3, max_size=3), scheme=schemes)
@pytest.mark.slow
def test_passages_of_a_corpus_do_not_lean_on_another_one(parts: list[Shards], scheme: Scheme) -> None:
    """The second part was compared with the first, the third is compared with the second only."""
    one, two, three = ([units_of(texts, "bytes") for texts in part] for part in parts)
    _, first = cuts_across([], one, scheme, "protect", 1)
    _, second = cuts_across(first, two, scheme, "protect", 1, before=len(first))
    cuts, _ = cuts_across(second, three, scheme, "protect", 1)
    rows = expected([*parts[1], *parts[2]], scheme.min_length, "protect")
    found = [row[:4] for row in rows_in_bytes(cuts, [*second, *three], len(second))]
    assert found == [row[:4] for row in rows if row[0] >= len(second)]


def test_passages_are_what_has_first_windows() -> None:
    one, two = letters(400, 1), letters(400, 2)
    text = one + two + one + letters(9, 3)
    scheme = Scheme(50, 2)
    _, (passages,) = cuts_across([], [units_of([text, one[:40], two, "é" + one], "bytes")], scheme, "protect", 1)
    kept = [
        (row, start, start + size)
        for row, start, size in zip(passages.row, passages.start, passages.units.sizes, strict=True)
    ]
    assert kept == [(0, 0, 849), (0, 1151, 1209), (3, 0, 51)]


def test_passages_without_a_partner_do_not_take_part() -> None:
    one, two, three = (letters(2000, seed) for seed in (1, 2, 3))
    scheme = Scheme(50, 2)
    _, (passages,) = cuts_across([], [units_of([one + two, "é" + three], "bytes")], scheme, "protect", 1)
    new = Selected.of(units_of([letters(900, 4), three[600:900] + letters(900, 5)], "bytes"), scheme)
    filters = [across.key_filter([keys], scheme) for keys in across.shard_keys(new, scheme)]
    taken = Passages.read([across.sought_passages(passages, scheme, filters)], "bytes")
    texts = {}
    for row, start, low, size in zip(
        taken.row, taken.start, taken.units.bounds[:-1], np.diff(taken.units.bounds), strict=True
    ):
        text = bytes(taken.units.values[low : low + size]).decode()
        assert text == (one + two, "?" + three)[row][start - (row == 1) :][:size]
        texts[row] = text
    assert three[600:900] in texts[1]
    assert sum(map(len, texts.values())) < 500


@given(st.lists(st.lists(st.integers(0, 2**32 - 1)), max_size=3), st.integers(1, 2**15))
def test_a_filter_misses_no_key(keys: list[list[int]], partitions: int) -> None:
    """Filters are small where there are many partitions."""
    batches = [pa.record_batch([pa.array(part, pa.uint32())], names=["key"]) for part in keys]
    bits = across.key_filter(batches, Scheme(50, partitions)).column("bits").to_numpy()
    for part in keys:
        assert _are_set(bits, np.array(part, np.uint32)).all()


def fibonacci(size: int) -> str:
    one, two = "a", "ab"
    while len(two) < size:
        one, two = two, two + one
    return two[:size]


def thue_morse(size: int) -> str:
    return "".join("ab"[number.bit_count() % 2] for number in range(size))


def letters(size: int, seed: int) -> str:
    return "".join(random.Random(seed).choices("abcdefgh ", k=size))


BOILERPLATE = "All rights reserved. Terms of use apply to this page. "
ADVERSARIAL: dict[str, Shards] = {
    "boilerplate": [[letters(30, 50 * s + d) + BOILERPLATE + letters(9, d) for d in range(50)] for s in range(4)],
    "one boilerplate, many sides": [[letters(60, s * 80 + d) + "x" * 9 + BOILERPLATE[:25] + letters(60, d * d)
                                     for d in range(80)] for s in range(3)],
    "runs of a byte": [["a" * 3000, "b" + "a" * 200], ["a" * 40, "", "a" * 2999 + "b"], ["c" + "a" * 5000]],
    "runs out of phase": [["ab" * 900, "x" * 30], ["ba" * 700 + "c"], ["cab" + "ab" * 500, "abb" * 300]],
    "a stretch that starts elsewhere": [[letters(40, 1) + "xyz" * 20], ["xyz" * 300], ["yzx" * 9, "zxy" * 200]],
    "all shards identical": [[letters(400, 1), "ab", letters(300, 2), letters(400, 1)]] * 4,
    "empty shards": [[], [letters(90, 1)], [], ["", letters(90, 1)], []],
    "fibonacci": [[fibonacci(900)], [fibonacci(1500), "b" + fibonacci(400)], [fibonacci(1200)[5:]]],
    "thue-morse": [[thue_morse(1024)], [thue_morse(2048)[700:], thue_morse(500)]],
}  # fmt: skip


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", ADVERSARIAL)
@pytest.mark.slow
def test_adversarial(name: str, policy: str) -> None:
    shards = ADVERSARIAL[name]
    for min_length, partitions, passes in ((8, 3, 1), (20, 5, 2), (33, 1, 1), (64, 2, 1)):
        rows = found(shards, Scheme(min_length, partitions), policy, passes=passes)
        assert rows == expected(shards, min_length, policy)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.slow
def test_source_code_of_the_standard_library(policy: str) -> None:
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))[:60]
    texts = [file.read_text(errors="replace") for file in files]
    shards = [texts[start::4] for start in range(4)]
    for min_length, partitions in ((40, 4), (100, 3)):
        rows = found(shards, Scheme(min_length, partitions), policy)
        assert rows == expected(shards, min_length, policy)
        assert rows


def through_file(batches: Sequence[pa.RecordBatch]) -> list[pa.RecordBatch]:
    """What a file of batches gives back: all have one schema."""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_file(sink, batches[0].schema, options=options) as writer:
        for batch in batches:
            writer.write_batch(batch)
    reader = pa.ipc.open_file(sink.getvalue())
    return [reader.get_batch(number) for number in range(reader.num_record_batches)]


@pytest.mark.parametrize("unit", ["bytes", "tokens"])
def test_tasks_in_any_order_through_files(unit: str) -> None:
    shards = [[*texts, "xy" * 100, BOILERPLATE] for texts in ADVERSARIAL["boilerplate"]]
    scheme, policy, order = Scheme(12, 3), "protect", random.Random(1)

    def run(step, inputs):  # type: ignore[no-untyped-def]
        """Every task in its own order, and the file of each, the other way round."""
        numbers = list(range(len(inputs)))
        order.shuffle(numbers)
        files = {number: through_file(list(step(*inputs[number]))) for number in numbers}
        return [list(batches) for batches in zip(*(files[number] for number in range(len(inputs))), strict=True)]

    units = [units_of(texts, unit) for texts in shards]
    selected = [Selected.of(u, scheme) for u in units]
    keys = run(lambda s: across.shard_keys(s, scheme), [(s,) for s in selected])
    repeated = run(across.repeated_keys, [(k,) for k in keys])
    of_shards = list(zip(units, selected, repeated, strict=True))
    contents = run(lambda u, s, r: across.shard_contents(u, s, scheme, r), of_shards)
    wanted = run(across.wanted_texts, [(c,) for c in contents])
    of_shards = list(zip(units, selected, repeated, wanted, strict=True))
    texts = run(lambda u, s, r, w: across.shard_texts(u, s, scheme, r, w), of_shards)
    partitions = list(zip(contents, zip(*wanted, strict=True), texts, strict=True))
    answers = run(lambda c, w, t: across.answer_shards(c, w, t, scheme, policy), partitions)
    copies = [scheme.anchors(u).copies for u in units]
    cuts = [
        through_file([across.shard_cuts(shard, units[shard], copies[shard], scheme, answers[shard], policy)])[0]
        for shard in range(len(shards))
    ]
    assert rows_in_bytes(cuts, units) == expected(shards, 12, policy, unit)


def test_records_that_do_not_fit_are_refused() -> None:
    scheme = Scheme(8, 1)
    one, other = units_of([letters(100, 1)] * 2, "bytes"), units_of([letters(300, 2)], "bytes")
    selected = Selected.of(one, scheme)
    keys = across.shard_keys(selected, scheme)
    (repeated,) = across.repeated_keys(keys)
    with pytest.raises(InputError, match="exchange: bitmaps over"):
        across.shard_contents(other, Selected.of(other, scheme), scheme, [repeated])
    with pytest.raises(InputError, match="exchange: anchors beyond"):
        Selected.read(selected.to_batch(scheme), units_of([letters(150, 1)], "bytes"), scheme)
    (contents,) = across.shard_contents(one, selected, scheme, [repeated])
    (wanted,) = across.wanted_texts([contents])
    with pytest.raises(InputError, match="exchange: bitmaps over"):
        across.shard_texts(one, selected, scheme, [repeated], [repeated.slice(1)])
    (texts,) = across.shard_texts(one, selected, scheme, [repeated], [wanted])
    with pytest.raises(InputError, match="exchange: a bitmap over"):
        list(across.answer_shards([contents], [wanted.slice(1)], [texts], scheme, "union"))
    everything = pa.record_batch([pa.array([True] * len(wanted))], names=["flag"])
    with pytest.raises(InputError, match="exchange: 0 texts do not fit"):
        list(across.answer_shards([contents], [everything], [texts], scheme, "union"))
    answers = list(across.answer_shards([contents], [wanted], [texts], scheme, "union"))
    copies = scheme.anchors(one).copies
    with pytest.raises(InputError, match="exchange: answers that do not fit shard 0"):
        across.shard_cuts(0, other, copies, scheme, answers, "union")
    assert across.shard_cuts(0, one, copies, scheme, answers, "union").num_rows == 1


@pytest.mark.parametrize(("min_length", "partitions"), [(0, 1), (5, 0), (5, 2**16)])
def test_schemes_out_of_range_are_refused(min_length: int, partitions: int) -> None:
    with pytest.raises(InputError, match="expected 1 to"):
        Scheme(min_length, partitions)


def test_a_partition_gets_its_share_and_no_key_two_partitions() -> None:
    units = units_of([letters(60_000, 1), letters(60_000, 1)], "bytes")
    scheme = Scheme(20, 16)
    sizes = [batch.num_rows for batch in across.shard_keys(Selected.of(units, scheme), scheme)]
    assert max(sizes) < 1.3 * sum(sizes) / 16
    key = scheme.anchors(units).key
    order, bounds = scheme.by_partition(key)
    highest = [int(key[order[low:high]].max()) for low, high in pairwise(bounds)]
    lowest = [int(key[order[low:high]].min()) for low, high in pairwise(bounds)]
    assert all(high < low for high, low in zip(highest[:-1], lowest[1:], strict=True))


def test_copies_send_no_text() -> None:
    text = letters(2000, 1)
    units = [units_of([text, letters(500, seed)], "bytes") for seed in (2, 3)]
    scheme = Scheme(50, 2)
    selected = [Selected.of(each, scheme) for each in units]
    keys = [across.shard_keys(each, scheme) for each in selected]
    repeated = [list(across.repeated_keys(batches)) for batches in zip(*keys, strict=True)]
    flags = [list(batches) for batches in zip(*repeated, strict=True)]
    of_shards = zip(units, selected, flags, strict=True)
    contents = [across.shard_contents(each, anchors, scheme, flag) for each, anchors, flag in of_shards]
    assert sum(batch.num_rows for batches in contents for batch in batches) > 100
    wanted = [batch for batches in zip(*contents, strict=True) for batch in across.wanted_texts(batches)]
    assert not any(np.asarray(batch.column("flag").to_numpy(zero_copy_only=False)).any() for batch in wanted)
