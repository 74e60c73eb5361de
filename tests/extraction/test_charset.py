"""Bytes become the text that a browser shows; whatever they are, they become valid text."""

from __future__ import annotations

import codecs
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.extraction.charset import GUESS, HEADER, MARK, META, decoded, to_text
from gneiss.extraction.labels import charset_of

#: Charset → Python's codec, and a sentence.
SENTENCES = {
    "windows-1252": ("cp1252", "Die Größe der Fläche wächst, und der Ärger über schöne Übungen löst sich auf. "),
    "iso-8859-2": ("iso8859-2", "Příliš žluťoučký kůň úpěl ďábelské ódy, řekl starý muž a odešel do lesa. "),
    "windows-1251": ("cp1251", "Съешь ещё этих мягких французских булок, да выпей чаю, сказал старик. "),
    "koi8-r": ("koi8-r", "Съешь ещё этих мягких французских булок, да выпей чаю, сказал старик. "),
    "iso-8859-7": ("iso8859-7", "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία, είπε ο γέρος και έφυγε για το δάσος. "),
    "shift_jis": ("cp932", "いろはにほへと、散りぬるを。我が世誰ぞ、常ならむ。日本語の文章です。"),
    "euc-jp": ("euc_jp", "いろはにほへと、散りぬるを。我が世誰ぞ、常ならむ。日本語の文章です。"),
    "iso-2022-jp": ("iso2022_jp", "いろはにほへと、散りぬるを。我が世誰ぞ、常ならむ。日本語の文章です。"),
    "euc-kr": ("cp949", "키스의 고유조건은 입술끼리 만나야 하고 특별한 기술은 필요치 않다. "),
    "gb18030": ("gb18030", "视野无限广,窗外有蓝天。这是一个用于测试的中文句子,内容没有意义。"),
    "big5": ("big5", "視野無限廣,窗外有藍天。這是一個用於測試的中文句子,內容沒有意義。"),
}


@pytest.mark.parametrize("name", SENTENCES)
def test_the_charset_is_that_of_the_header_the_page_or_a_guess(name: str) -> None:
    codec, sentence = SENTENCES[name]
    text = f"<html><body><p>{sentence * 8}"
    found = decoded(text.encode(codec), name.upper())
    assert (found.text, found.charset, found.charset_from) == (text, name, HEADER)
    named = f"<html><head><meta charset='{name}'>{sentence}"
    found = decoded(named.encode(codec))
    assert (found.text, found.charset, found.charset_from) == (named, name, META)
    older = f'<html><head><META http-equiv="Content-Type" content="text/html; charset={name}">{sentence}'
    assert to_text(older.encode(codec)) == older
    found = decoded(text.encode(codec))
    assert (found.text, found.charset_from) == (text, GUESS)


@pytest.mark.parametrize("declared", ["", "iso-8859-1", "shift_jis", "nonsense", "\0", "utf-8", "zlib", "x" * 10_000])
def test_long_valid_utf8_is_utf8_whatever_is_declared(declared: str) -> None:
    text = "<html>Größe, 日本語, ещё"
    found = decoded(text.encode(), declared)
    assert (found.text, found.charset) == (text, "utf-8")
    assert found.charset_from == (HEADER if declared == "utf-8" else GUESS)


@pytest.mark.parametrize(
    ("body", "charset", "text"),
    [
        (b"<p>\xc2\xb5\xc4\xa3</p>", "gbk", "<p>碌模</p>"),  # two characters that are valid UTF-8, too
        (b"<p>\xc6\xbc\xc5\xbe</p>", "euc-kr", "<p>티탑</p>"),
        (b"<p>\xcf\xa2\xcf\xa2\xcf\xa2\xcf\xa2</p>", "gbk", "<p>息息息息</p>"),
    ],
)
def test_a_few_characters_that_are_valid_utf8_by_chance_stay_in_the_declared_charset(
    body: bytes, charset: str, text: str
) -> None:
    body.decode()
    found = decoded(body, charset)
    assert (found.text, found.charset, found.charset_from) == (text, charset, HEADER)


