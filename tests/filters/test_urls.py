"""URL block lists: against plain sets."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.annotation import annotate
from gneiss.errors import ModelError, RecipeError
from gneiss.filters.urls import PAGES, Urls, host_of
from tests.filters.heuristics import decide

LISTED = {"bad.example", "sub.worse.example", "co.example", "example.org"}


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> Urls:
    folder = tmp_path_factory.mktemp("lists")
    (folder / "domains").write_text("# comment\n\n" + "\n".join(sorted(LISTED)) + "\n Upper.Example. \r\n", "utf-8")
    (folder / "words").write_text("casino\n", "utf-8")
    (folder / "soft").write_text("free\nbonus\nnow\n", "utf-8")
    return Urls((str(folder / "domains"),), (str(folder / "words"),), (str(folder / "soft"),))


@given(st.lists(st.sampled_from(["bad", "sub", "worse", "co", "example", "org", "www", "a"]), max_size=6))
def test_a_host_is_listed_with_its_parents(lists: Urls, parts: list[str]) -> None:
    host = ".".join(parts)
    expected = any(".".join(parts[first:]) in LISTED for first in range(len(parts)))
    for url in (f"https://{host}/path", f"{host}/path", f"http://user:pass@{host.upper()}.:8080/?q=bad.example"):
        assert annotate(lists, [url])["url_domain_listed"].to_pylist() == [expected]


def test_words_and_rules(lists: Urls) -> None:
    urls = [
        "https://good.example/a-page",
        "https://upper.example/",
        "https://x.notbad.example/",
        "https://good.example/Casino",
        "https://good.example/casinos",
        "https://free.example/free-page?free",
        "https://good.example/free/bonus",
        "",
        "http://[broken",
    ]
    table = annotate(lists, urls)
    assert table["url_domain_listed"].to_pylist() == [False, True, *[False] * 7]
    assert table["url_words"].to_pylist() == [0, 0, 0, 1, 0, 0, 0, 0, 0]
    assert table["url_soft_words"].to_pylist() == [0, 0, 0, 0, 0, 1, 2, 0, 0]
    assert decide(lists, PAGES[0], urls).tolist() == [True, False, True, False, True, True, False, True, True]


def test_hosts() -> None:
    assert host_of("https://[::1]:80/") == "::1"
    assert host_of("mailto:someone@example.org") == "example.org"
    assert host_of("https:///path") == ""


def test_lists_are_checked(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("# nothing\n")
    (tmp_path / "latin1").write_bytes(b"caf\xe9.example\n")
    for name, message in (("empty", "found none"), ("latin1", "UTF-8"), ("missing", "cannot be read")):
        with pytest.raises(ModelError, match=message):
            annotate(Urls(domains=(str(tmp_path / name),)), ["a"])
    with pytest.raises(RecipeError, match="at least one list"):
        Urls()
