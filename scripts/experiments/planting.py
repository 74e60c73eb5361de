"""Planting: documents of several kinds, made in shares of bytes and shuffled, beside real ones that are there once."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from gneiss.dedup import find_near_duplicates

#: Makes one document; StopIteration where there is no further one.
Maker: TypeAlias = Callable[[], str]


def shortened(text: str, max_bytes: int) -> str:
    """The beginning of a text, up to a line end or space where there is one.

    >>> shortened("one two three", 10), shortened("one", 10)
    ('one two', 'one')
    """
    data = text.encode()
    if len(data) <= max_bytes:
        return text
    begin = data[:max_bytes].decode(errors="ignore")
    end = max(begin.rfind("\n"), begin.rfind(" "))
    return begin[:end] if end > 0 else begin


def firsts(texts: Sequence[str]) -> list[int]:
    """The places of texts, one of each near-duplicate cluster."""
    found = find_near_duplicates(texts)
    pairs = zip(found["document"].to_pylist(), found["first"].to_pylist(), strict=True)
    again = {document for document, first in pairs if document != first}
    return [place for place in range(len(texts)) if place not in again]


def made(
    makers: Mapping[str, tuple[float, Maker]], corpus_bytes: int, rng: random.Random, real: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Texts and their kinds, shuffled; makers: kind → its share of the bytes, and what makes it; real: how many
    real documents there are, for a message. Raises SystemExit where these are too few.
    """
    found: list[tuple[str, str]] = []
    for kind, (share, make) in makers.items():
        try:
            found += [(text, kind) for text in up_to(share * corpus_bytes, make)]
        except StopIteration:
            raise SystemExit(f"--corpus has too few texts: {real} for {corpus_bytes:,} bytes") from None
    rng.shuffle(found)
    return tuple(text for text, _ in found), tuple(kind for _, kind in found)


def up_to(size_bytes: float, make: Maker) -> list[str]:
    """Documents until they have so many bytes."""
    found: list[str] = []
    while size_bytes > 0:
        found.append(make())
        size_bytes -= len(found[-1].encode())
    return found


def with_replaced_words(text: str, share: float, vocabulary: Sequence[str], rng: random.Random) -> str:
    """A text in which so many words, on average, are others."""
    return " ".join(rng.choice(vocabulary) if rng.random() < share else word for word in text.split(" "))


def write_input(folder: Path, texts: Sequence[str], kinds: Sequence[str]) -> Path:
    """A folder `input` in a folder, with a Parquet file of planted documents."""
    (folder / "input").mkdir(parents=True)
    ids = [f"document-{i}" for i in range(len(texts))]
    pq.write_table(pa.table({"id": ids, "text": texts, "kind": kinds}), folder / "input" / "planted.parquet")
    return folder / "input"
