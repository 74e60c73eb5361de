"""Words, lines and paragraphs: against str.split, str.splitlines and re, on any text and on what is not UTF-8."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.batch import TextBatch
from gneiss.filters import segmentation
from gneiss.filters.segmentation import (
    ENDS_SENTENCE,
    FIRST_OF_LINE,
    HAS_LETTER,
    HAS_ORDINARY,
    HASH_BASE,
    NOT_BLANK,
    hash_power,
    lines,
    paragraphs,
    whitespace_words,
)
from gneiss.filters.segmentation_characters import (
    DECIMAL,
    LETTER,
    LINE_BREAK,
    ORDINARY,
    SPACE,
    TERMINAL,
    segmentation_classes,
)
from tests.filters.heuristics import TEXTS, lines_of, with_line_feeds


def hash_of(text: str) -> int:
    """The documented polynomial, byte by byte."""
    value = 0
    for byte in text.encode():
        value = (value * HASH_BASE + byte + 1) % 2**64
    return value


def kind_of_word(word: str) -> int:
    classes = segmentation_classes()
    has_ordinary = any(classes[ord(character)] & ORDINARY for character in word)
    return HAS_LETTER * any(map(str.isalpha, word)) | HAS_ORDINARY * has_ordinary


def kind_of_line(line: str) -> int:
    if not line.strip():
        return 0
    return NOT_BLANK | ENDS_SENTENCE * bool(segmentation_classes()[ord(line[-1])] & TERMINAL)


def check(texts: list[str]) -> None:
    """Every field of every view, of each text."""
    batch = TextBatch.of(texts)
    words, of_lines, of_paragraphs = batch.view(whitespace_words), batch.view(lines), batch.view(paragraphs)
    for i, text in enumerate(texts):
        these = slice(*words.documents[i : i + 2])
        expected = text.split()
        bounds = zip(words.starts[these], words.ends[these], strict=True)
        assert [batch.data[start:stop].tobytes().decode() for start, stop in bounds] == expected
        assert words.lengths[these].tolist() == list(map(len, expected))
        assert words.hashes[these].tolist() == list(map(hash_of, expected))
        in_lines = [line.split() for line in text.splitlines()]
        firsts = [FIRST_OF_LINE * (at == 0) for line in in_lines for at in range(len(line))]
        assert words.kinds[these].tolist() == [
            kind_of_word(w) | first for w, first in zip(expected, firsts, strict=True)
        ]
        assert words.text_lines[i] == len(in_lines)

        these = slice(*of_lines.documents[i : i + 2])
        expected = lines_of(text)
        bounds = zip(of_lines.starts[these], of_lines.ends[these], strict=True)
        assert [batch.data[start:stop].tobytes().decode() for start, stop in bounds] == expected
        assert of_lines.lengths[these].tolist() == list(map(len, expected))
        assert of_lines.hashes[these].tolist() == list(map(hash_of, expected))
        assert of_lines.kinds[these].tolist() == list(map(kind_of_line, expected))

        these = slice(*of_paragraphs.documents[i : i + 2])
        expected = re.split(r"\n{2,}", with_line_feeds(text).strip())
        if text.strip():
            assert of_paragraphs.lengths[these].tolist() == list(map(len, expected))
            assert of_paragraphs.hashes[these].tolist() == list(map(hash_of, expected))
        else:
            assert of_paragraphs.lengths[these].tolist() == [0]
    assert {len(column) for column in of_lines[:-1]} == {of_lines.documents[-1]}
    assert of_lines.code_points().tolist() == [len(with_line_feeds(text)) for text in texts]


@given(st.lists(TEXTS, max_size=4))
def test_views_equal_python(texts: list[str]) -> None:
    check(texts)


def test_short_texts_of_all_that_matters() -> None:
    from itertools import product

    check(["".join(characters) for length in range(6) for characters in product(" \na\r.", repeat=length)])
    check(["".join(characters) for characters in product(" \na\r.\u2028\xa0", repeat=4)])


@pytest.mark.slow
@pytest.mark.parametrize("every", [17, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_every_code_point(every: int) -> None:
    """Of those beyond the first 65,536, each 17th, or all."""
    points = [*range(0x10000), *range(0x10000, 0x110000, every)]
    known = [chr(point) for point in points if not 0xD800 <= point < 0xE000]
    import unicodedata

    if unicodedata.unidata_version != "14.0.0":
        known = [
            character for character in known if unicodedata.category(character) != "Cn" and ord(character) < 0x3000
        ]
    check([joint.join(known[start : start + 999]) for start in range(0, len(known), 999) for joint in ("", "a ")])


@pytest.mark.slow
def test_classes_equal_python() -> None:
    import unicodedata

    if unicodedata.unidata_version != "14.0.0":
        pytest.skip(f"the tables are of Unicode 14.0, this Python of {unicodedata.unidata_version}")
    classes = segmentation_classes()
    characters = list(map(chr, range(0x110000)))
    decimal = re.compile(r"\d")
    for bit, is_so in (
        (SPACE, str.isspace),
        (LETTER, str.isalpha),
        (LINE_BREAK, lambda character: len(f"a{character}b".splitlines()) > 1),
        (DECIMAL, lambda character: bool(decimal.match(character))),
    ):
        assert (classes & bit != 0).tolist() == list(map(is_so, characters))
    assert np.count_nonzero(classes & TERMINAL) == 159
    assert np.count_nonzero(~classes & ORDINARY) == 281
    assert not (classes & TERMINAL != 0)[classes & ORDINARY != 0].any()


@given(st.text(max_size=20), st.text(max_size=20))
def test_hash_of_joined_pieces(left: str, right: str) -> None:
    joined = (hash_of(left) * int(hash_power(len(right.encode()))) + hash_of(right)) % 2**64
    assert joined == hash_of(left + right)


def test_a_slice_has_the_views_of_its_documents() -> None:
    texts = ["one two\n\nthree", "", "four\nfive", " six "]
    whole, part = TextBatch.of(texts), TextBatch.of(texts).slice(1, 4)
    assert part.view(whitespace_words).hashes.tolist() == whole.view(whitespace_words).hashes[3:].tolist()
    assert part.view(lines).lengths.tolist() == whole.view(lines).lengths[3:].tolist()
    assert part.view(paragraphs).hashes.tolist() == whole.view(paragraphs).hashes[2:].tolist()


def test_views_are_computed_once() -> None:
    batch = TextBatch.of(["a b"])
    assert batch.view(whitespace_words) is batch.view(whitespace_words)


@pytest.mark.parametrize(
    "tail", [b"\xf0", b"\xf4\xbf\xbf\xbf", b"\xff\xff", b"\xe2\x80", b"\xed\xa0\x80", b"\xc2", b"\x80\x80"]
)
@pytest.mark.slow
def test_what_is_not_utf8_stays_inside_the_document(tail: bytes) -> None:
    data = np.frombuffer(b"one\n\ntwo " + tail + b" four\n\nfour", np.uint8)
    batch = TextBatch(data, np.array([0, 9 + len(tail), len(data)], np.int64))
    words = batch.view(whitespace_words)
    assert words.hashes[words.documents[1] :].tolist() == [hash_of("four"), hash_of("four")]
    assert batch.view(lines).lengths[batch.view(lines).documents[1] :].tolist() == [5, 0, 4]
    of_paragraphs = batch.view(paragraphs)
    assert of_paragraphs.hashes[of_paragraphs.documents[1] :].tolist() == [hash_of("four"), hash_of("four")]
    assert (words.ends > words.starts).all()
    assert segmentation.count_code_points(data, 0, 3) == 3
