"""Files that do not say how many rows they have: they are counted where they are read, and nothing else changes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pytest

import gneiss
from gneiss.errors import InputError
from gneiss.input import formats
from gneiss.input.formats import FORMATS
from gneiss.input.formats.format import CutFile, Part
from gneiss.input.formats.parquet import Parquet
from gneiss.input.shard import cut_shards
from gneiss.output import ledger
from gneiss.pipelines.dry_run import dry_run
from gneiss.store.place import Place, place_of
from tests import runs
from tests.support import recipe_of

SHARD_SCOPE = """
- name: only
  dedup: {min_length: 40}
  exact_duplicates: {scope: shard}
  annotate: [readability]
  rules: {readable: eflaw < 30}
"""
CORPUS_SCOPE = """
- name: first
  exact_duplicates: {scope: corpus}
  annotate: [readability]
  rules: {first: exact_first, readable: eflaw < 30}
- name: second
  dedup: {min_length: 40, scope: corpus}
  near_duplicates: {scope: corpus}
  rules: {near: near_first}
"""


@dataclass(frozen=True)
class Uncounted(Parquet):
    """Parquet whose footer is not asked how many rows there are."""

    suffixes = (".rows",)

    def cut(self, file: Place, text: str, part_max_bytes: int, held: Sequence[str] = ()) -> CutFile:
        found = super().cut(file, text, part_max_bytes, held)
        return replace(found, parts=tuple(replace(part, rows=None, likely_rows=7) for part in found.parts))


@dataclass(frozen=True)
class Shrinking(Uncounted):
    """A file that has a row less in each row group when its other columns are read."""

    def tables(self, file: Place, part: Part, columns: Sequence[str] | None) -> Iterator[pa.Table]:
        for table in super().tables(file, part, columns):
            yield table if columns is None or "text" in columns else table.slice(1)


@pytest.fixture
def uncounted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "FORMATS", (*FORMATS, Uncounted()))


def write_both(folder: Path) -> tuple[Path, Path]:
    """The same corpus under both names."""
    for number, name in enumerate(("a", "b", "deep/c")):
        path = runs.write_corpus(folder / f"known/{name}.parquet", runs.documents(40, seed=number // 2))
        target = folder / f"unknown/{name}.rows"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return folder / "known", folder / "unknown"


@pytest.mark.usefixtures("uncounted")
@pytest.mark.parametrize("phases", [SHARD_SCOPE, CORPUS_SCOPE], ids=["shard", "corpus"])
@pytest.mark.slow
def test_a_run_over_shards_that_nobody_counted_is_that_over_counted_ones(phases: str, tmp_path: Path) -> None:
    recipe = recipe_of(phases, budgets="{documents: 1}")
    known, unknown = write_both(tmp_path)
    gneiss.run(recipe, known, tmp_path / "from-known", backend=runs.InThisProcess())
    gneiss.run(recipe, unknown, tmp_path / "from-unknown", backend=runs.InThisProcess())
    assert runs.promised(tmp_path / "from-unknown") == runs.promised(tmp_path / "from-known")
    receipts = ledger.read(place_of(tmp_path / "from-unknown"))
    assert {id_: receipt.rows for id_, receipt in receipts.items()} == {"a": 40, "b": 40, "deep/c": 40}


@pytest.mark.usefixtures("uncounted")
@pytest.mark.parametrize("limit", [20, *(pytest.param(n, marks=pytest.mark.exhaustive) for n in (None, 5, 40, 50))])
@pytest.mark.slow
def test_a_dry_run_counts_what_it_reads(limit: int | None, tmp_path: Path) -> None:
    recipe = recipe_of(CORPUS_SCOPE, budgets="{documents: 1}", shard_max_bytes=1)
    path = runs.write_corpus(tmp_path / "a.parquet", runs.documents(40, seed=1), row_group_size=10)
    shutil.copy(path, tmp_path / "a.rows")
    known, unknown = (dry_run(recipe, tmp_path / name, limit=limit) for name in ("a.parquet", "a.rows"))
    assert unknown.statistics.to_json() == known.statistics.to_json()
    assert unknown.statistics.counts["rows"] == min(limit or 40, 40)


def test_rows_that_are_not_there_when_they_are_written_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "FORMATS", (*FORMATS, Shrinking()))
    _, unknown = write_both(tmp_path)
    done = gneiss.run(recipe_of(SHARD_SCOPE), unknown, tmp_path / "out", backend=runs.InThisProcess())
    assert set(done.quarantined_shards) == {"a", "b", "deep/c"}
    assert "40 rows were read of it, and then 38" in done.quarantined_shards["a"]
    assert not list((tmp_path / "out/data").rglob("*.parquet"))


@pytest.mark.usefixtures("uncounted")
def test_a_guess_of_rows_is_no_count(tmp_path: Path) -> None:
    _, unknown = write_both(tmp_path)
    shard = cut_shards(unknown, text="text").shards[0]
    assert (shard.known_rows, shard.rows) == (None, 7)
    assert sum(table.num_rows for _, table in shard.counted(40).tables()) == 40
    with pytest.raises(InputError, match="expected 41 rows in shard a, found 40"):
        list(shard.counted(41).tables())
