"""The same bytes from Ray's actors as from local processes."""

from __future__ import annotations

from pathlib import Path

from gneiss.extract.job import extract
from tests import runs
from tests.cluster.test_ray import Head, head  # noqa: F401 - a fixture is found by its name


def test_actors_give_the_same_bytes(head: Head, crawl: Path, tmp_path: Path) -> None:  # noqa: F811
    local = extract(crawl, tmp_path / "local", extractor="resiliparse", workers=1, backend="local")
    on_ray = extract(crawl, tmp_path / "ray", extractor="resiliparse", workers=2, backend="ray")
    assert runs.promised(on_ray.output) == runs.promised(local.output)
    assert on_ray.unreadable == local.unreadable
