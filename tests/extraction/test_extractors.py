"""Extractors are pure: the same page gives the same text, whatever came before, in this process and in another."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from gneiss.errors import MachineError
from gneiss.extraction.extractors import Extractor, Resiliparse, Trafilatura, describe, restore, versions_of

ALL: list[Extractor] = [Trafilatura(), Resiliparse()]
SCRIPT = """
import sys, json
from gneiss.extraction.extractors import restore
extract = restore(json.loads(sys.argv[1])).load()
sys.stdout.write(extract(sys.stdin.read()) or "")
"""


@pytest.mark.parametrize("extractor", ALL, ids=lambda its: type(its).__name__)
def test_the_same_page_gives_the_same_text_whatever_came_before(extractor: Extractor, pages: list[bytes]) -> None:
    extract = extractor.load()
    html = [page.decode() for page in pages]
    first = [extract(page) for page in html]
    again = [extract(page) for page in reversed(html)][::-1]
    for _ in range(5):  # trafilatura's memory would call a passage repeated from its third time on
        extract(html[0])
    assert again == first == [extract(page) for page in html]
    assert sum(bool(text) for text in first) >= len(html) - 1


def test_trafilatura_with_its_memory_on_would_not_be_pure(pages: list[bytes]) -> None:
    from trafilatura import extract

    html = pages[0].decode()
    texts = {extract(html, favor_precision=True, include_comments=False, deduplicate=True) for _ in range(6)}
    assert len(texts) > 1


@pytest.mark.processes
@pytest.mark.parametrize("extractor", ALL, ids=lambda its: type(its).__name__)
@pytest.mark.parametrize("seed", ["1", "2"])
def test_the_seed_of_hashes_shapes_no_text(extractor: Extractor, seed: str, pages: list[bytes]) -> None:
    html = pages[0].decode()
    told = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(describe(extractor))],
        input=html.encode(),
        env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=True,
    )
    assert told.stdout.decode() == (extractor.load()(html) or "")


def test_an_extractor_is_made_again_from_its_description() -> None:
    for extractor in (*ALL, Trafilatura(favour_precision=False), Resiliparse(main_content=False)):
        assert restore(describe(extractor)) == extractor


def test_a_missing_library_is_named() -> None:
    assert set(versions_of(["trafilatura"])) == {"trafilatura"}
    with pytest.raises(MachineError, match="the package nowhere-to-be-had is missing; install it"):
        versions_of(["nowhere-to-be-had"])
