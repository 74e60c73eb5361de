"""Duplicates of documents of other outputs: what one run over all of them decides, those of the others first."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pytest

from gneiss.corpus_steps import duplicates, verified_stages
from gneiss.corpus_steps.step import REDUCER_MEMORY_BYTES
from gneiss.dedup.minhash.keys import PlacedKeys
from gneiss.errors import InputError, OutputError, RecipeError
from gneiss.pipelines.run import run
from gneiss.recipe.recipe import Recipe
from gneiss.stages.corpus import Corpus
from tests import runs

#: How much earlier the documents of a folder are, where a measure decides which comes first.
PART = {"a": 2, "b": 1, "own": 0}
#: What a run over all documents says of each one; which document is first is compared apart.
SAME = ["status", "failed", "exact_copies", "exact_first", "near_cluster_size", "near_first"]
NEAR = {"bands": 10, "rows": 2, "shingle_words": 2}


def recipe(keep: str | None = None, near: Any = NEAR, **parameters: Any) -> Recipe:
    """A phase that drops short texts, and one that finds duplicates of both kinds."""
    measures = {"keep": keep} if keep else {}
    phases = [
        {
            "name": "long",
            "annotate": [{"input_column": {"name": "part", "type": "int64"}}],
            "rules": {"long": "text_bytes > 5"},
        },
        {
            "name": "unique",
            "exact_duplicates": {**measures, **parameters},
            "near_duplicates": {**near, **measures, **parameters},
            "rules": {"first": "exact_first AND near_first"},
        },
    ]
    return Recipe.model_validate({"name": "against", "budgets": {"documents": 1}, "phases": phases})


def of_every_kind(**parameters: Any) -> Recipe:
    """The same with all that leaves an index: verified near-duplicates with a measure, and passages."""
    given = recipe("text_chars", {**NEAR, "verify": 0.5}, **parameters).canonical()
    given["phases"][1]["dedup"] = {"scope": "corpus", "min_length": 12, **parameters}
    return Recipe.model_validate(given)


def write_inputs(folder: Path, seed: int) -> None:
    """Two other corpora and one to be compared with them, of two files each: variants of few texts, copies, others.

    In each file of the second and the third is what is in the first with other case, and with another last word.
    """
    draw = random.Random(seed)
    base = [" ".join(random.Random(n).choices("abcdefgh", k=12)) for n in range(8)]
    written: list[str] = []
    for name, part in PART.items():
        of_first = written[:2]
        for file in range(2):
            texts: list[bytes | None] = [b"", None, b"a b", b"\xff"]
            texts += [variant.encode() for text in of_first for variant in (text.upper(), f"{text[:-1]}z")]
            for _ in range(draw.randint(2, 12)):
                words = draw.choice(base).split()
                for _ in range(draw.randint(0, 4)):
                    words[draw.randrange(len(words))] = draw.choice("abcdefgh")
                written.append(" ".join(words))
                texts.append(draw.choice(written[-8:]).encode())
            draw.shuffle(texts)
            runs.write_corpus(folder / f"all/{name}/{file}.parquet", texts, part=[part] * len(texts))


def found(recipe: Recipe, source: Path, output: Path, partitions: int | None = None, **options: Any) -> pa.Table:
    with mock.patch("gneiss.pipelines.run.Corpus", partial(Corpus, partitions=partitions)):
        run(recipe, source, output, backend=runs.InThisProcess(), **options)
    return runs.annotations(output)


@pytest.mark.parametrize(
    ("seed", "keep", "verify"),
    [
        pytest.param(1, "text_chars", 0.5, marks=pytest.mark.slow),
        pytest.param(2, None, {"at_least": 0.6, "clusters": "complete"}, marks=pytest.mark.slow),
        *(
            pytest.param(seed, (None, "text_chars")[seed % 2], {"at_least": 0.5, "clusters": clusters},
                         marks=pytest.mark.exhaustive)
            for seed in range(3, 6) for clusters in ("star", "complete")
        ),
    ],
)  # fmt: skip
def test_verified_pairs_decide_as_one_run_over_all(tmp_path: Path, seed: int, keep: str | None, verify: Any) -> None:
    """Against one output, whose clusters are those that they would be."""
    write_inputs(tmp_path, seed)
    shutil.rmtree(tmp_path / "all/b")
    near = {**NEAR, "verify": verify}
    found(recipe(keep, near), tmp_path / "all/a", tmp_path / "a", 3, keep_index=True)
    own = found(recipe(keep, near, against=[str(tmp_path / "a")]), tmp_path / "all/own", tmp_path / "own", 2)
    whole = found(recipe(keep and f"part * 1000 + {keep}", near), tmp_path / "all", tmp_path / "whole")
    whole = whole.slice(len(whole) - len(own))
    same = [*SAME, "near_similarity", "near_candidates", "near_rejected"]
    assert own.select(same).to_pylist() == whole.select(same).to_pylist()
    assert any(own["near_rejected"].to_pylist())
    is_there = [cluster is not None and cluster.startswith("a/") for cluster in whole["near_cluster"].to_pylist()]
    assert [against == 0 for against in own["near_against"].to_pylist()] == is_there
    assert any(is_there)


@pytest.mark.parametrize(
    ("seed", "keep", "scope"),
    [
        (0, None, {}),
        pytest.param(1, "text_chars", {}, marks=pytest.mark.slow),
        pytest.param(2, None, {"scope": "group", "group_by": "[01]$"}, marks=pytest.mark.slow),
        *(
            pytest.param(seed, (None, "text_chars")[seed % 2], {}, marks=pytest.mark.exhaustive)
            for seed in range(3, 11)
        ),
    ],
)
def test_it_decides_as_one_run_over_all(tmp_path: Path, seed: int, keep: str | None, scope: Any) -> None:
    write_inputs(tmp_path, seed)
    for name, partitions in (("a", 1), ("b", 3)):
        found(recipe(keep, **scope), tmp_path / f"all/{name}", tmp_path / name, partitions, keep_index=True)
    both = [str(tmp_path / "a"), str(tmp_path / "b")]
    own = found(recipe(keep, **scope, against=both), tmp_path / "all/own", tmp_path / "own", 2)
    whole = found(recipe(keep and f"part * 1000 + {keep}", **scope), tmp_path / "all", tmp_path / "whole")
    whole = whole.slice(len(whole) - len(own))
    assert own.select(SAME).to_pylist() == whole.select(SAME).to_pylist()
    mine = own.select(["near_cluster", "near_against", "exact_first", "exact_against"]).to_pylist()
    for row, cluster in zip(mine, whole["near_cluster"].to_pylist(), strict=True):
        folder = (cluster or "own").partition("/")[0]
        assert row["near_against"] == {"a": 0, "b": 1, "own": None}[folder]
        assert row["near_cluster"] == (cluster.removeprefix("own/") if cluster and folder == "own" else None)
        assert row["exact_against"] is None or row["exact_first"] is False
    assert not (tmp_path / "own/_gneiss/index").exists()


@pytest.mark.slow
def test_documents_of_an_index_count_among_those_that_passes_hold(tmp_path: Path) -> None:
    """Of both together there are more keys than a pass holds, of either there are not."""
    write_inputs(tmp_path, 1)
    near = {**NEAR, "verify": 0.5}
    found(recipe(None, near), tmp_path / "all/a", tmp_path / "a", keep_index=True)
    held: list[int] = []
    joined = PlacedKeys.joined

    def counted(parts: Sequence[PlacedKeys]) -> PlacedKeys:
        whole = joined(parts)
        held.append(len(whole.row))
        return whole

    tables = []
    for memory_bytes in (REDUCER_MEMORY_BYTES, 8000):
        with (
            mock.patch.object(verified_stages, "REDUCER_MEMORY_BYTES", memory_bytes),
            mock.patch.object(duplicates, "REDUCER_MEMORY_BYTES", memory_bytes),
            mock.patch.object(PlacedKeys, "joined", counted),
        ):
            against = recipe(None, near, against=[str(tmp_path / "a")])
            tables.append(found(against, tmp_path / "all/own", tmp_path / str(memory_bytes), 1))
    assert tables[0] == tables[1]
    assert sum(held[1:]) == held[0] > 2 * max(held[1:])


def decided(output: Path) -> dict[str, tuple[int, int]]:
    """See `touched`: of the files of shards."""
    return {name: file for name, file in runs.touched(output).items() if name.startswith(("data/", "annotations/"))}


def test_an_index_is_the_same_whatever_the_partitions_and_made_later_too(tmp_path: Path) -> None:
    write_inputs(tmp_path, 5)
    found(recipe("text_chars"), tmp_path / "all/a", tmp_path / "at once", 3, keep_index=True)
    found(recipe("text_chars"), tmp_path / "all/a", tmp_path / "later", 1)
    touched = decided(tmp_path / "later")
    with pytest.raises(InputError, match="it has no index of exact_duplicates; make one by its run, with keep_index"):
        found(recipe(against=[str(tmp_path / "later")]), tmp_path / "all/own", tmp_path / "own")
    found(recipe("text_chars"), tmp_path / "all/a", tmp_path / "later", 2, keep_index=True)
    assert runs.promised(tmp_path / "at once") == runs.promised(tmp_path / "later")
    assert decided(tmp_path / "later") == touched
    manifest = json.loads((tmp_path / "later/_gneiss/index/000/exact_duplicates.json").read_text())
    assert [id_ for id_, _ in manifest["shards"]] == ["0", "1"]
    assert {path: entry[0] for path, entry in manifest["files"].items()} == {
        path: (tmp_path / "later" / path).stat().st_size for path in manifest["files"]
    }


def test_another_index_is_refused(tmp_path: Path) -> None:
    write_inputs(tmp_path, 6)
    other = [str(tmp_path / "a")]
    with pytest.raises(InputError, match="it has no index of exact_duplicates; expected the output of a run"):
        found(recipe(against=other), tmp_path / "all/own", tmp_path / "own")
    found(recipe(near={**NEAR, "bands": 9}), tmp_path / "all/a", tmp_path / "a", keep_index=True)
    with pytest.raises(InputError, match="index of near_duplicates was made with bands 9, and is to be read with 10"):
        found(recipe(against=other), tmp_path / "all/own", tmp_path / "own")
    (tmp_path / "a/_gneiss/index/000/near_duplicates.json").write_text("{")
    with pytest.raises(InputError, match=r"near_duplicates.json: cannot read"):
        found(recipe(near={**NEAR, "bands": 9}, against=other), tmp_path / "all/own", tmp_path / "own")
    with pytest.raises(RecipeError, match="it goes with `scope: corpus` or `group`"):
        recipe(against=other, scope="file")
    with pytest.raises(RecipeError, match="keep_index: no step of against sees more than a shard"):
        found(recipe(scope="shard"), tmp_path / "all/own", tmp_path / "own", keep_index=True)


def test_a_run_belongs_to_the_index_that_it_was_made_against(tmp_path: Path) -> None:
    write_inputs(tmp_path, 7)
    for source in ("a", "b"):
        found(recipe(), tmp_path / f"all/{source}", tmp_path / f"{source} indexed", keep_index=True)
    other = tmp_path / "a indexed"
    found(recipe(against=[str(other)]), tmp_path / "all/own", tmp_path / "own")
    assert list(json.loads((tmp_path / "own/_gneiss/run.json").read_text())["indexes"]) == [str(other)]
    other.rename(tmp_path / "gone")
    (tmp_path / "b indexed").rename(other)
    with pytest.raises(OutputError, match="what differs: the indexes of `against`"):
        found(recipe(against=[str(other)]), tmp_path / "all/own", tmp_path / "own")
