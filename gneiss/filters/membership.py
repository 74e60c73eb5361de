"""Membership: is a document's id in a published release, by the Bloom filter published with it?"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from gneiss.annotation import Annotate, Annotator, Column
from gneiss.errors import ModelError
from gneiss.filters.page import Page

if TYPE_CHECKING:
    import pyarrow as pa

    from gneiss.batch import TextBatch

PAGES = (
    Page(
        code="GW05",
        name="membership",
        summary="Keeps the documents of FineWeb whose ids are in the published GneissWeb.",
        why=(
            "The release is a set of ids, as a Bloom filter of 28 GB. It gives the published selection "
            "without any model, and a reference for your own selection. A Bloom filter has false positives, "
            "at the rate it was built for, but no false negatives."
        ),
        formula="all bits selected by the 128-bit key of the id are set in the filter",
        source="ibm-granite/GneissWeb.bloom; B. Bloom, Space/time trade-offs in hash coding (1970); format: rbloom",
        cost="some microseconds per id, and one page read per bit while the filter is not in memory",
        example_kept="<urn:uuid:0d8a309d-25c5-405d-a08a-c11239f0d717>, if GneissWeb has it",
        example_dropped="<urn:uuid:00000000-0000-0000-0000-000000000000>, which no release has",
        rules={"published": "in_gneissweb"},
    ),
)

_MASK = (1 << 128) - 1
#: rbloom's linear congruential generator modulo 2**128.
_MULTIPLIER = 47026247687942121848144207491837418733


@dataclass(frozen=True)
class Membership(Annotator):
    """Whether each id is in a Bloom filter of rbloom with the key of GneissWeb's release.

    source: the filter, a local path or `hf://repo@revision/file`; column: the name of the annotation. It annotates the
    ids of documents, not their texts.

    >>> Membership("published.bloom").columns[0].name
    'in_gneissweb'
    """

    key = "membership"
    maps_files = True
    reads = "id"

    source: str
    column: str = "in_gneissweb"

    @property
    def columns(self) -> tuple[Column, ...]:
        """The annotations it computes, in order."""
        return (Column(self.column, "bool", f"the id is in {self.source} (a few that are not may be called so)"),)

    @property
    def model_files(self) -> tuple[str, ...]:
        """The filter's file."""
        return (self.source,)

    def load(self, files: Mapping[str, Path]) -> Annotate:
        """Map the filter into memory, which all workers of a node share, and return the function that looks ids up.

        Raises ModelError when the file cannot be a filter.
        """
        contains = open_bloom(files[self.source])

        def compute(ids: TextBatch) -> Mapping[str, pa.Array]:
            import pyarrow as pa

            return {self.column: pa.array([contains(key_of(id)) for id in ids.texts()], pa.bool_())}

        return compute


def open_bloom(path: Path) -> Callable[[int], bool]:
    """Map a filter that rbloom saved: bits per key as little-endian uint64, then the bits, lowest of a byte first.

    Returns the test for a 128-bit key. Raises ModelError when the file cannot be a filter.
    """
    try:
        with path.open("rb") as file:
            size_bytes = path.stat().st_size
            if size_bytes < 9:
                raise ModelError(f"{path}: {size_bytes} bytes cannot be a Bloom filter of rbloom")
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise ModelError(f"{path}: cannot open the Bloom filter: {error}") from error
    bits_per_key = int.from_bytes(mapped[:8], "little")
    if not 1 <= bits_per_key <= 128:
        raise ModelError(f"{path}: not a Bloom filter of rbloom: it claims {bits_per_key} bits per key")
    bits = (size_bytes - 8) * 8

    def contains(key: int) -> bool:
        for _ in range(bits_per_key):
            key = (key * _MULTIPLIER + 1) & _MASK
            bit = (key >> 32 & 0xFFFFFFFFFFFFFFFF) % bits
            if not mapped[8 + (bit >> 3)] >> (bit & 7) & 1:
                return False
        return True

    return contains


def key_of(id: str) -> int:
    """The 128-bit key of an id: the first 16 bytes of the sha256 of its pickle of protocol 4, as the release made it.

    >>> hex(key_of("<urn:uuid:0d8a309d-25c5-405d-a08a-c11239f0d717>"))
    '0x73d6524d7e144e83605ba1cb32fe3176'
    """
    return int.from_bytes(sha256(_pickled(id.encode())).digest()[:16], "big")


def _pickled(text: bytes) -> bytes:
    """The bytes of pickle.dumps(str, 4), independent of the Python version.

    A frame holds the string, its length in one byte if that is enough, "memoize" and "stop"; 64 KB go unframed.
    """
    opcode = b"\x8c" + len(text).to_bytes(1) if len(text) < 256 else b"X" + len(text).to_bytes(4, "little")
    body = opcode + text + b"\x94."
    return b"\x80\x04" + (b"\x95" + len(body).to_bytes(8, "little") if len(text) < 65536 else b"") + body
