"""Extractors are pure: the same page gives the same text, whatever came before, in this process and in another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from time import process_time

import pytest

from gneiss.errors import MachineError
from gneiss.extraction.extractors import (
    EXTRACTORS,
    Extractor,
    InTurn,
    Resiliparse,
    Trafilatura,
    _kept_by_trafilatura,
    describe,
    first_text,
    restore,
    versions_of,
)

ALL: list[Extractor] = [Trafilatura(), Resiliparse()]
SCRIPT = """
import sys, json
from gneiss.extraction.extractors import restore
extract = restore(json.loads(sys.argv[1])).load()
sys.stdout.write(extract(sys.stdin.read()) or "")
"""


@pytest.mark.parametrize("extractor", ALL, ids=lambda extractor: type(extractor).__name__)
@pytest.mark.slow
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
@pytest.mark.parametrize("extractor", ALL, ids=lambda extractor: type(extractor).__name__)
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
    in_turn = EXTRACTORS["trafilatura, then resiliparse"]()
    for extractor in (*ALL, Trafilatura(favour_precision=False), Resiliparse(main_content=False), in_turn):
        assert restore(describe(extractor)) == extractor


def test_a_missing_library_is_named() -> None:
    assert set(versions_of(["trafilatura"])) == {"trafilatura"}
    with pytest.raises(MachineError, match="the package nowhere-to-be-had is missing; install it"):
        versions_of(["nowhere-to-be-had"])


RIVER = "<p>The river rises in the hills above the town and runs south for ninety miles before it meets the sea.</p>"


def text_of(extractor: Extractor, body: str) -> str:
    return extractor.load()(f"<html><body><main>{RIVER}{body}{RIVER}</main></body></html>") or ""


@pytest.mark.parametrize("depth", [255, 300, 1500])
@pytest.mark.parametrize("tag", ["div", "font", "blockquote"])
@pytest.mark.slow
def test_deep_pages_have_text(depth: int, tag: str) -> None:
    deep = f"<html><body>{f'<{tag}>' * depth}<p>Deep text that is long enough to be taken from a page.</p>"
    for extractor in ALL:
        assert "Deep text" in (extractor.load()(deep) or "")


def test_form_feeds_separate_words() -> None:
    for extractor in ALL:
        text = text_of(
            extractor, "<p>Words of one page,\fand words of the next\f\fpage of a text that goes on and on.</p>"
        )
        assert "page, and words of the next page of" in " ".join(text.split())


@pytest.mark.parametrize(
    "cell",
    [
        "<td><ul><li>10:00 AM</li><li>8:00 PM</li></ul></td>",
        "<th>Hours<ol><li>10:00 AM<ul><li>8:00 PM</li></ul></li></ol></th>",
        "<td><div><dl><dt>10:00 AM</dt><dd>8:00 PM</dd></dl></div></td>",
        "<td><table><tr><td><ul><li>10:00 AM</ul><tr><td>8:00 PM</table></td>",
    ],
)
def test_lists_in_tables_are_kept(cell: str) -> None:
    for extractor in ALL:
        text = text_of(extractor, f"<table><tr><td>Monday</td>{cell}</tr></table>")
        for words in ("Monday", "10:00 AM", "8:00 PM"):
            assert words in text


def test_lists_of_links_in_tables_are_not_opened() -> None:
    menu = "<table><tr><td>Menu<ul><li><a href=a>Alpha</a></li><li><a href=b>Beta</a></li></ul></td></tr></table>"
    assert "Alpha" not in text_of(Trafilatura(), menu)


@pytest.mark.parametrize("behind", ["<p>{}</p>", "<div><p>{}</p></div>", "</html><p>{}</p></body></html>"])
def test_text_behind_the_end_of_a_page_is_kept(behind: str) -> None:
    words = "The brook rises in the hills behind the town and runs north for nineteen miles before it meets the lake."
    page = f"<html><body><main>{RIVER}</main></body>\n</html >{behind.format(words)}"
    for extractor in ALL:
        assert words in (extractor.load()(page) or "")


@pytest.mark.parametrize(
    ("escaped", "meant"),
    [
        ("&amp;lt;div&amp;gt;", "&lt;div&gt;"), ("?a=1&amp;copy=2", "?a=1&copy=2"), ("&amp;amp;", "&amp;"),
        ("&amp;#65; &amp;#x41;", "&#65; &#x41;"), ("R&amp;D", "R&D"), ("&lt;b&gt;", "<b>"), ("a & b", "a & b"),
        ("&amp; &amp;nbsp;", "& &nbsp;"),
    ],
)  # fmt: skip
def test_what_is_escaped_twice_stays_escaped_once(escaped: str, meant: str) -> None:
    for extractor in ALL:
        assert f"Write {meant} to say" in text_of(
            extractor, f"<p>Write {escaped} to say it, as the manual explains it.</p>"
        )


@pytest.mark.parametrize(
    "wrap", ["{}", "<div>{}</div>", "<div><section>{}</section></div>", "<div>" * 5 + "{}" + "</div>" * 5]
)
def test_resiliparse_keeps_lists_however_shallow(wrap: str) -> None:
    page = "<html><body>" + wrap.format(f"{RIVER}<ul><li>Red apples<ul><li>inner pears</li></ul></li></ul>{RIVER}")
    text = Resiliparse().load()(page) or ""
    assert "Red apples" in text
    assert "inner pears" in text
    links = "<html><body>" + wrap.format(f"{RIVER}<ul><li><a href=x>Home page</a></li></ul>{RIVER}")
    assert "Home page" not in (Resiliparse().load()(links) or "")


def test_resiliparse_leaves_out_what_is_no_main_content() -> None:
    main = "<main><article><p>The river rises in the hills above the town.</p></article></main>"
    rest = "<nav>Home</nav><button>Menu</button><div class=comments><p>First!</p></div><footer>Imprint</footer>"
    page = f"<html><body>{rest}{main}</body></html>"
    assert Resiliparse().load()(page) == "The river rises in the hills above the town."
    everything = Resiliparse(main_content=False).load()(page)
    assert all(word in everything for word in ("Home", "First!", "Imprint"))


def test_extractors_in_turn() -> None:
    def fails(html: str) -> str:
        raise RecursionError("too deep")

    def none(html: str) -> None:
        return None

    assert first_text([("a", none), ("b", str.upper), ("c", str)])("text") == ("TEXT", "b")
    assert first_text([("a", fails), ("b", lambda html: " "), ("c", str)])("text") == ("text", "c")
    assert first_text([("a", none)])("text") == ("", "")
    with pytest.raises(RecursionError, match="too deep"):
        first_text([("a", fails), ("b", none)])("text")
    both = InTurn((Trafilatura(), Resiliparse()))
    assert both.load()("<html><body><p>Short.") == "Short."
    assert set(both.libraries) == {*Trafilatura().libraries, *Resiliparse().libraries}


@pytest.mark.parametrize("piece", ["&amp;", "&amp;copy", "</html>x", "</html ", "\f", "</body>", "&amp;#"])
def test_pages_are_prepared_in_linear_time(piece: str) -> None:
    before = process_time()
    _kept_by_trafilatura("</html>" + piece * (2_000_000 // len(piece)))
    assert process_time() - before < 5
