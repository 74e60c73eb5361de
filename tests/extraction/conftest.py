"""A crawl for these tests."""

from pathlib import Path

import pytest

from tests.extraction import archives


@pytest.fixture(scope="session")
def pages() -> list[bytes]:
    """Real documentation pages: what pydoc makes of modules of the standard library."""
    return archives.documentation_pages()


@pytest.fixture(scope="session")
def crawl(pages: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small crawl with every kind of trouble in it; see `archives.write_crawl`."""
    return archives.write_crawl(tmp_path_factory.mktemp("crawl"), pages)
