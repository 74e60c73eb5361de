"""Reshard against a plain oracle: every document once, in the order that is promised, beside its annotations."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gneiss
from gneiss.backends import Done, Step, Task
from gneiss.backends.resources import Resources
from gneiss.errors import InputError, OutputError, RecipeError
from gneiss.layers.weights import write_weights
from gneiss.loader.reader import documents
from gneiss.output import ledger
from gneiss.output.finished_run import FinishedRun, FinishedShard, open_run
from gneiss.pipelines import new_shards
from gneiss.pipelines import reshard as resharding
from gneiss.pipelines.new_shards import row_keys
from gneiss.pipelines.reshard import bounds_of, reshard
from gneiss.recipe.recipe import Recipe
from tests import runs
from tests.chaos import killing
from tests.support import recipe_of

PHASES = """
- name: only
  dedup: {min_length: 80}
  annotate: [readability]
  rules: {readable: eflaw < 15}
"""
SETTINGS: dict[str, Any] = {"shard_bytes": 9_000, "backend": runs.InThisProcess()}
SEEDS = [None, 7]
#: Both formats and both orders; the other pairs are exhaustive.
FORMATS_AND_SEEDS = [
    ("parquet", None),
    ("jsonl.gz", 7),
    *(pytest.param(*case, marks=pytest.mark.exhaustive) for case in (("parquet", 7), ("jsonl.gz", None))),
]


def recipe(output: str = "{}") -> Recipe:
    return recipe_of(PHASES, budgets="{documents: 1}", shard_max_bytes=12_000, output=output)


@pytest.fixture(scope="module")
def input(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("input")
    for number, name in enumerate(("a", "deep/b", "c")):
        texts = runs.documents(60, seed=number)
        runs.write_corpus(folder / f"{name}.parquet", texts, tags=[["x", str(i)] for i in range(60)])
    return folder


@pytest.fixture(scope="module")
def curated(input: Path, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """A run with dropped and quarantined rows, in 9 shards."""
    done = gneiss.run(recipe(), input, tmp_path_factory.mktemp("curated"), backend=runs.InThisProcess())
    assert min(done.counts[name] for name in ("kept", "dropped", "quarantined")) > 3
    assert len(done.shards) == 9
    return done


def annotated(run: FinishedRun) -> list[dict[str, Any]]:
    """All rows of a run, in order."""
    return run.annotations().to_pylist()


def kept(run: FinishedRun) -> list[dict[str, Any]]:
    """All columns of all documents of a run, in order."""
    return [
        row
        for shard in run.shards
        for table in run.data_tables(shard, run.data_schema(shard).names)
        for row in table.to_pylist()
    ]


def expected_order(run: FinishedRun, seed: int | None) -> list[int]:
    """The oracle: the order of all rows of a run, by their numbers."""
    rows = run.counts["rows"]
    return list(range(rows)) if seed is None else np.argsort(row_keys(seed, 0, rows)).tolist()


@pytest.mark.slow
@pytest.mark.parametrize(("format", "seed"), FORMATS_AND_SEEDS)
def test_every_row_is_there_once_and_in_order(
    curated: FinishedRun, tmp_path: Path, seed: int | None, format: str
) -> None:
    new = reshard(curated.folder, tmp_path / "new", shuffle_seed=seed, format=format, **SETTINGS)
    rows, order = annotated(curated), expected_order(curated, seed)
    found = annotated(new)
    origin = [(row.pop("gneiss_shard"), row.pop("gneiss_row")) for row in found]
    assert origin == [(rows[number]["shard"], rows[number]["row"]) for number in order]
    numbers = [(row.pop("shard"), row.pop("row")) for row in found]
    assert numbers == [(shard.id, number) for shard in new.shards for number in range(shard.rows)]
    assert found == [{name: value for name, value in rows[n].items() if name not in ("shard", "row")} for n in order]
    dense = np.cumsum([row["status"] == "kept" for row in rows]) - 1
    documents_before = kept(curated)
    assert kept(new) == [documents_before[dense[number]] for number in order if rows[number]["status"] == "kept"]
    count = len(new.shards)
    assert [shard.id for shard in new.shards] == [f"train-{n:05d}-of-{count:05d}" for n in range(count)]
    assert count >= 3
    assert new.statistics == curated.statistics


@pytest.mark.parametrize("seed", SEEDS)
def test_files_are_of_about_the_size_that_was_asked_for(curated: FinishedRun, tmp_path: Path, seed: int | None) -> None:
    new = reshard(curated, tmp_path / "new", shard_bytes=15_000, shuffle_seed=seed, backend=runs.InThisProcess())
    sizes = [Path(new.data_file(shard)).stat().st_size for shard in new.shards]
    assert max(sizes) < 16_000
    assert max(sizes) < 2 * min(sizes)


@given(kept=st.lists(st.integers(0, 30), max_size=8), count=st.integers(1, 12), data=st.data())
def test_new_shards_are_stretches_of_even_size(kept: list[int], count: int, data: st.DataObject) -> None:
    starts = [sum(kept[:number]) for number in range(len(kept))]
    shards = tuple(
        FinishedShard(f"{n}", rows + 1, rows, start) for n, (rows, start) in enumerate(zip(kept, starts, strict=True))
    )
    sizes = [10 * rows + data.draw(st.integers(1, 9)) for rows in kept]
    bounds = bounds_of(shards, sizes, count)
    total = sum(kept)
    assert (bounds[0], bounds[-1]) == (0, max(total, 1))
    assert all(low < high for low, high in pairwise(bounds))
    assert len(bounds) - 1 <= count
    limit = sum(sizes) / 10 / count + len(kept) + 1  # where a document counts as ten bytes, and a shard with up to nine
    assert all(high - low <= limit for low, high in pairwise(bounds))


@pytest.mark.slow
def test_a_shuffle_is_one_by_its_seed_and_mixes_all_shards(curated: FinishedRun, tmp_path: Path) -> None:
    orders = []
    for number, seed in enumerate((1, 1, 2)):
        new = reshard(curated, tmp_path / f"{number}", shuffle_seed=seed, **SETTINGS)
        orders.append([row["id"] for row in kept(new)])
        assert len({row["gneiss_shard"] for row in annotated(new)[: new.shards[0].rows]}) > 4
    assert orders[0] == orders[1] != orders[2]
    assert sorted(map(str, orders[0])) == sorted(map(str, orders[2]))


@pytest.mark.slow
def test_memory_does_not_shape_a_shuffle(curated: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard is sorted in pieces; how many they are changes no row, and no byte but where row groups end."""
    whole = reshard(curated, tmp_path / "whole", shuffle_seed=3, **SETTINGS)
    monkeypatch.setattr(resharding, "PIECE_BYTES", 2_000)
    pieces = reshard(curated, tmp_path / "pieces", shuffle_seed=3, **SETTINGS)
    assert annotated(pieces) == annotated(whole)
    assert kept(pieces) == kept(whole)


