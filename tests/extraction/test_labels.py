"""A label means what the Encoding Standard says, and nothing else does."""

from __future__ import annotations

import pytest

from gneiss.extraction.labels import LABELS, charset_of


def test_all_labels_of_the_standard_are_known() -> None:
    assert len(LABELS) == 228
    assert len(set(LABELS.values())) == 40
    assert all(charset_of(label) == name for label, name in LABELS.items())
    assert all(LABELS[name] == name for name in LABELS.values())


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("ISO-8859-1", "windows-1252"), (" latin1\n", "windows-1252"), ("gb2312", "gbk"), ("x-sjis", "shift_jis"),
        ("KS_C_5601-1989", "euc-kr"), ("windows-949", "euc-kr"), ("x-mac-roman", "macintosh"), ("UTF8", "utf-8"),
        ("tis-620", "windows-874"), ("unicode", "utf-16le"), ("ISO_8859-2:1987", "iso-8859-2"),
        ("logical", "iso-8859-8-i"), ("csksc56011987", "euc-kr"), ("sun_eu_greek", "iso-8859-7"),
        ("iso-2022-cn-ext", "replacement"), ("dos-874", "windows-874"), ("cseucpkdfmtjapanese", "euc-jp"),
    ],
)  # fmt: skip
def test_a_label_stands_for_what_browsers_read_it_as(label: str, name: str) -> None:
    assert charset_of(label) == name


@pytest.mark.parametrize(
    "label",
    ["rot13", "zlib", "base64", "unicode_escape", "idna", "utf-7", "utf-32", "..", "", "latin\u00a01", "\u212aoi8-r",
     "utf 8"],
)  # fmt: skip
def test_nothing_else_is_a_label(label: str) -> None:
    assert charset_of(label) is None
