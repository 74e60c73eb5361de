"""URL block lists: against plain sets."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.annotation import annotate
from gneiss.errors import ModelError, RecipeError
from gneiss.filters.hosts import host_of
from gneiss.filters.url_lists import read_domains
from gneiss.filters.urls import PAGES, Urls
from tests.filters.heuristics import decide

LISTED = {"bad.example", "sub.worse.example", "co.example", "example.org"}


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> Urls:
    folder = tmp_path_factory.mktemp("lists")
    (folder / "domains").write_text(
        "\ufeff# comment\n\n" + "\n".join(sorted(LISTED)) + "\n Upper.Example. \r\n", "utf-8"
    )
    (folder / "words").write_text("casino\n", "utf-8")
    (folder / "soft").write_text("free\nbonus\nnow\n", "utf-8")
    return Urls((str(folder / "domains"),), (str(folder / "words"),), (str(folder / "soft"),))


@given(st.lists(st.sampled_from(["bad", "sub", "worse", "co", "example", "org", "www", "a"]), max_size=6))
@pytest.mark.slow
def test_a_host_is_listed_with_its_parents(lists: Urls, parts: list[str]) -> None:
    host = ".".join(parts)
    expected = any(".".join(parts[first:]) in LISTED for first in range(len(parts)))
    forms = (
        "https://{}/path",
        "{}/path",
        "//{}",
        "\\\\{}\\a",
        "http:\\\\{}/",
        "{}:80/?u=http://bad.example",
        "u:p@{}/",
        "{}#a",
    )
    urls = [form.format(host) for form in (*forms, " \thttps://bad.example@{}:443/")]
    for url in (*urls, f"http://user:pass@{host.upper()}.:8080/?q=bad.example") if host else ():
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


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://[::1]:80/", "::1"),
        ("//a.example/b", "a.example"),
        ("/\\a.example/b", "a.example"),
        ("a.example?u=https://b.example", "a.example"),
        ("a.example:443", "a.example"),
        ("a.example/@b.example", "a.example"),
        ("user@a.example/", "a.example"),
        ("https://b.example:x@a.example/", "a.example"),
        ("https://a.example\\@b.example/", "a.example"),
        ("https:a.example/b", "a.example"),
        ("https:///a.example", "a.example"),
        ("ht\ntps://a.exa\tmple/", "a.example"),
        ("https://a%2Eexample/", "a.example"),
        ("https://ａ.example/", "a.example"),
        ("https://a。example/", "a.example"),
        ("https://BÜCHER.example/", "xn--bcher-kva.example"),
        ("https://xn--bcher-kva.example/", "xn--bcher-kva.example"),
        ("https://0x7f.1/", "127.0.0.1"),
        ("https://a.example:99999/", "a.example"),
        ("https://user@a.example:port/", "a.example"),
        ("gopher://A.example/", "a.example"),
        ("mailto:someone@a.example", ""),
        ("data:text/html,//a.example/", ""),
        ("/a.example/b", ""),
        ("?a.example", ""),
        ("#a.example", ""),
        ("https://", ""),
        ("https://a b.example/", ""),
        ("", ""),
        ("<https://a.example/>", "a.example"),
        ("'//a.example'", "a.example"),
        ("\ufeffhttps://a.example/", "a.example"),
    ],
)
def test_hosts(url: str, host: str) -> None:
    assert host_of(url) == host


@given(st.text(st.sampled_from("ab.:/\\@?#[]%é 0\t"), max_size=20) | st.text(max_size=20))
def test_any_text_has_a_host_or_none(text: str) -> None:
    for url in (text, f"https://{text}"):
        host = host_of(url)
        assert host == host.lower()
        assert not host or host_of(f"//[{host}]/" if ":" in host else f"//{host}/") == host


@pytest.mark.parametrize(
    ("line", "domains"),
    [
        ("Bad.Example", ["bad.example"]),
        ("bad.example # adult", ["bad.example"]),
        ("bad.example\t; adult", ["bad.example"]),
        ("\ufeffbad.example.", ["bad.example"]),
        ("*.bad.example", ["bad.example"]),
        (".bad.example", ["bad.example"]),
        ("https://bad.example/", ["bad.example"]),
        ("//bad.example", ["bad.example"]),
        ("bad.example/", ["bad.example"]),
        ("||bad.example^", ["bad.example"]),
        ("||*.bad.example^$all", ["bad.example"]),
        ("||bad.example^$third-party,document", ["bad.example"]),
        ("0.0.0.0 bad.example", ["bad.example"]),
        ("127.0.0.1\tbad.example www.bad.example # two", ["bad.example", "www.bad.example"]),
        (":: bad.example", ["bad.example"]),
        ("fe80::1%lo0 localhost", []),
        ("0.0.0.0 0.0.0.0", []),
        ("255.255.255.255 broadcasthost", []),
        ("address=/bad.example/0.0.0.0", ["bad.example"]),
        ("server=/bad.example/", ["bad.example"]),
        ("Bücher.example", ["xn--bcher-kva.example"]),
        ("0.0.0.0 пример.example", ["xn--e1afmkfd.example"]),
        ("xn--bcher-kva.example", ["xn--bcher-kva.example"]),
        ("93.184.216.34", ["93.184.216.34"]),
        ("2001:DB8:0::1", ["2001:db8::1"]),
        ("_dmarc.bad_one.example", ["_dmarc.bad_one.example"]),
        ("! a comment of an ad blocker", []),
        ("[Adblock Plus 2.0]", []),
    ],
)
def test_lists_are_read_in_the_formats_that_people_have(tmp_path: Path, line: str, domains: list[str]) -> None:
    path = tmp_path / "list"
    path.write_text(f"first.example\n{line}\r\nlast.example", "utf-8")
    assert list(read_domains(path)) == ["first.example", *domains, "last.example"]
    for domain in domains:
        url = f"http://[{domain}]/" if ":" in domain else f"http://{domain}/"
        assert annotate(Urls(domains=(str(path),)), [url])["url_domain_listed"].to_pylist() == [True]


@pytest.mark.parametrize(
    "line",
    [
        *("bad.example/path", "https://bad.example/a", "bad.example:8080", "bad..example", "*", ".", "b*d.example"),
        *("@@||good.example^", "||bad.example^$script", "||bad.example/ads^", "bad.example##.banner", "10.0.0.0/8"),
        *("bad.example, worse.example", "bad example", "xn--a", "user@bad.example", "0.0.0.0 bad.example/a"),
        *("bad.example\N{REPLACEMENT CHARACTER}", "local-zone: bad.example", "/bad.*/"),
        *("+.bad.example", "bad.example;adult", "{bad,worse}.example"),
    ],
)
def test_an_entry_that_can_never_match_is_refused_with_its_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "list").write_text(f"first.example\n\n{line}\n", "utf-8")
    with pytest.raises(ModelError, match=r"list, line 3: this entry can never match"):
        list(read_domains(tmp_path / "list"))


@pytest.mark.parametrize("line", ["free-casino", "free casino", "caf\u00e9", "casino*", "sex\u200b"])
def test_a_word_that_can_never_match_is_refused_with_its_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "list").write_text(f"\ufeffCasino # one\n{line}\n", "utf-8")
    with pytest.raises(ModelError, match=r"list, line 2: this entry can never match"):
        annotate(Urls(words=(str(tmp_path / "list"),)), ["a"])
    (tmp_path / "list").write_text("\ufeffCasino # one\n", "utf-8")
    assert annotate(Urls(words=(str(tmp_path / "list"),)), ["http://a/casino"])["url_words"].to_pylist() == [1]


def test_lists_are_checked(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("# nothing\n")
    (tmp_path / "latin1").write_bytes(b"caf\xe9.example\n")
    for name, message in (("empty", "found none"), ("latin1", "UTF-8"), ("missing", "cannot be read")):
        with pytest.raises(ModelError, match=message):
            annotate(Urls(domains=(str(tmp_path / name),)), ["a"])
    with pytest.raises(RecipeError, match="at least one list"):
        Urls()
