"""The decoders are those of the Encoding Standard: every character of every index, and what becomes of bad bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from functools import cache

import pytest
from endec import decode
from hypothesis import given
from hypothesis import strategies as st

from gneiss.extraction.labels import LABELS
from tests.extraction import encoding_standard as standard
from tests.extraction.encoding_standard import BAD, Index

#: Index of the standard → SHA-256 of its lines `pointer<TAB>0xCODE POINT`, as of 2024-09-18, the first 16 digits. Of
#: gb18030's ranges, the lines of all pointers in the basic plane but U+FFFD's.
DIGESTS = {
    "big5": "82955d01e9245a6c", "euc-kr": "d7341498c7b6e3b4", "gb18030": "c61e6fea864b1031",
    "ibm866": "7a24b25b091fff71", "iso-8859-10": "daf5e96e8a40b465", "iso-8859-13": "070f1d04a5bfc5af",
    "iso-8859-14": "a4b5e7b0682cf293", "iso-8859-15": "d84389395e3f4357", "iso-8859-16": "a90791b63addf7aa",
    "iso-8859-2": "e6b2c53e19085c96", "iso-8859-3": "11fabf3a262d8328", "iso-8859-4": "5d411a5bb2e204f7",
    "iso-8859-5": "cd861967bcde91b9", "iso-8859-6": "2580c5ec786b87f0", "iso-8859-7": "c787904119f7eb9a",
    "iso-8859-8": "4b76e64b211c840c", "jis0208": "67476c72abad4024", "jis0212": "718b6f5423bc581c",
    "koi8-r": "57034714baa7f0df", "koi8-u": "9535eead2bd3bc88", "macintosh": "87a9d5337ded8e0e",
    "windows-1250": "c2385602cdf07f01", "windows-1251": "9dd51c70db38bb64", "windows-1252": "2d99b0c490e6eed8",
    "windows-1253": "125bc125007c2978", "windows-1254": "bf2b623e0d97a54c", "windows-1255": "20d837cf997c6476",
    "windows-1256": "5dc3f09e691c3ffd", "windows-1257": "eb656a69246a1fdf", "windows-1258": "5d260284d13eced1",
    "windows-874": "4aedc3005f1a5816", "x-mac-cyrillic": "1bb857b3c113bdeb", "gb18030-ranges": "e254d7377ca46229",
}  # fmt: skip
OF_ONE_BYTE = sorted({*DIGESTS} - {"big5", "euc-kr", "gb18030", "gb18030-ranges", "jis0208", "jis0212"})


def decoded(body: bytes, charset: str) -> str:
    return decode(body, charset, "replace", bom="ignore")


def index_of(charset: str, bytes_of: Mapping[int, bytes]) -> Index:
    """Pointer → character, of those that the decoder has."""
    found = {pointer: decoded(body, charset) for pointer, body in bytes_of.items()}
    return {pointer: text for pointer, text in found.items() if len(text) == 1 and text != BAD}


def pairs(leads: Iterable[int], trails: Iterable[int], before: bytes = b"") -> dict[int, bytes]:
    """Pointer → bytes, where each lead has a row of all trails."""
    row = list(trails)
    return {
        number * len(row) + place: before + bytes([lead, trail])
        for number, lead in enumerate(leads)
        for place, trail in enumerate(row)
    }


@cache
def indexes() -> dict[str, Index]:
    """All indexes, read out of the decoders."""
    whole = range(0x81, 0xFF)
    kuten = range(0xA1, 0xFF)
    windows = pairs([*range(0x81, 0xA0), *range(0xE0, 0xFD)], [*range(0x40, 0x7F), *range(0x80, 0xFD)])
    return {
        **{name: index_of(name, {byte - 0x80: bytes([byte]) for byte in range(0x80, 0x100)}) for name in OF_ONE_BYTE},
        "big5": index_of("big5", pairs(whole, [*range(0x40, 0x7F), *range(0xA1, 0xFF)])),
        "euc-kr": index_of("euc-kr", pairs(whole, range(0x41, 0xFF))),
        "gb18030": index_of("gb18030", pairs(whole, [*range(0x40, 0x7F), *range(0x80, 0xFF)])),
        "gb18030-ranges": index_of("gb18030", {pointer: four_bytes(pointer) for pointer in range(39420)}),
        "jis0208": index_of("shift_jis", {p: body for p, body in windows.items() if not 8836 <= p <= 10715}),
        "jis0212": index_of("euc-jp", pairs(kuten, kuten, b"\x8f")),
    }


def four_bytes(pointer: int) -> bytes:
    """The bytes of a pointer into gb18030's ranges."""
    first, second, third = pointer // 12600, pointer // 1260 % 10, pointer // 10 % 126
    return bytes([0x81 + first, 0x30 + second, 0x81 + third, 0x30 + pointer % 10])


