"""Corpora: what is read, what is sampled, and the order of each seed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.ablate import Corpus, HeldOut, OwnTrainer, Plan, Training, ablate
from gneiss.ablate.corpora import pool_of_texts, read_pool
from gneiss.errors import InputError, ModelError
from gneiss.output.finished_run import FinishedRun
from gneiss.report.held_out import Contamination

TEXTS = [f"document {i}" for i in range(50)]
NOTHING = Contamination(HeldOut({"d": ("a text of the held-out set that nobody else has got",)}, frozenset({"seven"})))


def folder_of(folder: Path, **columns: list[str | None]) -> Path:
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), folder / "a.parquet")
    return folder


def test_a_run_and_a_folder_are_read(uninterrupted: FinishedRun, tmp_path: Path) -> None:
    run = read_pool(Corpus("run", uninterrupted.folder), NOTHING, 1 << 30)
    assert run.documents == uninterrupted.documents == len(run.texts)
    pq.write_table(pa.table({"text": list(run.texts)}), tmp_path / "a.parquet")
    folder = read_pool(Corpus("folder", tmp_path), NOTHING, 1 << 30)
    assert (folder.texts, folder.keys, folder.digest) == (run.texts, run.keys, run.digest)


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a finished run, or a folder with Parquet files"):
        read_pool(Corpus("x", tmp_path), NOTHING, 1000)
    (tmp_path / "a.parquet").write_bytes(b"no parquet")
    with pytest.raises(InputError, match=r"a\.parquet: cannot read"):
        read_pool(Corpus("x", tmp_path), NOTHING, 1000)
    with pytest.raises(InputError, match="no column 'body', found text"):
        read_pool(Corpus("x", folder_of(tmp_path, text=["a"]), text="body"), NOTHING, 1000)
    with pytest.raises(InputError, match="the document 'seven' is in a held-out set too"):
        read_pool(Corpus("x", folder_of(tmp_path, text=["a"], id=["seven"])), NOTHING, 1000)
    contaminated = list(NOTHING.held_out.texts["d"])
    with pytest.raises(InputError, match="all 1 documents share text"):
        read_pool(Corpus("x", folder_of(tmp_path, text=contaminated)), NOTHING, 1000)


def test_nulls_and_contaminated_documents_are_left_out(tmp_path: Path) -> None:
    texts = [*TEXTS, None, f"so: {NOTHING.held_out.texts['d'][0]}!"]
    pool = read_pool(Corpus("x", folder_of(tmp_path, text=texts)), NOTHING, 1 << 30)
    assert sorted(pool.texts) == sorted(TEXTS)
    assert (pool.documents, pool.contaminated, pool.is_whole) == (50, 1, True)


def test_a_large_corpus_is_sampled_whatever_the_order(tmp_path: Path) -> None:
    pools = [read_pool(Corpus("x", folder_of(tmp_path, text=[*texts])), NOTHING, 200) for texts in (TEXTS, TEXTS[::-1])]
    assert pools[0].texts == pools[1].texts
    assert 170 < sum(map(len, pools[0].texts)) <= 200
    assert (pools[0].documents, pools[0].is_whole) == (50, False)


@given(st.lists(st.text(max_size=2)), st.lists(st.text(max_size=2)), st.integers(0, 9))
def test_shared_documents_come_in_the_same_order(a: list[str], b: list[str], seed: int) -> None:
    pools = [pool_of_texts("a", a), pool_of_texts("b", b)]
    shared = set(pools[0].keys) & set(pools[1].keys)
    orders = [[key for i in pool.order(seed) if (key := pool.keys[i]) in shared] for pool in pools]
    assert orders[0] == orders[1]
    assert sorted(pools[0].order(seed)) == list(range(len(a)))


def test_copies_of_a_document_are_apart() -> None:
    pool = pool_of_texts("x", ["copied"] * 20 + TEXTS)
    places = [at for at, i in enumerate(pool.order(3)) if pool.texts[i] == "copied"]
    assert places[-1] - places[0] > 30


def test_halves_are_a_partition_and_others_for_each_seed() -> None:
    pool = pool_of_texts("x", TEXTS)
    first, second = (pool.half(1, of) for of in (False, True))
    assert sorted(first.texts + second.texts) == sorted(TEXTS)
    assert 10 < len(first.texts) < 40
    assert pool.half(2, False).texts != first.texts


@pytest.mark.processes
def test_it_is_said_how_runs_were_made_otherwise(
    curated: Path, copy_of: Callable[[Path], Path], tmp_path: Path
) -> None:
    other = copy_of(curated)
    recipe = other / "_gneiss/recipe.yaml"
    text = recipe.read_text()
    assert "eflaw < 30" in text
    recipe.write_text(text.replace("eflaw < 30", "eflaw < 29"))
    plain = tmp_path / "plain"
    plain.mkdir()
    pq.write_table(pa.table({"text": ["a"]}), plain / "a.parquet")
    corpora = [Corpus("one", curated), Corpus("plain", plain), Corpus("two", other)]
    said: list[str] = []
    held_out = HeldOut({"quiz": ("what has four legs at dawn and two at noon and three",)})
    plan = Plan(Training(8192), own_trainer=OwnTrainer(f"{sys.executable} -c 1 {{corpus}} {{seed}}"))
    with pytest.raises(ModelError, match="Expecting value"):
        ablate(corpora, held_out, tmp_path / "out", plan, said=said.append)
    assert said[0] == "the recipe of two is another one than that of one: phases.only.rules.readable"
    assert said[1].startswith("one: 132 documents")
