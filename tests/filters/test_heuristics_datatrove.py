"""Every decision equals datatrove's on real documents, when datatrove splits words and sentences as we do."""

from __future__ import annotations

import os
import re
import sysconfig
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import pytest

from gneiss.annotation import Annotator
from gneiss.batch import TextBatch
from gneiss.filters import c4, fineweb, gopher
from gneiss.filters.page import Page
from gneiss.filters.segmentation_characters import ORDINARY, TERMINAL, segmentation_classes
from tests.filters.heuristics import PIECES, decide, sentence_ends, with_line_feeds, written

pytestmark = pytest.mark.skipif(find_spec("datatrove") is None, reason="datatrove, the peer to equal, is not installed")
DOCUMENTS = 3500


class OurSegmentation:
    """What datatrove asks of a word tokenizer."""

    def word_tokenize(self, text: str) -> list[str]:
        return text.split()

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        ends = [*sentence_ends(text), len(text)]
        return list(zip([0, *ends[:-1]], ends, strict=True))


@pytest.fixture(autouse=True)
def injected(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from datatrove.utils import text, word_tokenizers

    text.split_into_parts.cache_clear()
    monkeypatch.setattr(word_tokenizers, "load_word_tokenizer", lambda language: OurSegmentation())
    yield
    text.split_into_parts.cache_clear()


@pytest.fixture(scope="module")
def documents() -> list[str]:
    """Licences, documentation and modules of what is installed, and what is made to be difficult."""
    found = (walked for name in ("stdlib", "purelib") for walked in os.walk(sysconfig.get_path(name)))
    ends = (".txt", ".rst", ".md", ".py")
    paths = sorted(Path(folder, name) for folder, _, names in found for name in names if name.endswith(ends))
    texts = [path.read_text("utf-8", errors="replace")[:6000] for path in paths[: DOCUMENTS * 2 : 2]]
    prose = (
        text
        for path in paths
        for text in re.findall(r'"""(.{400,}?)"""', path.read_text("utf-8", errors="replace")[:9000], re.S)[:1]
    )
    documents = [
        *texts,
        *islice(prose, 1500),
        *PIECES,
        "",
        "\n",
        " ",
        "\n\n",
        "a\x85b c. d\u2028e",
        " ".join(PIECES),
        "\n".join(PIECES),
    ]
    return [text for text in documents if not written(text)]


CASES: dict[str, tuple[str, dict[str, object], Annotator, Page]] = {
    "quality": ("GopherQualityFilter", {}, gopher.GopherQuality(), gopher.PAGES[0]),
    "repetition": ("GopherRepetitionFilter", {}, gopher.GopherRepetition(), gopher.PAGES[1]),
    "c4": ("C4QualityFilter", {}, c4.C4(), c4.PAGES[0]),
    "c4-fineweb": (
        "C4QualityFilter",
        {"filter_no_terminal_punct": False},
        c4.C4(terminal_punctuation=False),
        c4.PAGES[0],
    ),
    "fineweb": ("FineWebQualityFilter", {}, fineweb.FineWeb(), fineweb.PAGES[0]),
}


#: For these datatrove knows no line end but LF, and takes lines of blanks for lines: it gets what we measure.
ONLY_LINE_FEEDS = ("repetition", "fineweb")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.slow
@pytest.mark.exhaustive
def test_decisions_equal(case: str, documents: list[str]) -> None:
    from datatrove.data import Document
    from datatrove.pipeline import filters

    name, parameters, annotator, page = CASES[case]
    judge = getattr(filters, name)(**parameters)
    theirs_to_read = list(map(with_line_feeds, documents)) if case in ONLY_LINE_FEEDS else documents
    expected = [judge.filter(Document(text=text, id="")) is True for text in theirs_to_read]
    kept = decide(annotator, page, documents)
    assert len(documents) >= 3000
    assert 50 < sum(expected) < len(expected) - 50  # or the comparison says nothing
    assert [text[:300] for text, ours, theirs in zip(documents, kept, expected, strict=True) if ours != theirs] == []


@pytest.mark.parametrize("terminal_punctuation", [True, False])
@pytest.mark.slow
@pytest.mark.exhaustive
def test_texts_that_c4_leaves_are_equal(terminal_punctuation: bool, documents: list[str]) -> None:
    from datatrove.data import Document
    from datatrove.pipeline import filters

    judge = filters.C4QualityFilter(filter_no_terminal_punct=terminal_punctuation)
    batch = TextBatch.of(documents)
    ours = c4.C4Lines(terminal_punctuation).edit(batch).edits.apply(batch).texts()
    for text, edited in zip(documents, ours, strict=True):
        document = Document(text=text, id="")
        if judge.filter(document) is True:
            assert edited.splitlines() == document.text.splitlines()


def test_characters_equal() -> None:
    from datatrove.utils.text import PUNCTUATION_SET, TERMINAL_PUNCTUATION

    classes = segmentation_classes()
    assert {chr(point) for point in range(0x110000) if not classes[point] & ORDINARY} == PUNCTUATION_SET
    assert {chr(point) for point in range(0x110000) if classes[point] & TERMINAL} == TERMINAL_PUNCTUATION
