"""Membership: against rbloom itself, and against a filter written here by hand."""

from __future__ import annotations

import pickle
import random
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rbloom import Bloom

from gneiss.annotation import annotate
from gneiss.errors import ModelError
from gneiss.filters.membership import Membership, _pickled, key_of, open_bloom


def published_key(id: str) -> int:
    """The key as the release's own code computes it, signed, with the protocol of the Pythons of its time."""
    return int.from_bytes(sha256(pickle.dumps(id, 4)).digest()[:16], "big", signed=True)


def urn(number: int) -> str:
    return f"<urn:uuid:{random.Random(number).randbytes(16).hex()}>"


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A filter of 2,000 ids, saved by rbloom."""
    bloom = Bloom(2000, 0.02, published_key)
    bloom.update(urn(number) for number in range(2000))
    path = tmp_path_factory.mktemp("bloom") / "published.bloom"
    bloom.save(str(path))
    return path


def test_equals_rbloom(saved: Path) -> None:
    bloom = Bloom.load(str(saved), published_key)
    ids = [urn(number) for number in range(20_000)] + ["", "é", "x" * 300]
    answers = annotate(Membership(str(saved)), ids)["in_gneissweb"].to_pylist()
    assert answers == [id in bloom for id in ids]
    assert all(answers[:2000])
    assert 0 < sum(answers[2000:]) < 1000


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(), max_size=30), st.lists(st.text(), max_size=30), st.sampled_from([0.5, 0.1, 1e-6]))
def test_equals_rbloom_for_any_filter(
    tmp_path_factory: pytest.TempPathFactory, inside: list[str], outside: list[str], rate: float
) -> None:
    bloom = Bloom(max(1, len(inside)), rate, published_key)
    bloom.update(inside)
    path = tmp_path_factory.mktemp("bloom") / "any.bloom"
    bloom.save(str(path))
    if int.from_bytes(path.read_bytes()[:8], "little") == 0:
        return  # a filter of rate 0.5 may get no bits at all; refused below
    contains = open_bloom(path)
    assert all(contains(key_of(id)) for id in inside)
    assert [contains(key_of(id)) for id in outside] == [id in bloom for id in outside]


@settings(deadline=None)
@given(st.text() | st.integers(0, 70_000).map("x".__mul__))
def test_key_is_that_of_pickle(id: str) -> None:
    assert _pickled(id.encode()) == pickle.dumps(id, 4)
    assert key_of(id) == published_key(id) % 2**128


def test_a_filter_written_by_hand(tmp_path: Path) -> None:
    """One key, three bits, 192 bits in all: the definition, step by step."""
    key, bits = key_of("here"), bytearray(24)
    state = key
    for _ in range(3):
        state = (state * 47026247687942121848144207491837418733 + 1) % 2**128
        bit = (state >> 32) % 2**64 % 192
        bits[bit // 8] |= 1 << bit % 8
    path = tmp_path / "hand.bloom"
    path.write_bytes((3).to_bytes(8, "little") + bytes(bits))
    assert annotate(Membership(str(path), "known"), ["here", None, "there"])["known"].to_pylist() == [True, None, False]


@pytest.mark.parametrize("data", [b"", b"\x03" * 8, bytes(64), (129).to_bytes(8, "little") + bytes(64), b"\xff" * 64])
def test_a_corrupt_file_is_named(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "corrupt.bloom"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"corrupt\.bloom"):
        Membership(str(path)).load({str(path): path})
    with pytest.raises(ModelError, match=r"missing\.bloom"):
        open_bloom(tmp_path / "missing.bloom")
