"""Bytes become the text that was meant; whatever they are, they become valid text."""

from __future__ import annotations

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.extraction import charset
from gneiss.extraction.charset import charset_of, to_text

SENTENCES = {
    "cp1252": "Die Größe der Fläche wächst, und der Ärger über schöne Übungen löst sich auf. ",
    "iso8859-2": "Příliš žluťoučký kůň úpěl ďábelské ódy, řekl starý muž a odešel do lesa. ",
    "cp1251": "Съешь ещё этих мягких французских булок, да выпей чаю, сказал старик. ",
    "koi8-r": "Съешь ещё этих мягких французских булок, да выпей чаю, сказал старик. ",
    "iso8859-7": "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία, είπε ο γέρος και έφυγε για το δάσος. ",
    "cp932": "いろはにほへと、散りぬるを。我が世誰ぞ、常ならむ。日本語の文章です。",
    "euc_jp": "いろはにほへと、散りぬるを。我が世誰ぞ、常ならむ。日本語の文章です。",
    "iso2022_jp": "いろはにほへと、散りぬるを。我が世誰ぞ、常ならむ。日本語の文章です。",
    "cp949": "키스의 고유조건은 입술끼리 만나야 하고 특별한 기술은 필요치 않다. ",
    "gb18030": "视野无限广,窗外有蓝天。这是一个用于测试的中文句子,内容没有意义。",
    "big5hkscs": "視野無限廣,窗外有藍天。這是一個用於測試的中文句子,內容沒有意義。",
}


@pytest.mark.parametrize(("name", "sentence"), SENTENCES.items())
def test_the_charset_is_taken_from_the_header_the_page_or_the_text(name: str, sentence: str) -> None:
    text = f"<html><body><p>{sentence * 8}"
    assert to_text(text.encode(name), name) == text
    named = f"<html><head><meta charset='{name}'>{sentence}"
    assert to_text(named.encode(name)) == named
    older = f'<html><head><META http-equiv="Content-Type" content="text/html; charset={name}">{sentence}'
    assert to_text(older.encode(name)) == older
    assert to_text(text.encode(name)) == text


@pytest.mark.parametrize("declared", ["", "iso-8859-1", "shift_jis", "nonsense", "\0", "utf-8", "zlib", "x" * 10_000])
def test_utf8_is_utf8_whatever_is_declared(declared: str) -> None:
    text = "<html>Größe, 日本語, ещё"
    assert to_text(text.encode(), declared) == text


@pytest.mark.parametrize("mark", [codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE])
def test_a_byte_order_mark_beats_everything(mark: bytes) -> None:
    text = "Größe, 日本語"
    body = mark + text.encode({b"\xef": "utf-8", b"\xff": "utf-16-le", b"\xfe": "utf-16-be"}[mark[:1]])
    assert to_text(body, "cp1252") == text


def test_the_header_beats_the_page() -> None:
    body = b"<meta charset=windows-1251>\xe4\xf6\xfc"
    assert to_text(body, "latin1") == "<meta charset=windows-1251>äöü"


def test_wrong_bytes_cost_themselves_and_zeros_are_left_out() -> None:
    assert to_text("Größe".encode() + b"\xff and more", "utf-8") == "Größe\ufffd and more"
    assert to_text(b"ze\0ros in much longer text") == "zeros in much longer text"
    assert to_text("two bytes a letter".encode("utf-16-le"), "utf-16") == "two bytes a letter"


def test_labels_name_charsets_and_nothing_else() -> None:
    assert [charset_of(label) for label in ("ISO-8859-1", " latin1 ", "gb2312", "x-sjis", "euc-kr", "UTF8")] == [
        "cp1252", "cp1252", "gb18030", "cp932", "cp949", "utf-8",
    ]  # fmt: skip
    for label in ("rot13", "zlib", "base64", "unicode_escape", "idna", "punycode", "utf-7", "undefined", "..", "os"):
        assert charset_of(label) is None
    for name in charset._READ_AS.values():  # each is what Python calls it, so that every way to it ends there
        assert charset_of(codecs.lookup(name).name) == name
        b"abc".decode(name, "replace")


@given(
    body=st.one_of(st.binary(max_size=400), st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace"))),
    declared=st.one_of(st.sampled_from([*charset._READ_AS, ""]), st.text(max_size=20)),
    is_html=st.booleans(),
)
def test_any_bytes_under_any_label_become_valid_text(body: bytes, declared: str, is_html: bool) -> None:
    text = to_text(body, declared, is_html=is_html)
    assert "\0" not in text
    assert text.encode().decode() == text
