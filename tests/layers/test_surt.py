"""SURT keys: those that Common Crawl's index has."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.layers.surt import surt

#: What the Python package surt 0.3.1 answers, with which Common Crawl writes its index; its code is not used here.
KEYS = {
    "http://www.example.com/": "com,example)/",
    "https://www2.Example.COM:443/Path/File.html?b=2&a=1#frag": "com,example)/path/file.html?a=1&b=2",
    "http://user:pw@example.com:8080/a//b/../c/./d/?": "com,example:8080)/a/c/d",
    "http://example.com/a;jsessionid=0123456789ABCDEF0123456789ABCDEF?x=1&PHPSESSID=0123456789abcdef0123456789abcdef": (
        "com,example)/a;jsessionid=0123456789abcdef0123456789abcdef?&x=1"
    ),
    "http://example.com/%7Efoo/%e2%82%ac %20?q=a%2Bb+c": "com,example)/~foo/%e2%82%ac%20%20?q=a+b+c",
    "http://1.2.3.4/x": "4,3,2,1)/x",
    "http://bücher.example/ü?ü=ä": "example,xn--bcher-kva)/%c3%bc?%c3%bc=%c3%a4",
    "http://example.com./": "com,example)/",
    "http://example.com": "com,example)/",
    "http://example.com/x?&a=1&&b": "com,example)/x?&&a=1&b",
    "http://example.com/x?a=1&sid=0123456789abcdef0123456789abcdef": "com,example)/x?&a=1",
    "http://www.com/": "com)/",
    "http://a.b.c.d.example.co.uk:80/": "uk,co,example,d,c,b,a)/",
    "  http://example.com/ x ": "com,example)/%20x",
    "http://example.com/a\nb\tc": "com,example)/abc",
    "http://3279880203/blah": "11,0,127,195)/blah",
    "http://example.com/%25%32%35": "com,example)/%25",
    "http://example.com/a%2Fb": "com,example)/a/b",
    "http://ex_ample.com/": "com,ex_ample)/",
    "http://example.com/x/?a": "com,example)/x?a",
    "http://example.com/../x": "com,example)/../x",
    "http://example.com//": "com,example)/",
    "http://example.com/(S(4hqa0555fwsecu455xqckv45))/mileg.aspx": "com,example)/mileg.aspx",
    "http://example.com/x.asp?ASPSESSIONIDAQBSDSRT=EOHBLBDDPFCLHKPGGKLILNAM&b=1": "com,example)/x.asp?b=1",
    "http://example.com/x?cfid=1&CFTOKEN=2&z=3": "com,example)/x?z=3",
    "http://www.bücher%zz.de/%zz": "de,xn--bcher%25zz-65a)/%25zz",
}


@pytest.mark.parametrize(("url", "key"), KEYS.items())
def test_keys_are_those_of_the_index(url: str, key: str) -> None:
    assert surt(url.encode()) == key


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com/x",
        "mailto:a@b.c",
        "ftp://a.b/",
        "http://",
        "http:///",
        "http://a.b:99999/",
        "http://a/" + "x" * 9000,
        "http://a:b/",
    ],
)
def test_what_is_no_url_of_the_web_has_no_key(url: str) -> None:
    assert surt(url.encode()) is None


@given(st.one_of(st.binary(max_size=40), st.text(alphabet="htp:/.?&=#%a2@[]é\0 ", max_size=40).map(str.encode)))
def test_any_bytes_have_a_key_or_none(rest: bytes) -> None:
    for url in (rest, b"http://" + rest, b"https://www.a.example/" + rest):
        key = surt(url)
        assert key is None or (key.isascii() and key == key.lower())
