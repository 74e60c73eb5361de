"""What an address names: folders as people and other programs lay them out, links, pipes, and names that lead away."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from gneiss.errors import InputError, OutputError
from gneiss.input.files import can_name
from gneiss.input.shard import cut_shards
from gneiss.pipelines.run import run
from gneiss.store import place as places
from gneiss.store.place import STORES, place_of
from tests import runs
from tests.store.memory import MemoryStore
from tests.support import write_documents


def ids(source: str | os.PathLike[str]) -> list[str]:
    return [shard.id for shard in cut_shards(source, text="text").shards]


def test_folders_named_as_files_are_datasets(tmp_path: Path) -> None:
    """As Spark, Dask and pandas write them."""
    for name in ("en.parquet/part-0.snappy", "en.parquet/deep/part-1", "de.pq/part-0", "plain/x", "en.parquet/_tmp/y"):
        write_documents(tmp_path / f"{name}.parquet", ["x"])
    (tmp_path / "en.parquet/_SUCCESS").touch()
    spark = ["de.pq/part-0", "en.parquet/deep/part-1", "en.parquet/part-0.snappy"]
    assert ids(tmp_path) == [*spark, "plain/x"]
    assert ids(f"{tmp_path}/*") == spark, "what is matched by name, and no folder of another name"
    assert ids(f"{tmp_path}/en*") == ["en.parquet/deep/part-1", "en.parquet/part-0.snappy"]
    assert ids(f"{tmp_path}/*/*.parquet") == ["de.pq/part-0", "en.parquet/part-0.snappy", "plain/x"]
    assert ids(tmp_path / "en.parquet") == ["deep/part-1", "part-0.snappy"]


def test_hive_folders_keep_their_names(tmp_path: Path) -> None:
    for name in ("lang=en/dump=a%2Fb/x", "lang=__HIVE_DEFAULT_PARTITION__/x", "_day=1/x", "_day/x", ".day=1/x"):
        write_documents(tmp_path / f"{name}.parquet", ["x"])
    assert ids(tmp_path) == ["_day=1/x", "lang=__HIVE_DEFAULT_PARTITION__/x", "lang=en/dump=a%2Fb/x"]


def test_links_are_followed_and_no_document_is_read_twice(tmp_path: Path) -> None:
    write_documents(tmp_path / "in/b.parquet", ["x"])
    write_documents(tmp_path / "elsewhere/a.parquet", ["x"])
    (tmp_path / "in/sub").symlink_to("../elsewhere")
    (tmp_path / "in/circle").symlink_to(".")
    (tmp_path / "elsewhere/up").symlink_to(tmp_path)
    (tmp_path / "in/c.parquet").symlink_to("../elsewhere/a.parquet")
    assert ids(tmp_path / "in") == ids(f"{tmp_path}/in/**/*.parquet") == ["b", "c", "sub/a"]


@pytest.mark.parametrize("name", ["pipe.parquet", "deep/pipe.pq"])
def test_a_pipe_among_files_is_set_aside(tmp_path: Path, name: str) -> None:
    write_documents(tmp_path / "a.parquet", ["x"])
    (tmp_path / name).parent.mkdir(exist_ok=True)
    os.mkfifo(tmp_path / name)
    found = cut_shards(tmp_path, text="text")
    assert [shard.id for shard in found.shards] == ["a"]
    assert [file.reason for file in found.unreadable] == [
        f"{tmp_path / name}: expected a file, found a folder, a pipe or a device"
    ]
    with pytest.raises(InputError, match="no such file"):
        cut_shards(tmp_path / name, text="text")


def test_a_name_that_leads_away_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_documents(tmp_path / "in/deep/a.parquet", ["x"])
    write_documents(tmp_path / "other/a.parquet", ["x"])
    with pytest.raises(InputError, match=r"`\.\.` after a wildcard; write the folder that is meant"):
        cut_shards(f"{tmp_path}/in/*/../../other/*.parquet", text="text")
    assert ids(f"{tmp_path}/in/../other/*.parquet") == ["a"]
    monkeypatch.setattr(places, "STORES", (*STORES, MemoryStore()))
    for name in ("../a.parquet", "b/../../a.parquet", "./a.parquet", "b//a.parquet"):
        with place_of(f"memory://x/in/{name}").create() as file:
            file.write((tmp_path / "other/a.parquet").read_bytes())
        with pytest.raises(InputError, match="a name that leads elsewhere when it is a path; rename it"):
            cut_shards("memory://x/in", text="text")
        place_of("memory://x").delete()


@pytest.mark.parametrize(
    ("name", "is_taken"),
    [("x" * 247, True), ("x" * 248, False), ("ä" * 123, True), ("ä" * 124, False), (f"{'y' * 250}/a", True)],
)
def test_a_name_that_its_outputs_cannot_have_is_set_aside(tmp_path: Path, name: str, is_taken: bool) -> None:
    write_documents(tmp_path / "in/ok.parquet", ["two"])
    write_documents(tmp_path / f"in/{name}.pq", ["one"])
    recipe = tmp_path / "simple.yaml"
    recipe.write_text(runs.WITHOUT_MODEL)
    done = run(recipe, tmp_path / "in", tmp_path / "out", backend=runs.InThisProcess())
    assert sorted(shard.id for shard in done.shards) == sorted(["ok", *([name] if is_taken else [])])
    assert [reason[:40] for reason in done.quarantined_shards.values()] == (
        [] if is_taken else ["its outputs would have a name of 256 byt"]
    )


def test_parts_of_a_file_have_longer_names(tmp_path: Path) -> None:
    write_documents(tmp_path / f"{'x' * 240}.parquet", ["long text"] * 30)
    write_documents(tmp_path / "ok.parquet", ["x"])
    found = cut_shards(tmp_path, text="text", shard_max_bytes=20)
    assert [shard.id for shard in found.shards] == ["ok"]
    assert "file systems take 255" in found.unreadable[0].reason


def test_outputs_of_one_file_in_the_place_of_another_ones_folder_are_refused(tmp_path: Path) -> None:
    write_documents(tmp_path / "a.pq", ["x"])
    write_documents(tmp_path / "a.parquet/b.parquet", ["x"])
    with pytest.raises(InputError, match=r"outputs of shard 'a' would lie where 'a\.parquet/b' needs a folder"):
        cut_shards(tmp_path, text="text")


@pytest.mark.parametrize(
    ("source", "output", "is_refused"),
    [
        ("in/**/*.parquet", "in/out", True),
        ("in/*/*/*.parquet", "in/out", True),
        ("in/*/*.parquet", "in", True),
        ("in/*/*.parquet", "in/out", False),
        ("in/*.parquet", "in/out", False),
        ("in/a*/**", "in/out", False),
        ("in/[no]ut/**", "in/out", True),
        ("in", "in/out", True),
        ("in", "out", False),
        ("in/**/*.parquet", "in/.out", False),
    ],
)
@pytest.mark.slow
def test_an_output_that_a_second_run_would_read_is_refused_at_once(
    tmp_path: Path, source: str, output: str, is_refused: bool
) -> None:
    for name in ("x", "a/x", "a/b/x"):
        write_documents(tmp_path / f"in/{name}.parquet", [f"text {name}"])
    recipe = tmp_path / "simple.yaml"
    recipe.write_text(runs.WITHOUT_MODEL)
    for _ in range(2):
        if is_refused:
            with pytest.raises(OutputError, match="overlap"):
                run(recipe, str(tmp_path / source), tmp_path / output, backend=runs.InThisProcess())
        elif "in/" in output:
            run(recipe, str(tmp_path / source), tmp_path / output, backend=runs.InThisProcess())
    assert can_name(str(tmp_path / source), place_of(tmp_path / output / "data")) == is_refused


def test_what_was_accepted_is_resumed(tmp_path: Path) -> None:
    """Folders in an output that are named as files are no shards."""
    for name in ("en.parquet/part-0", "de.parquet/part-0"):
        write_documents(tmp_path / f"in/{name}.parquet", ["x"])
    recipe = tmp_path / "simple.yaml"
    recipe.write_text(runs.WITHOUT_MODEL)
    for source in ("in/*", "in/*/*.parquet", "in"):
        run(recipe, str(tmp_path / source), tmp_path / "out", backend=runs.InThisProcess())
    assert pq.read_table(tmp_path / "out/data").num_rows == 2