class LastFirst(runs.InThisProcess):
    """Tasks in another order."""

    def run(
        self, step: Step[Task, Done], tasks: Sequence[Task], workers: int, resources: Resources
    ) -> Generator[Done, None, None]:
        yield from super().run(step, tasks[::-1], workers, resources)


@pytest.mark.slow
@pytest.mark.parametrize(("format", "seed"), FORMATS_AND_SEEDS)
def test_a_run_with_shard_bytes_is_a_run_and_a_reshard(
    input: Path, tmp_path: Path, seed: int | None, format: str
) -> None:
    plain = gneiss.run(recipe(f"{{format: {format}}}"), input, tmp_path / "plain", backend=runs.InThisProcess())
    two = reshard(plain, tmp_path / "two", shuffle_seed=seed, **SETTINGS)
    shuffled = "" if seed is None else f", shuffle_seed: {seed}"
    laid_out = recipe(f"{{format: {format}, shard_bytes: 9000{shuffled}}}")
    one = gneiss.run(laid_out, input, tmp_path / "one", backend=LastFirst())
    names, expected = (  # the ledger is cut by the clock
        {name for name in runs.files(run.folder) if not name.startswith("_gneiss/ledger/")} for run in (one, two)
    )
    assert names == expected
    for name in names:
        if name.startswith(("data/", "quarantine/")) or name in ("_gneiss/recipe.yaml", "_gneiss/statistics.json"):
            assert Path(one.folder, name).read_bytes() == Path(two.folder, name).read_bytes(), name
    assert annotated(one) == annotated(two)
    before = runs.touched(one.folder)
    again = gneiss.run(laid_out, input, tmp_path / "one", backend=runs.InThisProcess())
    assert again.finished_before == len(one.shards)
    assert runs.touched(one.folder) == before
    assert open_run(one.folder).recipe.canonical() == laid_out.canonical()


