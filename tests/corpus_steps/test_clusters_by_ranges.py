"""Clusters across shards, with a range for each shard: the same bytes as with one, also after an interruption."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from gneiss.corpus_steps.step import REDUCER_MEMORY_BYTES
from gneiss.dedup.minhash import joining, stars
from gneiss.errors import OutputError
from gneiss.recipe.recipe import Recipe
from gneiss.stages.exchange import Exchange
from tests import runs
from tests.corpus_steps.test_verified_duplicates import NEAR, found, texts_of

SHARDS = 3
VERIFIED = {**NEAR, "verify": 0.5}


def recipe(near: Mapping[str, Any] = NEAR, **parameters: Any) -> Recipe:
    """Both kinds of duplicates in one phase."""
    steps = {"exact_duplicates": parameters, "near_duplicates": {**NEAR, **near, **parameters}}
    phase = {"name": "unique", **steps, "rules": {"first": "exact_first AND near_first"}}
    return Recipe.model_validate({"name": "ranges", "budgets": {"documents": 1}, "phases": [phase]})


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    for number in range(SHARDS):
        own = " ".join("xyz"[number] * length for length in range(2, 9)).encode()
        runs.write_corpus(folder / f"{number}.parquet", [*texts_of(number), own, own])
    return folder


@contextmanager
def a_range_for_each_shard() -> Iterator[None]:
    """Or for about ten documents in another order."""
    with (
        mock.patch.object(joining, "BYTES_PER_DOCUMENT", REDUCER_MEMORY_BYTES),
        mock.patch.object(stars, "BYTES_PER_DOCUMENT", REDUCER_MEMORY_BYTES // 10),
    ):
        yield


@pytest.mark.parametrize("keep", [pytest.param(None, marks=pytest.mark.exhaustive), "text_bytes"])
@pytest.mark.parametrize("verify", [None, 0.5, {"at_least": 0.5, "clusters": "complete"}], ids=str)
@pytest.mark.slow
def test_ranges_do_not_matter(corpus: Path, tmp_path: Path, keep: str | None, verify: Any) -> None:
    both = recipe({"verify": verify} if verify else {}, **({"keep": keep} if keep else {}))
    clusters = found(both, corpus, tmp_path / "one")["near_cluster"].drop_null()
    assert len({name.rpartition(":")[0] for name in clusters.to_pylist()}) > 1
    with a_range_for_each_shard():
        found(both, corpus, tmp_path / "many", 3)
    assert runs.promised(tmp_path / "one") == runs.promised(tmp_path / "many")


@pytest.mark.parametrize("near", [NEAR, VERIFIED], ids=["unverified", "verified"])
@pytest.mark.slow
def test_an_interruption_after_any_range_does_not_matter(corpus: Path, tmp_path: Path, near: Mapping[str, Any]) -> None:
    """One run over and over, each of which writes a file more of those stages."""
    written: list[str] = []
    write = Exchange.write
    stops = 3 * SHARDS - 1 if near is VERIFIED else 2 * SHARDS  # verified: nothing is passed on by the last range

    def write_and_stop(exchange: Exchange, stage: str, *arguments: Any) -> Any:
        file = write(exchange, stage, *arguments)
        if stage.removeprefix("near_duplicates_").partition("_")[0] in ("joined", "stars", "passed", "clusters"):
            written.append(stage)
            raise OutputError("the disk is full")
        return file

    found(recipe(near), corpus, tmp_path / "whole")
    with a_range_for_each_shard():
        with mock.patch.object(Exchange, "write", write_and_stop):
            while len(written) < stops:
                with pytest.raises(OutputError, match="the disk is full"):
                    found(recipe(near), corpus, tmp_path / "resumed")
        found(recipe(near), corpus, tmp_path / "resumed")
    assert runs.promised(tmp_path / "resumed") == runs.promised(tmp_path / "whole")
