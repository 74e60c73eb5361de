"""Held-out sets, and what is left out for them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from gneiss.ablate import HeldOut, read_held_out
from gneiss.batch import TextBatch
from gneiss.errors import InputError, ModelError
from gneiss.output.finished_run import open_run
from gneiss.report.held_out import Contamination, Identities, identities_of, refuse_shared

WORDS = [f"w{i}" for i in range(60)]


def test_files_and_columns_are_domains(tmp_path: Path) -> None:
    rows = {"id": ["1", "2", "3"], "text": ["a b", "c", " "], "source": ["x", "y", "x"]}
    pq.write_table(pa.table(rows), tmp_path / "mixed.parquet")
    (tmp_path / "news.jsonl").write_text('{"text": "one", "id": "n"}\n')
    found = read_held_out([tmp_path])
    assert found == HeldOut({"mixed": ("a b", "c"), "news": ("one",)}, frozenset("123n"))
    by_source = read_held_out([tmp_path / "mixed.parquet"], domain="source")
    assert by_source.texts == {"x": ("a b",), "y": ("c",)}


def test_what_is_no_held_out_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found none"):
        read_held_out([])
    pq.write_table(pa.table({"body": ["a"]}), tmp_path / "set.parquet")
    with pytest.raises(ModelError, match=r"set\.parquet: expected one of the columns text, id"):
        read_held_out([tmp_path / "set.parquet"])
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "set.parquet")
    with pytest.raises(InputError, match="expected texts in the column 'text'"):
        read_held_out([tmp_path / "set.parquet"])
    (tmp_path / "set.txt").write_text("a\n")
    with pytest.raises(InputError, match="another held-out set 'set'"):
        read_held_out([tmp_path])


@given(st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=8), st.integers(1, 60))
def test_the_first_texts_of_a_domain_fit(texts: list[str], most_bytes: int) -> None:
    chosen = HeldOut({"d": tuple(texts)}).first(most_bytes)["d"]
    assert sum(len(text.encode()) for text in chosen) <= most_bytes
    assert all(any(whole.startswith(text) for whole in texts) for text in chosen)
    assert sorted(chosen) == sorted(HeldOut({"d": tuple(reversed(texts))}).first(most_bytes)["d"])


@pytest.mark.parametrize(("shared", "is_contaminated"), [(31, False), (32, True), (60, True)])
def test_a_document_with_32_words_of_a_held_out_text_is_contaminated(shared: int, is_contaminated: bool) -> None:
    contamination = Contamination(HeldOut({"d": (" ".join(WORDS),)}))
    text = f"before it {' '.join(WORDS[60 - shared :])} after it"
    assert contamination.of(TextBatch.of([text, "something else"])).tolist() == [is_contaminated, False]


def test_a_short_text_counts_whole_and_a_very_short_one_not_at_all() -> None:
    contamination = Contamination(HeldOut({"d": (" ".join(WORDS[:10]), "a b c")}))
    texts = [f"x {' '.join(WORDS[:10])} y", " ".join(WORDS[1:10]), "a b c"]
    assert contamination.of(TextBatch.of(texts)).tolist() == [True, False, False]


def test_a_share_of_words_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="expected 8 to 100, found 7"):
        Contamination(HeldOut({}), shared_words=7)


def test_shared_ids_are_refused() -> None:
    with pytest.raises(InputError, match="raw: the document 'b' is in a held-out set too"):
        refuse_shared("raw", ["a", "b", None], Identities(frozenset("bc")))
    held_out = HeldOut({"d": ("one text", "two")}, frozenset("bc")).identities
    hashes = [xxhash.xxh3_128_digest(text) for text in (b"three", b"two")]
    refuse_shared("raw", ["x", None], held_out, hashes[:1])
    with pytest.raises(InputError, match="raw: the text of the document 'x' is in a held-out set too"):
        refuse_shared("raw", ["a", "x"], held_out, hashes)


def test_documents_of_runs_and_files_are_known_by_id_and_text(curated: Path, tmp_path: Path) -> None:
    (tmp_path / "news.jsonl").write_text('{"text": "one", "id": "n"}\n')
    found = identities_of([curated, str(tmp_path / "news.jsonl")])
    kept = open_run(curated).annotations(columns=["content_hash"], kept=True)
    assert found.ids == {"n", *kept["id"].to_pylist()} - {None}
    assert found.hashes == {xxhash.xxh3_128_digest(b"one"), *kept["content_hash"].to_pylist()}
    with pytest.raises(ModelError, match="nothing"):
        identities_of([tmp_path / "nothing.jsonl"])