@pytest.mark.slow
def test_a_run_with_shard_bytes_belongs_to_its_input(input: Path, tmp_path: Path) -> None:
    run = recipe("{shard_bytes: 9000}")
    gneiss.run(run, input / "a.parquet", tmp_path / "out", backend=runs.InThisProcess())
    with pytest.raises(OutputError, match=r"another run \(what differs: the input files.*output\.shard_bytes lays out"):
        gneiss.run(run, input / "c.parquet", tmp_path / "out", backend=runs.InThisProcess())


@pytest.mark.slow
def test_a_run_past_its_budget_is_not_laid_out_and_can_be_finished(input: Path, tmp_path: Path) -> None:
    strict = recipe("{shard_bytes: 9000}").changed({"budgets.documents": 0.0})
    done = gneiss.run(strict, input, tmp_path / "out", backend=runs.InThisProcess())
    with pytest.raises(gneiss.BudgetError, match=r"documents were quarantined"):
        done.check_budgets()
    assert done.folder.path == str(tmp_path / "out/_gneiss/curated")
    assert not (tmp_path / "out/data").exists()
    more = strict.changed({"budgets.documents": 1.0})
    finished = gneiss.run(more, input, tmp_path / "out", backend=runs.InThisProcess())
    assert finished.folder.path == str(tmp_path / "out")
    assert not (tmp_path / "out/_gneiss/curated").exists()
    assert finished.shards[0].id.startswith("train-00000-of-")


class Killed(BaseException):
    """Stands for the end of the process."""


@contextmanager
def ended_at(number: int) -> Iterator[list[str]]:
    def end() -> None:
        raise Killed

    events: list[str] = []
    with pytest.MonkeyPatch.context() as patched, killing.killed_at(number, events, end):
        patched.setattr(ledger, "SEGMENT_SECONDS", 0.0)
        yield events


