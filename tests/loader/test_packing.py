"""Packing: nothing lost, every token of a document where the map says, on the fly and on disk, MDS included."""

from __future__ import annotations

import json
import math
import signal
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import duckdb
import numpy as np
import pytest

from gneiss.errors import InputError, OutputError
from gneiss.loader.packed_files import pack, packed
from gneiss.loader.packing import Sequence, Sequences, encoder, sequences
from gneiss.loader.reader import documents
from tests import runs
from tests.chaos.killing import killed_at

Copy = Callable[[Path], Path]
TOKENIZER, END = "builtin:cl100k_base", 100257
ENCODE = encoder(TOKENIZER)


def same(a: Sequence, b: Sequence) -> bool:
    spans = all(np.array_equal(getattr(a.spans, name), getattr(b.spans, name)) for name in vars(a.spans))
    return a.id == b.id and np.array_equal(a.tokens, b.tokens) and a.log_prior == b.log_prior and spans


def all_same(found: Iterable[Sequence], expected: Iterable[Sequence]) -> bool:
    return all(same(a, b) for a, b in zip(found, expected, strict=True))


def check_nothing_is_lost(found: list[Sequence], released: Path, end: int | None) -> None:
    """Put every document together again from its spans."""
    parts: dict[int, dict[int, np.ndarray]] = defaultdict(dict)
    for sequence in found:
        at = 0
        spans = zip(
            *(getattr(sequence.spans, n) for n in ("document", "start", "length", "document_start")), strict=True
        )
        for document, start, length, document_start in spans:
            assert start == at
            assert document_start not in parts[document]
            parts[document][document_start] = sequence.tokens[start : start + length]
            at += length
        assert at == len(sequence.tokens)
    for document in documents(released):
        expected = [*ENCODE(document.text).tolist(), *([] if end is None else [end])]
        of_document = parts.pop(document.index, {})
        assert [token for start in sorted(of_document) for token in of_document[start].tolist()] == expected
    assert not parts


@pytest.mark.parametrize(("length", "end"), [(2, None), (64, END), (1000, None), (100_000, END)])
@pytest.mark.slow
def test_every_document_is_there_whole(length: int, end: int | None, released: Path) -> None:
    found = list(sequences(documents(released), ENCODE, length, end_of_document=end))
    check_nothing_is_lost(found, released, end)
    assert all(len(sequence.tokens) == length for sequence in found[:-1])
    full = list(sequences(documents(released), ENCODE, length, end_of_document=end, keep_last=False))
    assert all_same(full, found if len(found[-1].tokens) == length else found[:-1])


def test_consumers_pack_for_themselves_and_have_ids_of_their_own(released: Path) -> None:
    found = [
        sequence
        for rank in range(3)
        for worker in range(2)
        for sequence in sequences(documents(released, rank=rank, world_size=3), ENCODE, 64).of_worker(worker, 2)
    ]
    check_nothing_is_lost(found, released, None)
    assert len({sequence.id for sequence in found}) == len(found)


def test_the_weight_of_a_sequence_is_the_mean_over_its_tokens(released: Path) -> None:
    prior = {document.index: document.log_prior for document in documents(released)}
    for sequence in sequences(documents(released), ENCODE, 100):
        owner = np.repeat(sequence.spans.document, sequence.spans.length)
        mean = math.fsum(math.exp(prior[document]) for document in owner.tolist()) / len(owner)
        assert math.exp(sequence.log_prior) == pytest.approx(mean, rel=1e-12)


@pytest.mark.parametrize("at", [0, 1, 5, 40, 150])
@pytest.mark.parametrize("length", [16, 300])
@pytest.mark.slow
def test_packing_goes_on_where_its_state_was_saved(at: int, length: int, released: Path) -> None:
    source = sequences(documents(released, epochs=2, block_documents=30), ENCODE, length, end_of_document=END)
    stream = iter(source)
    for _ in range(at):
        next(stream, None)
    other = iter(source)
    other.load_state_dict(json.loads(json.dumps(stream.state_dict())))
    assert all_same(other, stream)
    again = iter(source)
    assert next(again).id == 0
    with pytest.raises(InputError, match="instead of 17"):
        iter(replace(source, length=17)).load_state_dict(again.state_dict())


@pytest.fixture(scope="module")
def source(released: Path) -> Sequences:
    return sequences(documents(released, seed=5), TOKENIZER, 48, end_of_document=END)


