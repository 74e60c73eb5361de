"""Substring dedup of new shards of a finished run: what the definition cuts, where the shards before come first."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from gneiss.errors import OutputError
from gneiss.output import ledger
from gneiss.output.finished_run import FinishedRun, open_run
from gneiss.output.run_status import FINISHED, run_status
from gneiss.output.verification import verify
from gneiss.pipelines.increments import INCREMENT
from gneiss.pipelines.run import run
from gneiss.recipe.recipe import Recipe
from gneiss.store.place import place_of
from tests import runs
from tests.corpus_steps.test_against import decided
from tests.corpus_steps.test_substring_against import BYTES, TOKENS, cuts_of, found, recipe, write_inputs

pytestmark = pytest.mark.slow

#: What each part of all documents is called in the input that grows: not in the order in which they come.
NAMES = {"a": "m", "b": "a", "own": "z"}


def add(part: str, folder: Path) -> None:
    """Put the files of a part into the input that grows, and after the others into the one that has them in order."""
    number = list(NAMES).index(part)
    for name in (f"input/{NAMES[part]}", f"in order/{number}"):
        shutil.copytree(folder / f"all/{part}", folder / name)


def by_reference(parameters: dict[str, Any], first_by: str | None) -> Recipe:
    """The definition itself, on all documents as one group, where those of an earlier part come first."""
    in_all = {"first_by": f"part * 1000 + {first_by}"} if first_by else {}
    return recipe(**parameters, scope="group", group_by="", engine="suffix-array", **in_all)


def orphaned_bytes(output: Path) -> dict[bool, int]:
    """What was cut from kept documents although its source was not kept, by whether that is of another part."""
    kept: dict[str, list[bool]] = {}
    cuts: list[tuple[str, Any]] = []
    for path in (output / "annotations/base").rglob("*.parquet"):
        shard = path.relative_to(output / "annotations/base").with_suffix("").as_posix()
        table = pq.read_table(path)
        kept[shard] = [status == "kept" for status in table["status"].to_pylist()]
        listed = zip(table["dedup_cuts"].to_pylist(), kept[shard], strict=True)
        cuts += [(shard, cut) for of_row, is_kept in listed if is_kept for cut in of_row]
    lost = {False: 0, True: 0}
    for shard, cut in cuts:
        source = cut["source_shard"] or shard
        if not kept[source][cut["source_row"]]:
            lost[source[0] != shard[0]] += cut["end"] - cut["start"]
    return lost


def grow(
    folder: Path,
    own: Recipe,
    reference: Recipe,
    parts: Sequence[str] = tuple(NAMES),
    *,
    compare_sources: bool = True,
    keep_index: bool = True,
) -> FinishedRun:
    """An output that gets a part after the other, each compared with the reference on all parts so far."""
    output = folder / "grown"
    before: dict[str, tuple[int, int]] = {}
    for number, part in enumerate(parts):
        add(part, folder)
        found(own, folder / "input", output, number + 1, keep_index=keep_index and not number)
        found(reference, folder / "in order", folder / f"whole {number}")
        names = {f"{at}/{file}": f"{name}/{file}" for at, name in enumerate(NAMES.values()) for file in (0, 1)}
        for file in (0, 1):
            mine = pq.read_table(output / f"annotations/base/{NAMES[part]}/{file}.parquet")
            theirs = pq.read_table(folder / f"whole {number}/annotations/base/{number}/{file}.parquet")
            assert mine.drop("dedup_cuts").equals(theirs.drop("dedup_cuts"))
            assert cuts_of(mine) == cuts_of(theirs)
            listed = theirs["dedup_cuts"].to_pylist()
            for cut in (cut for of_row in listed for cut in of_row or []):
                cut["source_shard"] = names.get(cut["source_shard"])
            assert mine["dedup_cuts"].to_pylist() == listed or not compare_sources
        now = decided(output)
        assert before.items() <= now.items()
        before = now
    done = run(own, folder / "input", output, backend=runs.InThisProcess())
    assert done.finished_before == 2 * len(parts)
    assert done.counts["orphaned_bytes"] == sum(orphaned_bytes(output).values())
    came = {id_: receipt.counts["increment"] for id_, receipt in ledger.read(place_of(output), INCREMENT).items()}
    assert came == {f"{NAMES[part]}/{file}": number for number, part in enumerate(parts) if number for file in (0, 1)}
    assert verify(output).problems == ()
    assert run_status(output).state == FINISHED
    return done


@pytest.mark.parametrize(
    ("seed", "parameters", "first_by"),
    [
        (0, BYTES, None),
        pytest.param(1, {**TOKENS, "fill_gaps": 0.7}, "text_chars", marks=pytest.mark.exhaustive),
        *(
            pytest.param(
                seed,
                {
                    **(BYTES, TOKENS)[seed % 2],
                    "policy": ("protect", "union", "all")[seed % 3],
                    "boundary": ("char", "word")[seed % 5 > 2],
                    "fill_gaps": (1.0, 0.8)[seed % 7 > 4],
                },
                (None, "text_chars")[seed % 4 > 1],
                marks=pytest.mark.exhaustive,
            )
            for seed in range(2, 26)
        ),
    ],
)
def test_new_shards_are_cut_as_the_definition_says(
    tmp_path: Path, seed: int, parameters: dict[str, Any], first_by: str | None
) -> None:
    """Of several earlier copies, a measure does not say which one a cut names: any of them is the passage."""
    write_inputs(tmp_path, seed)
    measure = {"first_by": first_by} if first_by else {}
    both = recipe(**parameters, **measure), by_reference(parameters, first_by)
    own, reference = (one.changed({"phases.cut.rules.odd": "text_chars % 3 > 0"}) for one in both)
    done = grow(tmp_path, own, reference, compare_sources=not first_by)
    assert done.counts["dedup_bytes"] > 100
    assert seed or orphaned_bytes(tmp_path / "grown")[True] > 0


def test_new_groups_need_no_index(tmp_path: Path) -> None:
    write_inputs(tmp_path, 2)
    own = recipe(**BYTES, scope="group", group_by="^[a-z]+")
    whole = recipe(**BYTES, scope="group", group_by="^[0-9]+", engine="suffix-array")
    grow(tmp_path, own, whole, ("a", "b"), keep_index=False)
    shutil.copy(tmp_path / "input/a/0.parquet", tmp_path / "input/a/2.parquet")
    with pytest.raises(OutputError, match="first 'a/2', and dedup cannot decide them after the others"):
        found(own, tmp_path / "input", tmp_path / "grown")


def test_an_increment_may_have_no_shard_that_can_be_read(tmp_path: Path) -> None:
    write_inputs(tmp_path, 9)
    own = recipe(**BYTES).changed({"budgets.shards": 1})
    output, source = tmp_path / "grown", tmp_path / "input"
    add("a", tmp_path)
    first = found(own, source, output, keep_index=True)
    content = bytearray((tmp_path / "all/b/0.parquet").read_bytes())
    content[4:100] = b"\0" * 96
    (source / "broken.parquet").write_bytes(content)
    assert found(own, source, output).equals(first)
    add("own", tmp_path)
    table = found(own, source, output)
    assert len(table) > len(first)
    assert table.slice(0, len(first)).equals(first)
    assert list(open_run(output).quarantined_shards) == ["broken"]
    assert verify(output).problems == ()