@cache
def oracles() -> dict[str, Callable[[bytes], str]]:
    """Charset → its decoder as the standard words it."""
    index = indexes()
    jis0208, jis0212 = index["jis0208"], index["jis0212"]

    def in_ranges(pointer: int) -> str | None:
        if pointer >= 189000:  # beyond the basic plane a range is one to one
            return chr(0x10000 + pointer - 189000) if pointer <= 1237575 else None
        return index["gb18030-ranges"].get(pointer)

    def of_one_byte(name: str) -> Callable[[bytes], str]:
        return lambda body: standard.one_byte(body, index[name])

    return {
        **{name: of_one_byte(name) for name in OF_ONE_BYTE},
        "iso-8859-8-i": of_one_byte("iso-8859-8"),
        "gbk": lambda body: standard.gb18030(body, index["gb18030"], in_ranges),
        "gb18030": lambda body: standard.gb18030(body, index["gb18030"], in_ranges),
        "big5": lambda body: standard.big5(body, index["big5"]),
        "euc-kr": lambda body: standard.euc_kr(body, index["euc-kr"]),
        "euc-jp": lambda body: standard.euc_jp(body, jis0208, jis0212),
        "shift_jis": lambda body: standard.shift_jis(body, jis0208),
        "iso-2022-jp": lambda body: standard.iso_2022_jp(body, jis0208),
        "utf-8": lambda body: body.decode("utf-8", "replace"),
        "utf-16le": lambda body: standard.utf_16(body, False),
        "utf-16be": lambda body: standard.utf_16(body, True),
        "x-user-defined": standard.x_user_defined,
        "replacement": standard.replacement,
    }


@pytest.mark.parametrize("name", DIGESTS)
def test_every_character_of_every_index_is_the_standards(name: str) -> None:
    lines = "\n".join(standard.digest_lines(indexes()[name]))
    assert hashlib.sha256(lines.encode()).hexdigest()[:16] == DIGESTS[name]


def test_there_is_an_oracle_for_every_charset_and_every_label_means_its_charset() -> None:
    assert set(oracles()) == set(LABELS.values())
    sample = bytes(range(256)) + b"\x1b$B0!\x1b(B" + bytes(range(255, 0, -1))
    for label, name in LABELS.items():
        assert decoded(sample, label) == oracles()[name](sample), label


@pytest.mark.parametrize("name", ["big5", "euc-kr", "gbk", "shift_jis", "euc-jp"])
def test_every_pair_of_bytes_is_decoded_as_by_the_standard(name: str) -> None:
    for lead in range(0x80, 0x100):
        body = b"\n".join(bytes([lead, trail]) for trail in range(0x100))
        assert decoded(body, name) == oracles()[name](body), hex(lead)


@pytest.mark.parametrize("pointer", [7457, 39419, 39420, 188999, 189000, 1237575, 1237576, 1587599])
def test_the_ends_of_the_ranges_of_four_bytes(pointer: int) -> None:
    assert decoded(four_bytes(pointer), "gb18030") == oracles()["gb18030"](four_bytes(pointer))


#: Bytes at which some decoder changes its mind.
EDGES = st.sampled_from(list(b"\x1b$(BJI@\x0e\\~0 9A\x7f\x80\x81\x8e\x8f\xa0\xa1\xc8\xd8\xdc\xdf\xe0\xfc\xfe\xff\n"))


@given(
    body=st.lists(EDGES | st.integers(0, 255), max_size=24).map(bytes), name=st.sampled_from(sorted({*LABELS.values()}))
)
def test_bad_and_cut_bytes_are_replaced_as_by_the_standard(body: bytes, name: str) -> None:
    assert decoded(body, name) == oracles()[name](body)