@pytest.mark.slow
def test_what_is_packed_on_disk_is_what_is_packed_on_the_fly(source: Sequences, released: Path, tmp_path: Path) -> None:
    packing = pack(source, tmp_path / "packed")
    assert all_same(packed(tmp_path / "packed", shuffled=False), source)
    expected = {sequence.id: sequence for sequence in source}
    assert packing.sequences == len(expected)
    shuffled = [s for rank in range(3) for s in packed(tmp_path / "packed", rank=rank, world_size=3, block_sequences=9)]
    assert [s.id for s in shuffled] != sorted(s.id for s in shuffled)
    assert all(same(s, expected.pop(s.id)) for s in shuffled)
    assert not expected
    even = [packed(tmp_path / "packed", rank=rank, world_size=7, drop_uneven=True) for rank in range(7)]
    assert {len(list(part)) for part in even} == {packing.sequences // 7}
    stream = iter(packed(tmp_path / "packed", epoch=2))
    first = [next(stream) for _ in range(20)]
    assert set(first[0].spans.epoch.tolist()) == {2}
    other = iter(packed(tmp_path / "packed", epoch=2))
    other.load_state_dict(json.loads(json.dumps(stream.state_dict())))
    assert all_same(other, stream)
    rows = duckdb.sql(f"SELECT sum(span.length) FROM (SELECT unnest(spans) AS span FROM '{tmp_path}/packed/*.parquet')")
    assert rows.fetchall()[0][0] == sum(len(sequence.tokens) for sequence in source)


def test_parts_are_packed_for_themselves(
    source: Sequences, released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gneiss.loader.packed_files.PART_TEXT_BYTES", 30_000)
    packing = pack(source, tmp_path / "packed")
    assert len(packing.parts) > 2
    found = list(packed(tmp_path / "packed"))
    check_nothing_is_lost(found, released, END)
    assert len({sequence.id for sequence in found}) == len(found)


def pack_until(number: int, source: Sequences, folder: Path) -> None:
    """A packing that is killed at its n-th event."""
    with killed_at(number):
        pack(source, folder)


@pytest.mark.processes
@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_a_killed_packing_is_completed(
    every: int, source: Sequences, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gneiss.loader.packed_files.PART_TEXT_BYTES", 60_000)
    parts = len(pack(source, tmp_path / "whole").parts)
    assert parts > 1
    expected = runs.promised(tmp_path / "whole")
    for number in range(1, 3 * parts + 3, every):
        process = get_context("fork").Process(target=pack_until, args=(number, source, tmp_path / f"{number}"))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        if not (tmp_path / f"{number}/packing.json").exists():
            with pytest.raises(InputError, match="no packed sequences here"):
                packed(tmp_path / f"{number}")
        pack(source, tmp_path / f"{number}")
        assert runs.promised(tmp_path / f"{number}") == expected
    with pytest.raises(OutputError, match="other settings"):
        pack(replace(source, length=49), tmp_path / "1")


def test_unfit_arguments_are_refused(released: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="length 1"):
        sequences(documents(released), TOKENIZER, 1)
    with pytest.raises(InputError, match="one epoch"):
        pack(sequences(documents(released, epochs=None), TOKENIZER, 8), tmp_path / "p")
    with pytest.raises(InputError, match="name of a tokenizer"):
        pack(sequences(documents(released), ENCODE, 8), tmp_path / "p")
    for token in (-1, 2**31, 99_999_999_999):
        with pytest.raises(InputError, match=rf"end_of_document {token}: expected a token id, 0 to 2147483647"):
            sequences(documents(released), TOKENIZER, 8, end_of_document=token)
    with pytest.raises(InputError, match="length 2147483648"):
        sequences(documents(released), TOKENIZER, 2**31)
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize("name", ["x.txt", "deep/er/x.txt", ".hidden", "part-00000.parquet.bak"])
def test_a_folder_with_files_of_others_is_refused_and_left_alone(name: str, released: Path, tmp_path: Path) -> None:
    (tmp_path / "p" / name).parent.mkdir(parents=True)
    (tmp_path / "p" / name).write_text("mine")
    with pytest.raises(OutputError, match="expected an empty folder or packed sequences, found"):
        pack(sequences(documents(released), TOKENIZER, 8), tmp_path / "p")
    assert [path for path in (tmp_path / "p").rglob("*") if path.is_file()] == [tmp_path / "p" / name]


@pytest.mark.parametrize("where", [".", "data", "packed", "..", "annotations/weights"])
def test_a_run_is_not_packed_into_itself(where: str, released: Path, copy_of: Copy) -> None:
    output = copy_of(released)
    before = sorted(output.parent.rglob("*"))
    with pytest.raises(OutputError, match="choose another output"):
        pack(sequences(documents(output), TOKENIZER, 8), output / where)
    assert sorted(output.parent.rglob("*")) == before
