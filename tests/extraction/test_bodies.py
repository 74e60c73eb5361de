"""Codings are undone, bounded, and forgiven where they are not there."""

from __future__ import annotations

import gzip
import resource
import zlib
from contextlib import suppress
from functools import partial
from random import Random
from time import process_time

import brotli
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.extraction.bodies import BrokenBodyError, TooLargeError, decode_body

BODY = b"<html><p>Some words. " * 50


def bare(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


def chunked(body: bytes) -> bytes:
    chunks = [body[start : start + 100] for start in range(0, len(body), 100)]
    return b"".join(b"%x;ext=1\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


CODED = {
    "gzip": gzip.compress(BODY), "x-gzip": gzip.compress(BODY[:100]) + gzip.compress(BODY[100:]),
    "deflate": zlib.compress(BODY), "br": brotli.compress(BODY), "zstd": pa.compress(BODY, "zstd", asbytes=True),
    "chunked": chunked(BODY), "identity": BODY,
}  # fmt: skip


@pytest.mark.parametrize(
    ("coding", "coded"), [*CODED.items(), ("deflate", bare(BODY))], ids=[*CODED, "deflate without its header"]
)
def test_codings_are_undone(coding: str, coded: bytes) -> None:
    assert decode_body(coded, [coding], len(BODY)) == BODY
    assert decode_body(chunked(coded), [coding, "chunked"], len(BODY)) == BODY


@pytest.mark.parametrize("coding", [*CODED, "br-new"])
def test_a_page_that_is_decoded_already_is_taken_as_it_is(coding: str) -> None:
    assert decode_body(BODY, [coding], len(BODY)) == BODY


@pytest.mark.parametrize(("coding", "coded"), CODED.items(), ids=list(CODED))
def test_nothing_is_decoded_beyond_the_limit(coding: str, coded: bytes) -> None:
    with pytest.raises(TooLargeError):
        decode_body(coded, [coding], len(BODY) - 1)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
@pytest.mark.slow
def test_bombs_are_not_blown_up(coding: str) -> None:
    zeros = bytes(200_000_000)
    packers = {"gzip": gzip.compress, "deflate": zlib.compress, "br": lambda body: brotli.compress(body, quality=1)}
    bomb = packers[coding](zeros) if coding in packers else pa.compress(zeros, "zstd", asbytes=True)
    del zeros
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(TooLargeError):
        decode_body(bomb, [coding], 1_000_000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_garbage_in_a_coding_is_an_error(coding: str) -> None:
    magic = {"gzip": b"\x1f\x8b\x08", "zstd": b"\x28\xb5\x2f\xfd"}[coding]
    with pytest.raises(BrokenBodyError):
        decode_body(magic + b"\xff" * 50, [coding], 1000)
    with pytest.raises(BrokenBodyError, match="5 codings"):
        decode_body(magic + b"\xff" * 50, [coding] * 5, 10_000)
    with pytest.raises(BrokenBodyError, match="unknown coding 'snappy'"):
        decode_body(bytes(range(256)), ["snappy"], 1000)


def test_what_was_cut_short_is_decoded_as_far_as_it_goes() -> None:
    assert BODY.startswith(decode_body(gzip.compress(BODY)[:-12], ["gzip"], 10_000))
    assert decode_body(chunked(BODY)[:250], ["chunked"], 10_000) == BODY[: 100 + 100 + 16]


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
@pytest.mark.parametrize("share", [0.5, 0.9, 1])
def test_every_coding_may_be_cut_short(coding: str, share: float) -> None:
    random = Random(1)
    body = b" ".join(b"%x" % random.getrandbits(30) for _ in range(60_000))
    whole = {
        "gzip": gzip.compress, "deflate": zlib.compress, "br": lambda content: brotli.compress(content, quality=2),
        "zstd": partial(pa.compress, codec="zstd", asbytes=True),
    }[coding](body)  # fmt: skip
    found = decode_body(whole[: int(share * (len(whole) - 1))], [coding], len(body))
    assert body.startswith(found)
    assert len(found) >= (share - 0.4) * len(body)


@pytest.mark.parametrize(("coding", "of_checksum"), [("gzip", -6), ("gzip", -2), ("deflate", -1), ("zstd", -3)])
def test_a_wrong_checksum_at_the_end_costs_nothing(coding: str, of_checksum: int) -> None:
    coded = bytearray(CODED[coding])
    if coding == "zstd":
        coded[4] |= 4  # a checksum follows
        coded += bytes(4)
    coded[of_checksum] ^= 0xFF
    assert decode_body(bytes(coded), [coding], len(BODY)) == BODY


@pytest.mark.parametrize(
    "decoded",
    [
        b"\n" * 70 + BODY, b" " * 65 + BODY, b"\xef\xbb\xbf" + BODY, b"Plain words, no tag.", b"", b"\t",
        "<p>Größe".encode("latin-1"), "<p>視野無限廣".encode("big5"), b"\xff\xfe" + "<p>щ".encode("utf-16-le"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("coding", [*CODED, "utf-8", "text/html", "binary", "none", "", "gzip,utf-8"])
def test_text_under_a_stale_coding_is_taken_as_it_is(coding: str, decoded: bytes) -> None:
    assert decode_body(decoded, coding.split(","), 10_000) == decoded


@pytest.mark.parametrize(
    ("coded", "expected"),
    [
        (b"\r\n5\r\nwords\r\n0\r\n\r\n", b"words"),
        (b"5\nwords\n0\n\n", b"words"),
        (b"  5  \r\nwords\r\n0\r\n\r\n", b"words"),
        (b"0005;name=value; more\r\nwords\r\n000\r\n\r\n", b"words"),
        (b"5\r\nwords5\r\nwords0\r\n", b"wordswords"),
        (b"5\r\nwords\r\n\r\n\r\n6\r\n words\r\n", b"words words"),
        (b"5\r\nwords\r\nno size\r\n more\r\n0\r\n\r\n", b"words"),
        (b"5\r\nwords\r\n-5\r\nwords", b"words"),
        (b"ff\r\nwords", b"words"),
        (b"0\r\n\r\n", b""),
        (b"<p>words", b"<p>words"),
        (b"Added words\r\n", b"Added words\r\n"),
        (b"5 words\r\n and more", b"5 words\r\n and more"),
    ],
)
def test_chunks_are_joined_however_irregular(coded: bytes, expected: bytes) -> None:
    assert decode_body(coded, ["chunked"], 1000) == expected


SIZE = 2_000_000


@pytest.mark.parametrize(
    ("coding", "coded"),
    [
        ("gzip", gzip.compress(b"", mtime=0) * (SIZE // 20)),
        ("gzip", b"\x1f\x8b\x08\x18" + b"\0" * 6 + b"x" * SIZE),
        ("chunked", b"1\r\na\r\n" * (SIZE // 6)),
        ("chunked", b"\r\n" * (SIZE // 2)),
        ("chunked", b"0" * SIZE),
        ("chunked", b"1;" + b"x" * SIZE),
        ("deflate", b"\0\0\0\xff\xff" * (SIZE // 5)),
        ("br", brotli.compress(b"") * SIZE),
        ("zstd", pa.compress(b"a", "zstd", asbytes=True) * (SIZE // 14)),
    ],
    ids=["members", "name", "chunks", "blank lines", "zeros", "extension", "blocks", "streams", "frames"],
)
@pytest.mark.slow
def test_the_worst_bodies_take_linear_time(coding: str, coded: bytes) -> None:
    before = process_time()
    with suppress(BrokenBodyError):
        decode_body(coded, [coding], 2 * SIZE)
    assert process_time() - before < 5  # the issue allows one on a quiet machine; a quadratic one takes minutes


@given(st.binary(max_size=300), st.lists(st.sampled_from([*CODED, "zip"]), max_size=3))
def test_any_body_under_any_codings_ends_in_bytes_or_in_one_of_two_errors(body: bytes, codings: list[str]) -> None:
    with suppress(BrokenBodyError, TooLargeError):
        assert len(decode_body(body, codings, 1000)) <= 1000
