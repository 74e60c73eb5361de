"""Plain text: one document a file, whose only column is the text that a recipe names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import ClassVar

import pyarrow as pa

from gneiss.input.formats import lines
from gneiss.input.formats.format import CutFile, Part
from gneiss.store.place import Place

_MOST_BYTES, _BLOCK_BYTES = lines.MOST_LINE_BYTES, 1 << 20
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class PlainText:
    """Files of text. A part is a file, which is one row."""

    text: str = ""
    suffixes: ClassVar[tuple[str, ...]] = tuple(f".txt{codec}" for codec in ("", *lines.CODECS))
    counts_rows: ClassVar[bool] = True
    finds_malformed: ClassVar[bool] = False

    def together(self, text: str, schemas: Sequence[pa.Schema]) -> tuple[PlainText, Sequence[pa.Schema]]:
        """See Format."""
        return replace(self, text=text), schemas

    def for_worker(self) -> PlainText:
        """See Format."""
        return self

    def digest(self, file: Place) -> str:
        """See Format."""
        return lines.digest(file)

    def cut(self, file: Place, text: str, part_max_bytes: int, held: Sequence[str] = ()) -> CutFile:
        """See Format."""
        _, size = lines.sample(file, 0)
        part = Part("", 0, 1, 1, size, table_bytes=size, likely_rows=1)
        return CutFile(pa.schema([(text, pa.string())]), (part,), lines.digest(file))

    def schema(self, file: Place, part: Part) -> pa.Schema:
        """See Format."""
        return pa.schema([(self.text, pa.string())])

    def tables(self, file: Place, part: Part, columns: Sequence[str] | None) -> Iterator[pa.Table]:
        """See Format. What is not UTF-8 is a string all the same, as it is in a Parquet file."""
        content = _content(file).removeprefix(_BOM)
        offsets = pa.array([0, len(content)], pa.int32()).buffers()[1]
        table = pa.table({self.text: pa.StringArray.from_buffers(1, offsets, pa.py_buffer(content))})
        yield table if columns is None else table.select(list(columns))


def _content(file: Place) -> bytes:
    """All bytes of a file, decompressed. Raises OSError when they are too many, or damaged."""
    with ExitStack() as opened:
        stream = opened.enter_context(file.open())
        if codec := lines.codec_of(file.name):
            stream = opened.enter_context(pa.CompressedInputStream(stream, codec))
        content = bytearray()
        while block := stream.read(_BLOCK_BYTES):
            content += block
            if len(content) > _MOST_BYTES:
                raise OSError(f"expected one document of at most {_MOST_BYTES >> 20} MiB, found a longer one; split it")
    return bytes(content)
