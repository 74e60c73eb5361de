"""Whatever the bytes and whatever is declared: text, from a charset that exists, and the same as by the standards."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gneiss.extraction.charset import GUESS, HEADER, MARK, META, decoded
from gneiss.extraction.labels import LABELS, charset_of
from gneiss.extraction.prescan import charset_declared_in
from tests.extraction.html_standard import Prescan

#: Bytes at which decoders and the prescan change their minds, and what pages declare.
PIECES = st.sampled_from(
    [b"<meta ", b"<META/", b"<p ", b"</p", b"<!--", b"-->", b"<!", b"<?xml ", b"</", b"<", b">", b" ", b"\n", b"/",
     b"=", b'"', b"'", b"charset", b"charset=", b"content=", b"http-equiv=", b"content-type", b"utf-16", b";",
     b"encoding=", b"\0", b"\x1b$B", b"\x1b(J", b"\x1b", b"\x80", b"\x81\x30\x81\x30", b"\x8e", b"\x8f\xa2",
     b"\xa1\xa1", b"\xd8\x00", b"\xe3\x81", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\xff",
     "ö".encode(), "視".encode()]
)  # fmt: skip
BODIES = st.lists(PIECES | st.sampled_from([*LABELS]).map(str.encode) | st.binary(max_size=4), max_size=24).map(
    b"".join
)


@given(body=BODIES, declared=st.sampled_from(["", *LABELS]) | st.text(max_size=8), is_html=st.booleans())
def test_decoding(body: bytes, declared: str, is_html: bool) -> None:
    found = decoded(body, declared, is_html=is_html)
    assert found.text.encode().decode() == found.text
    assert "\0" not in found.text
    assert charset_of(found.charset) == found.charset
    assert found.charset_from in (MARK, HEADER, META, GUESS)
    if found.charset_from == HEADER:
        assert found.charset == charset_of(declared)
    if found.charset_from == META:
        assert is_html
        assert found.charset == charset_declared_in(body)
    assert found == decoded(body, declared, is_html=is_html)


@given(BODIES)
def test_prescan(body: bytes) -> None:
    assert charset_declared_in(body) == Prescan(body).charset()