@pytest.mark.slow
@pytest.mark.parametrize("ends", [3, pytest.param(12, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_reshard_that_ends_anywhere_is_completed_by_the_same_call(
    curated: FinishedRun, tmp_path: Path, seed: int | None, ends: int
) -> None:
    with ended_at(killing.NEVER) as events:
        whole = reshard(curated, tmp_path / "whole", shuffle_seed=seed, **SETTINGS)
    assert len(events) > 40
    for number in random.Random(0).sample(range(1, len(events) + 1), ends):
        output = tmp_path / f"{number}"
        with suppress(Killed), ended_at(number):
            reshard(curated, output, shuffle_seed=seed, **SETTINGS)
        if not (output / "_gneiss/statistics.json").exists():
            with pytest.raises(InputError, match="no finished run here"):
                open_run(output)
        reshard(curated, output, shuffle_seed=seed, **SETTINGS)
        assert runs.promised(output) == runs.promised(whole.folder), events[number - 1]


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.parametrize("kills", [2, pytest.param(6, marks=pytest.mark.exhaustive)])
def test_a_killed_run_with_shard_bytes_is_completed_by_the_same_call(
    input: Path, tmp_path: Path, warm: Any, kills: int
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe("{shard_bytes: 9000, shuffle_seed: 5}").to_yaml())
    input = input / "a.parquet"
    killing.run_here_until(killing.NEVER, path, input, tmp_path / "whole", tmp_path / "trace")
    events = (tmp_path / "trace").read_text().splitlines()
    first = next(number for number, event in enumerate(events, 1) if "/exchange/" in event)
    for number in [first // 2, *random.Random(1).sample(range(first, len(events) + 1), kills - 1)]:
        output = tmp_path / f"{number}"
        process = warm.Process(target=killing.run_here_until, args=(number, path, input, output))
        process.start()
        process.join()
        assert process.exitcode == -9, events[number - 1]
        killing.run_here_until(killing.NEVER, path, input, output)
        assert runs.promised(output) == runs.promised(tmp_path / "whole"), events[number - 1]


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_a_damaged_new_shard_is_written_again(curated: FinishedRun, tmp_path: Path, seed: int | None) -> None:
    new = reshard(curated, tmp_path / "new", shuffle_seed=seed, **SETTINGS)
    promised = runs.promised(new.folder)
    file = Path(new.data_file(new.shards[1]))
    file.write_bytes(file.read_bytes()[:-9])
    before = runs.touched(new.folder / "data")
    reshard(curated, tmp_path / "new", shuffle_seed=seed, **SETTINGS)
    assert runs.promised(new.folder) == promised
    written = {name for name, stamp in runs.touched(new.folder / "data").items() if stamp != before[name]}
    assert written == {file.name}


def shorter(file: Path) -> None:
    pq.write_table(pq.read_table(file).slice(1), file)


def another_text(file: Path) -> None:
    table = pq.read_table(file)
    texts = ["changed", *table["text"].to_pylist()[1:]]
    pq.write_table(table.set_column(1, "text", pa.array(texts)), file)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:500])


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("damage", "said"),
    [(shorter, r"expected \d+ documents"), (another_text, r"the text \(its hash\) of row"), (cut, "cannot read")],
)
def test_a_damaged_run_is_not_resharded(
    curated: FinishedRun,
    tmp_path: Path,
    copy_of: Callable[[Path], Path],
    seed: int | None,
    damage: Callable[[Path], None],
    said: str,
) -> None:
    run = open_run(copy_of(Path(curated.folder)))
    damage(Path(run.data_file(run.shards[3])))
    with pytest.raises((InputError, OutputError), match=said):
        reshard(run.folder, tmp_path / "new", shuffle_seed=seed, **SETTINGS)
    with pytest.raises(InputError, match="no finished run here"):
        open_run(tmp_path / "new")


def test_an_output_of_another_run_or_layout_is_refused(curated: FinishedRun, tmp_path: Path) -> None:
    reshard(curated, tmp_path / "new", **SETTINGS)
    with pytest.raises(OutputError, match=r"another run \(what differs: recipe\)"):
        reshard(curated, tmp_path / "new", shuffle_seed=1, **SETTINGS)
    with pytest.raises(OutputError, match="overlap"):
        reshard(curated, curated.folder / "data/new", **SETTINGS)
    with pytest.raises(RecipeError, match=r"format: Input should be 'parquet'"):
        reshard(curated, tmp_path / "other", format="csv", **SETTINGS)
    with pytest.raises(RecipeError, match="shuffle_seed: it orders the documents of new shards; give shard_bytes too"):
        recipe("{shuffle_seed: 1}")


@pytest.mark.slow
def test_what_comes_after_a_run_comes_after_a_reshard(curated: FinishedRun, tmp_path: Path) -> None:
    new = reshard(curated, tmp_path / "new", shuffle_seed=1, **SETTINGS)
    write_weights(new.folder)
    write_weights(curated.folder)
    columns = ("log_prior", "url", "gneiss_shard", "gneiss_row")
    found = {(d.values["gneiss_shard"], d.values["gneiss_row"]): d for d in documents(new.folder, columns=columns)}
    for document in documents(curated.folder, columns=("log_prior", "url")):
        moved = found.pop((document.shard, document.row))
        assert (moved.id, moved.text, moved.log_prior, moved.values["url"]) == (
            document.id, document.text, document.log_prior, document.values["url"],
        )  # fmt: skip
    assert not found
    again = reshard(new, tmp_path / "again", shard_bytes=30_000, backend=runs.InThisProcess())
    columns = ("gneiss_shard", "gneiss_row")
    origins = [[(row["gneiss_shard"], row["gneiss_row"]) for row in annotated(run)] for run in (new, again)]
    assert origins[0] == origins[1]  # of the run as it was curated


@pytest.mark.slow
def test_others_load_it(curated: FinishedRun, tmp_path: Path) -> None:
    import datasets

    new = reshard(curated, tmp_path / "new", shuffle_seed=1, **SETTINGS)
    settings: dict[str, Any] = {"cache_dir": str(tmp_path / "cache")}
    loaded = datasets.load_dataset(str(tmp_path / "new"), **settings)
    assert list(loaded) == ["train"]
    assert loaded["train"]["id"][:] == [row["id"] for row in kept(new)]
    noted = datasets.load_dataset(str(tmp_path / "new"), "annotations", split="train", **settings)
    assert noted["gneiss_row"][:] == [row["gneiss_row"] for row in annotated(new)]
    assert datasets.load_dataset(str(tmp_path / "new"), "quarantine", split="train", **settings).num_rows == 4
    card = (tmp_path / "new/README.md").read_text()
    assert f"- `data/` in new shards: {len(new.shards)} files of about 9,000 bytes, shuffled with seed 1;" in card


TYPES = {
    "dictionary": pa.array(["a", None, "b"] * 20).dictionary_encode(),
    "view": pa.array(["a", None, "b"] * 20, pa.string_view()),
    "list": pa.array([[b"x", None], None, []] * 20, pa.list_(pa.binary())),
    "struct": pa.array([{"a": 1, "b": [{"c": "d"}]}, None, {"a": None, "b": None}] * 20),
    "map": pa.array([[("k", 1)], None, []] * 20, pa.map_(pa.string(), pa.int64())),
    "moment": pa.array([datetime(2024, 1, 2), None, datetime(1970, 1, 1)] * 20, pa.timestamp("us", "Europe/Berlin")),
    "decimal": pa.array([Decimal("1.50"), None, Decimal("-2.00")] * 20),
    "fixed": pa.array([[1, 2], None, [3, 4]] * 20, pa.list_(pa.int16(), 2)),
    "null": pa.nulls(60),
    "uuid": pa.ExtensionArray.from_storage(
        pa.uuid(), pa.array([bytes(16), None, bytes(range(16))] * 20, pa.binary(16))
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_columns_keep_their_types_and_values(tmp_path: Path, seed: int | None) -> None:
    for name in ("a", "b"):
        runs.write_corpus(tmp_path / f"input/{name}.parquet", runs.documents(60, seed=2), **TYPES)
    done = gneiss.run(recipe(), tmp_path / "input", tmp_path / "out", backend=runs.InThisProcess())
    new = reshard(done, tmp_path / "new", shuffle_seed=seed, **SETTINGS)
    schemas = {shard.id: run.data_schema(shard) for run in (done, new) for shard in run.shards}
    assert all(schema.equals(schemas[done.shards[0].id]) for schema in schemas.values())
    expected, found = kept(done), kept(new)
    if seed is not None:
        expected, found = (sorted(map(repr, rows)) for rows in (expected, found))  # type: ignore[assignment]
    assert found == expected


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_columns_of_files_that_differ_are_brought_together(tmp_path: Path, seed: int | None) -> None:
    texts = runs.documents(60, seed=2)
    runs.write_corpus(tmp_path / "input/a.parquet", texts, score=pa.array(range(60), pa.int32()), only=["x"] * 60)
    runs.write_corpus(tmp_path / "input/b.parquet", texts, score=pa.array([i + 2**40 for i in range(60)], pa.int64()))
    done = gneiss.run(recipe(), tmp_path / "input", tmp_path / "out", backend=runs.InThisProcess())
    new = reshard(done, tmp_path / "new", shuffle_seed=seed, **SETTINGS)
    assert new.data_schema(new.shards[0]).field("score").type == pa.int64()
    expected = [{**row, "only": row.get("only")} for row in kept(done)]
    assert sorted(kept(new), key=lambda row: (row["id"], row["score"])) == sorted(
        expected, key=lambda row: (row["id"], row["score"])
    )


@pytest.mark.slow
def test_columns_that_do_not_fit_one_file_are_refused(tmp_path: Path) -> None:
    texts = runs.documents(60, seed=2)
    runs.write_corpus(tmp_path / "input/a.parquet", texts, score=[1] * 60)
    runs.write_corpus(tmp_path / "input/b.parquet", texts, score=["one"] * 60)
    done = gneiss.run(recipe(), tmp_path / "input", tmp_path / "out", backend=runs.InThisProcess())
    with pytest.raises(
        InputError, match=r"b\..*parquet: its columns and those of earlier files do not fit one file: .*score"
    ):
        reshard(done, tmp_path / "new", **SETTINGS)
    with pytest.raises(InputError, match=r"b\.parquet: its columns and those of earlier files do not fit one file"):
        gneiss.run(recipe("{shard_bytes: 9000}"), tmp_path / "input", tmp_path / "one", backend=runs.InThisProcess())
    assert not (tmp_path / "one/_gneiss/curated").exists()


def test_a_run_that_kept_nothing(tmp_path: Path) -> None:
    runs.write_corpus(tmp_path / "input/a.parquet", runs.documents(30, seed=2))
    none = recipe().changed({"phases.only.rules.readable": "eflaw < -1000"})
    done = gneiss.run(none, tmp_path / "input", tmp_path / "out", backend=runs.InThisProcess())
    for seed in SEEDS:
        new = reshard(done, tmp_path / f"new-{seed}", shuffle_seed=seed, **SETTINGS)
        assert [(shard.id, shard.kept, shard.rows) for shard in new.shards] == [("train-00000-of-00001", 0, 30)]


@pytest.mark.usefixtures("here")
def test_the_command(curated: FinishedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["reshard", curated.folder, "--output", tmp_path / "new", "--shard-bytes", "9kB", "--shuffle-seed", "1"]
    assert runs.command(*options, "--format", "jsonl") == 0
    new = open_run(tmp_path / "new")
    assert f"{new.documents} documents in {len(new.shards)} files: {tmp_path}/new/data" in capsys.readouterr().out
    for size in ("9 potatoes", "0", "-1", "1e3"):
        assert runs.command("reshard", curated.folder, "-o", tmp_path / "other", "--shard-bytes", size) == 1
        assert f"--shard-bytes {size}: expected a size such as 500MB or 2GB" in capsys.readouterr().err


def test_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no finished run here"):
        reshard(tmp_path, tmp_path / "new", **SETTINGS)


@given(first=st.integers(0, 1 << 40), rows=st.integers(0, 50), seed=st.integers(0, (1 << 63) - 1))
def test_no_two_rows_have_one_key(first: int, rows: int, seed: int) -> None:
    keys = row_keys(seed, first, rows)
    assert len(set(keys.tolist())) == rows
    ranges = new_shards.range_of(np.sort(keys), 7)
    assert np.all(np.diff(ranges) >= 0)
    assert all(0 <= range_ < 7 for range_ in ranges)
