"""New shards of a finished run: decided as one run over all decides them, those that were there before first."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from gneiss.errors import OutputError, RecipeError
from gneiss.output import ledger
from gneiss.output.verification import verify
from gneiss.pipelines.increments import INCREMENT
from gneiss.pipelines.run import run
from gneiss.recipe.recipe import Recipe
from gneiss.stages.exchange import Exchange
from gneiss.store.place import place_of
from tests import runs
from tests.corpus_steps.test_against import NEAR, SAME, decided, found, of_every_kind, recipe, write_inputs

pytestmark = pytest.mark.slow

VERIFIED = {**NEAR, "verify": 0.5}
COMPLETE = {**NEAR, "verify": {"at_least": 0.5, "similarity": "containment", "clusters": "complete"}}
OF_VERIFIED = ["near_similarity", "near_candidates", "near_rejected"]


def add(name: str, folder: Path) -> Path:
    """Put the files of a part of all documents into an input."""
    for path in sorted((folder / f"all/{name}").iterdir()):
        (folder / "input" / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / "input" / name / path.name)
    return folder / "input"


@pytest.mark.parametrize(
    ("seed", "keep", "near"),
    [
        pytest.param(1, None, NEAR, marks=pytest.mark.exhaustive),
        (2, "text_chars", VERIFIED),
        *(
            pytest.param(seed, (None, "text_chars")[seed % 2], near, marks=pytest.mark.exhaustive)
            for seed in range(3, 12)
            for near in (NEAR, VERIFIED, COMPLETE)
        ),
    ],
)
def test_new_shards_are_decided_after_the_others(tmp_path: Path, seed: int, keep: str | None, near: Any) -> None:
    write_inputs(tmp_path, seed)
    output = tmp_path / "grown"
    at_once = recipe(keep and f"part * 1000 + {keep}", near)
    same = [*SAME, "near_cluster", *(OF_VERIFIED if "verify" in near else [])]
    before: dict[str, tuple[int, int]] = {}
    start = 0
    for number, name in enumerate(("a", "b", "own")):
        table = found(recipe(keep, near), add(name, tmp_path), output, number + 1, keep_index=not number)
        whole = found(at_once, tmp_path / "input", tmp_path / f"with {name}")
        assert table.slice(start).select(same).to_pylist() == whole.slice(start).select(same).to_pylist()
        now = decided(output)
        assert before.items() <= now.items()
        before, start = now, len(table)
    came = {id_: receipt.counts["increment"] for id_, receipt in ledger.read(place_of(output), INCREMENT).items()}
    assert came == {"b/0": 1, "b/1": 1, "own/0": 2, "own/1": 2}
    assert sorted(folder.name for folder in (output / "_gneiss/index").iterdir()) == ["000", "001", "002"]
    again = run(recipe(keep, near), tmp_path / "input", output, backend=runs.InThisProcess())
    assert again.finished_before == 6
    assert again.statistics.counts["rows"] == len(whole)


def by_folder(near: Any) -> Recipe:
    """Documents are compared within a folder of the input."""
    return recipe(near=near, scope="group", group_by="^[a-z]+")


@pytest.mark.parametrize("near", [pytest.param(NEAR, marks=pytest.mark.exhaustive), VERIFIED])
def test_new_groups_need_no_index(tmp_path: Path, near: Any) -> None:
    """A later shard of such a group does; the index is made, of all increments, when it is asked for."""
    write_inputs(tmp_path, 3)
    output, own = tmp_path / "grown", by_folder(near)
    found(own, add("a", tmp_path), output)
    before = decided(output)
    table = found(own, add("b", tmp_path), output)
    assert table.equals(found(own, tmp_path / "input", tmp_path / "both"))
    assert before.items() <= decided(output).items()
    assert not (output / "_gneiss/index").exists()
    assert run(own, tmp_path / "input", output, backend=runs.InThisProcess()).finished_before == 4
    before = decided(output)
    shutil.copy(tmp_path / "input/a/0.parquet", tmp_path / "input/b/2.parquet")
    with pytest.raises(OutputError, match="first 'b/2', and there is no index of exact_duplicates"):
        found(own, tmp_path / "input", output)
    (tmp_path / "input/b/2.parquet").unlink()
    found(own, tmp_path / "input", output, keep_index=True)
    shutil.copy(tmp_path / "input/a/0.parquet", tmp_path / "input/b/2.parquet")
    grown, whole = (found(own, tmp_path / "input", place) for place in (output, tmp_path / "all three"))
    assert grown.slice(len(table)).equals(whole.slice(len(table)))
    assert before.items() <= decided(output).items()
    assert sorted(folder.name for folder in (output / "_gneiss/index").iterdir()) == ["000", "001", "002"]


def test_new_files_need_no_index(tmp_path: Path) -> None:
    """Where documents are compared within a file, none is kept."""
    write_inputs(tmp_path, 4)
    output = tmp_path / "grown"
    own = recipe(near=VERIFIED, scope="file").changed({"shard_max_bytes": 100})
    found(own, add("a", tmp_path), output)
    table = found(own, add("b", tmp_path), output)
    assert len([*(output / "annotations/base/b").iterdir()]) > 2
    assert table.equals(found(own, tmp_path / "input", tmp_path / "both"))
    with pytest.raises(RecipeError, match="keep_index: exact_duplicates, near_duplicates keeps no index"):
        found(own, tmp_path / "input", output, keep_index=True)


def test_a_file_of_several_shards_comes_after_files_of_one(tmp_path: Path) -> None:
    """Documents of the first run were compared within shards; then those of files are, and orphans counted."""
    steps = {"dedup": {"scope": "file", "min_length": 12}, "exact_duplicates": {"scope": "file"}}
    phase = {"name": "cut", **steps, "rules": {"fresh": "dedup_fraction < 0.6", "long": "text_bytes > 20"}}
    own = Recipe.model_validate({"name": "files", "shard_max_bytes": 300, "phases": [phase]})
    draw = random.Random(7)
    phrases = ["".join(draw.choices("abcdefgh ", k=24)) for _ in range(6)]
    output = tmp_path / "grown"
    for name, documents in (("a", 5), ("b", 40), ("c", 4), ("d", 30)):
        texts = ["".join(draw.choices(phrases, k=draw.randint(1, 3))) for _ in range(documents)]
        runs.write_corpus(tmp_path / f"input/{name}.parquet", texts)
        before = decided(output) if output.exists() else {}
        grown = run(own, tmp_path / "input", output, backend=runs.InThisProcess())
        whole = run(own, tmp_path / "input", tmp_path / f"with {name}", backend=runs.InThisProcess())
        assert runs.annotations(output).equals(runs.annotations(tmp_path / f"with {name}"))
        assert grown.statistics.counts == whole.statistics.counts
        assert before.items() <= decided(output).items()
    assert grown.statistics.counts["orphaned_bytes"] > 0
    came = {id_: receipt.counts["increment"] for id_, receipt in ledger.read(place_of(output), INCREMENT).items()}
    assert {id_[0]: number for id_, number in came.items()} == {"b": 1, "c": 2, "d": 3}
    assert len(came) > 10


@pytest.mark.parametrize("writes", [0, 4, pytest.param(9, marks=pytest.mark.exhaustive)])
def test_an_increment_is_resumed(tmp_path: Path, writes: int) -> None:
    write_inputs(tmp_path, 5)
    for name in ("grown", "whole way"):
        shutil.rmtree(tmp_path / "input", ignore_errors=True)
        output = tmp_path / name
        found(recipe(near=VERIFIED), add("a", tmp_path), output, keep_index=True)
        add("own", tmp_path)
        if name == "grown":
            stopped = mock.patch.object(Exchange, "_write", failing(Exchange._write, writes))
            with stopped, pytest.raises(KeyboardInterrupt):
                found(recipe(near=VERIFIED), tmp_path / "input", output)
        found(recipe(near=VERIFIED), tmp_path / "input", output)
    assert runs.promised(tmp_path / "grown") == runs.promised(tmp_path / "whole way")


def failing(write: Any, writes: int) -> Any:
    """A method that writes so many files, and then no more."""
    left = [writes]

    def wrapped(self: Exchange, *arguments: Any) -> Any:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return write(self, *arguments)

    return wrapped


def test_what_cannot_be_decided_after_the_others_is_refused(tmp_path: Path) -> None:
    write_inputs(tmp_path, 6)
    found(recipe(), add("a", tmp_path), tmp_path / "out")
    add("b", tmp_path)
    with pytest.raises(OutputError, match="first 'b/0', and there is no index of exact_duplicates"):
        found(recipe(), tmp_path / "input", tmp_path / "out")
    shutil.rmtree(tmp_path / "input/b")
    found(recipe(), tmp_path / "input", tmp_path / "out", keep_index=True)
    add("b", tmp_path)
    (tmp_path / "input/a/0.parquet").unlink()
    with pytest.raises(OutputError, match="what differs: the input files"):
        found(recipe(), tmp_path / "input", tmp_path / "out")


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_a_damaged_index_is_refused_by_name(every: int, tmp_path: Path) -> None:
    """Every kind of file that an index has: by what is run against it, by new shards, and by `verify`."""
    write_inputs(tmp_path, 8)
    output, source = tmp_path / "out", add("a", tmp_path)
    found(of_every_kind(), source, output, keep_index=True)
    add("b", tmp_path)
    kinds = {path.parent.name: path for path in sorted((output / "_gneiss/index").rglob("*.arrows"))}
    assert len(kinds) == 7
    for kind, path in list(kinds.items())[::every]:
        content = path.read_bytes()
        path.write_bytes(content[:99] + bytes([content[99] ^ 1]) + content[100:])
        with pytest.raises(
            OutputError, match=f"{kind}/.*: expected .* with the checksum .*; the index is damaged: delete"
        ):
            found(of_every_kind(), source, output)
        assert [problem.path for problem in verify(output).problems] == [path.relative_to(output).as_posix()]
        path.write_bytes(content)
    path.unlink()
    for given, to in ((of_every_kind(), output), (of_every_kind(against=[str(output)]), tmp_path / "against")):
        with pytest.raises(OutputError, match=f"{kind}/.*: expected .*, found no file; the index is damaged"):
            found(given, source, to)
    shutil.rmtree(output / "_gneiss/index/000")  # as the message says
    found(of_every_kind(), source, output)
    assert verify(output).problems == ()
    for path, content in zip(
        sorted((output / "_gneiss/index").rglob("*.json")), ("{", "[]", '{"files": 3}'), strict=False
    ):
        path.write_text(content)
    assert [problem.what[:14] for problem in verify(output).problems] == ["cannot be read"] * 3
    (source / "b/0.parquet").unlink()
    with pytest.raises(OutputError, match="the input lacks the shard 'b/0', which came with increment 1; give it"):
        found(of_every_kind(), source, output)
    shutil.copy(tmp_path / "all/b/1.parquet", source / "b/0.parquet")
    with pytest.raises(OutputError, match="the input has another shard 'b/0', which came with increment 1; give it"):
        found(of_every_kind(), source, output)