@pytest.mark.parametrize(("mark", "name"), [
    (codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16le"), (codecs.BOM_UTF16_BE, "utf-16be"),
])  # fmt: skip
def test_a_byte_order_mark_beats_everything(mark: bytes, name: str) -> None:
    text = "<meta charset=koi8-r>Größe, 日本語"
    found = decoded(mark + text.encode(name), "cp1252")
    assert (found.text, found.charset, found.charset_from) == (text, name, MARK)


def test_the_header_beats_the_page_and_an_unknown_one_does_not() -> None:
    body = b"<meta charset=windows-1251>\xe4\xf6\xfc"
    assert to_text(body, "latin1") == "<meta charset=windows-1251>äöü"
    assert decoded(body, "latin-one").charset == "windows-1251"


@pytest.mark.parametrize("name", ["utf-16", "utf-16le", "utf-16be", "unicode", "ucs-2"])
@pytest.mark.parametrize("words", ["Проверка кодировки", "Seiten ohne Marke", "符号なしのページ"])
def test_utf16_needs_no_mark_if_the_header_declares_it(name: str, words: str) -> None:
    text = f"<html><body><p>{words}"
    codec = "utf-16-be" if name == "utf-16be" else "utf-16-le"
    assert to_text(text.encode(codec), name) == text


@pytest.mark.parametrize("words", ["plain words", "naïve words", "日本語の文章です。日本語の文章です。"])
def test_a_page_that_says_utf16_of_itself_is_not_and_a_header_cannot_make_it(words: str) -> None:
    text = f"<meta charset=utf-16><p>{words}"
    assert to_text(text.encode()) == text
    assert to_text(text.encode(), "utf-16le") == text


@pytest.mark.parametrize(
    ("declared", "good", "codec"),
    [
        ("windows-1253", "Δοκιμή κωδικοποίησης ελληνικής σελίδας. ", "cp1253"),
        ("euc-kr", "한국어 웹 페이지의 인코딩 시험입니다. ", "cp949"),
        ("gb2312", "中文网页编码测试，今天天气很好。", "gbk"),
        ("big5", "視野無限廣,窗外有藍天。", "big5"),
        ("euc-jp", "日本語の文章です。", "euc_jp"),
        ("shift_jis", "日本語の文章です。", "cp932"),
        ("windows-874", "ประเทศไทยเป็นราชอาณาจักร ", "cp874"),
        ("windows-1255", "כל בני האדם נולדו בני חורין ", "cp1255"),
        ("utf-8", "Größe und Länge ", "utf-8"),
    ],
)
def test_a_bad_or_cut_byte_costs_itself_and_never_the_page(declared: str, good: str, codec: str) -> None:
    body = good.encode(codec) * 20
    assert to_text(body + b"\xff", declared) == good * 20 + "\ufffd"
    assert to_text(b"\xff<p>" + body, declared) == "\ufffd<p>" + good * 20
    cut = decoded(("<p>" + good * 20 + good.strip()[:1]).encode(codec)[:-1], declared)
    assert cut.text.rstrip("\ufffd") == "<p>" + good * 20
    assert (cut.charset, cut.charset_from) == (charset_of(declared), HEADER)


@pytest.mark.parametrize(
    ("declared", "body", "text"),
    [
        ("gbk", b"<p>\x80 100", "<p>€ 100"),
        ("gb18030", b"\xa8\xbc\xa6\xd9", "ḿ︐"),
        ("euc-jp", b"\xad\xa1\xad\xb5\xad\xe2", "①Ⅰ№"),
        ("iso-2022-jp", b"\x1b$B-!-b\x1b(B", "①№"),
        ("shift_jis", b"\x80\x87\x40\xfa\x40\xa0", "\x80①ⅰ\ufffd"),
        ("big5", b"\xf9\xd6\x88\x62", "碁Ê̄"),
        ("windows-1255", b"\xca\xd9", "\u05ba\ufffd"),
        ("windows-1252", b"\x81\x8d\x80", "\x81\x8d€"),
        ("windows-874", b"\x80\x81\xdb", "€\x81\ufffd"),
        ("koi8-u", b"\xae\xbe", "ўЎ"),
        ("x-user-defined", b"a\xff", "a\uf7ff"),
        ("big5", b"\xa1<p>", "\ufffd<p>"),
        ("gbk", b"\x81\x30\x81<p>", "\ufffd0\ufffd<p>"),
        ("euc-kr", b"\xb0\x0a\xb0\xa1", "\ufffd\n가"),
    ],
)
def test_bytes_are_read_as_the_web_reads_them(declared: str, body: bytes, text: str) -> None:
    assert to_text(body, declared) == text


def test_damaged_utf8_that_nobody_declares_is_utf8_still() -> None:
    assert to_text("Größe und Länge".encode() + b"\xff and more") == "Größe und Länge\ufffd and more"
    assert decoded("Größe, schöne Übungen, ".encode("cp1252") * 9 + "für".encode()).charset == "windows-1252"


def test_zeros_are_left_out() -> None:
    assert to_text(b"ze\0ros in much longer text") == "zeros in much longer text"
    assert to_text("two bytes a letter".encode("utf-16-le"), "utf-16") == "two bytes a letter"
    assert to_text("two bytes a letter".encode("utf-16-le")) == "two bytes a letter"


def test_charsets_that_browsers_refuse_have_one_replacement_character_for_all() -> None:
    assert decoded(b"some ~{<:Ky2;~} text", "hz-gb-2312").text == "\ufffd"
    assert decoded(b"\x1b$)C\x0e!!", "iso-2022-kr").charset == "replacement"
    assert decoded(b"some ~{<:Ky2;~} text, and \x1b$)C nothing declared").charset != "replacement"


@pytest.mark.parametrize(
    "worst", [b"\x81", b"\x81\x30\x81", b"\x1b$B", b"\x1b$", b"\xff", b"\xe3\x81", b"\0\xd8", b"~{", b"<a "]
)
@pytest.mark.parametrize("declared", ["", "gb18030", "iso-2022-jp", "utf-16", "euc-jp"])
def test_two_megabytes_of_the_worst_take_less_than_a_second(worst: bytes, declared: str) -> None:
    body = worst * (2_000_000 // len(worst))
    start = time.process_time()
    decoded(body, declared)
    assert time.process_time() - start < 1


@given(
    body=st.one_of(st.binary(max_size=400), st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace"))),
    declared=st.one_of(st.sampled_from([*SENTENCES, "utf-16", "x-user-defined", "hz-gb-2312"]), st.text(max_size=20)),
    is_html=st.booleans(),
)
def test_any_bytes_under_any_label_become_valid_text(body: bytes, declared: str, is_html: bool) -> None:
    found = decoded(body, declared, is_html=is_html)
    assert "\0" not in found.text
    assert found.text.encode().decode() == found.text
    assert charset_of(found.charset) == found.charset
    assert found.charset_from in (MARK, HEADER, META, GUESS)
