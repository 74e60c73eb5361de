"""Codings are undone, bounded, and forgiven where they are not there."""

from __future__ import annotations

import gzip
import resource
import zlib
from contextlib import suppress

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
        decode_body(BODY, [coding] * 5, 10_000)
    with pytest.raises(BrokenBodyError, match="unknown coding 'snappy'"):
        decode_body(b"\xff\xfe", ["snappy"], 1000)


def test_what_was_cut_short_is_decoded_as_far_as_it_goes() -> None:
    assert BODY.startswith(decode_body(gzip.compress(BODY)[:-12], ["gzip"], 10_000))
    assert decode_body(chunked(BODY)[:250], ["chunked"], 10_000) == BODY[: 100 + 100 + 16]


@given(st.binary(max_size=300), st.lists(st.sampled_from([*CODED, "zip"]), max_size=3))
def test_any_body_under_any_codings_ends_in_bytes_or_in_one_of_two_errors(body: bytes, codings: list[str]) -> None:
    with suppress(BrokenBodyError, TooLargeError):
        assert len(decode_body(body, codings, 1000)) <= 1000
