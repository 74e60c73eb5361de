"""Ray and an object store together: actors read and write a server that only their environment tells them about."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import gneiss
from gneiss.mixture import find_buckets, plan_mixture, write_buckets
from gneiss.output.verification import verify
from gneiss.recipe.recipe import Recipe
from gneiss.store.place import Place, place_of
from tests import runs
from tests.backends.ray_cluster import Head, running_head
from tests.chaos import jobs, test_rounds

pytestmark = [pytest.mark.exhaustive, pytest.mark.processes]


@pytest.fixture
def head(s3_folder: str) -> Iterator[Head]:
    """A head that is started where the environment names the server, as its actors then are."""
    with running_head(cpus=2) as head:
        yield head


def test_a_run_by_share_and_a_mixture_of_runs_have_the_bytes_that_they_have_on_a_disk(
    head: Head, s3_folder: str, tmp_path: Path
) -> None:
    disk, elsewhere = place_of(tmp_path), place_of(s3_folder)
    recipe, here = Recipe.parse(test_rounds.BY_SHARE), runs.InThisProcess()
    for seed, name in enumerate(("web", "books")):
        runs.write_corpus(tmp_path / f"{name}-input/a.parquet", runs.documents(60, seed=seed))
        gneiss.run(recipe, disk / f"{name}-input", disk / name, backend=here)
    copy(disk / "web-input", elsewhere / "input")
    gneiss.run(recipe, elsewhere / "input", elsewhere / "run", workers=2, backend="ray")
    assert jobs.contents(elsewhere / "run") == jobs.contents(disk / "web")

    for name in ("web", "books"):
        write_buckets(find_buckets(disk / name, ["eflaw"], quantiles=3))
        copy(disk / name, elsewhere / name)
    mixtures = {}
    for folder, settings in ((disk, {"backend": here}), (elsewhere, {"backend": "ray", "workers": 2})):
        sources = {name: folder / name for name in ("web", "books")}
        mixtures[folder] = plan_mixture(sources, 9_000, buckets="buckets", seed=3)
        mixed = mixtures[folder].write(folder / "mixed", shard_bytes=8_000, **settings)
        assert mixed.files == 2
    assert mixtures[disk].plan == mixtures[elsewhere].plan
    assert jobs.contents(elsewhere / "mixed") == jobs.contents(disk / "mixed")
    assert verify(elsewhere / "mixed").problems == ()


def copy(source: Place, target: Place) -> None:
    """All files."""
    for file in source.files():
        with (target / file.name).create() as copied:
            copied.write((source / file.name).read())
