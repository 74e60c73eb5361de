"""Clusters across shards, with a range for each shard: the same bytes as with one, also after an interruption."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from gneiss.corpus_steps.step import REDUCER_MEMORY_BYTES
from gneiss.dedup.minhash import joining
from gneiss.errors import OutputError
from gneiss.recipe.recipe import Recipe
from gneiss.stages.exchange import Exchange
from tests import runs
from tests.corpus_steps.test_verified_duplicates import NEAR, found, texts_of

SHARDS = 3


def recipe(**parameters: Any) -> Recipe:
    """Both kinds of duplicates in one phase."""
    steps = {"exact_duplicates": parameters, "near_duplicates": {**NEAR, **parameters}}
    phase = {"name": "unique", **steps, "rules": {"first": "exact_first AND near_first"}}
    return Recipe.model_validate({"name": "ranges", "budgets": {"documents": 1}, "phases": [phase]})


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    for number in range(SHARDS):
        own = " ".join("xyz"[number] * length for length in range(2, 9)).encode()
        runs.write_corpus(folder / f"{number}.parquet", [*texts_of(number), own, own])
    return folder


def a_range_for_each_shard() -> Any:
    return mock.patch.object(joining, "BYTES_PER_DOCUMENT", REDUCER_MEMORY_BYTES)


@pytest.mark.parametrize("keep", [None, "text_bytes"])
@pytest.mark.slow
def test_ranges_do_not_matter(corpus: Path, tmp_path: Path, keep: str | None) -> None:
    its = recipe(**({"keep": keep} if keep else {}))
    clusters = found(its, corpus, tmp_path / "one")["near_cluster"].drop_null()
    assert len({name.rpartition(":")[0] for name in clusters.to_pylist()}) > 1
    with a_range_for_each_shard():
        found(its, corpus, tmp_path / "many", 3)
    assert runs.promised(tmp_path / "one") == runs.promised(tmp_path / "many")


@pytest.mark.slow
def test_an_interruption_after_any_range_does_not_matter(corpus: Path, tmp_path: Path) -> None:
    """One run over and over, each of which writes a file more of those stages."""
    written: list[str] = []
    write = Exchange.write

    def write_and_stop(exchange: Exchange, stage: str, *arguments: Any) -> Any:
        file = write(exchange, stage, *arguments)
        if "near_duplicates_joined" in stage or "near_duplicates_clusters" in stage:
            written.append(stage)
            raise OutputError("the disk is full")
        return file

    found(recipe(), corpus, tmp_path / "whole")
    with a_range_for_each_shard(), mock.patch.object(Exchange, "write", write_and_stop):
        while len(written) < 2 * SHARDS:
            with pytest.raises(OutputError, match="the disk is full"):
                found(recipe(), corpus, tmp_path / "resumed")
    with a_range_for_each_shard():
        found(recipe(), corpus, tmp_path / "resumed")
    assert len(set(written)) == 2 * SHARDS
    assert runs.promised(tmp_path / "resumed") == runs.promised(tmp_path / "whole")
