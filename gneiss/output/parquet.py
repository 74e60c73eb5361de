"""The one Parquet writer: equal rows give equal bytes, and a file appears under its name only when it is whole."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from gneiss.errors import OutputError

ROW_GROUP_BYTES = 64_000_000
_OPTIONS = {"compression": "zstd", "compression_level": 3, "version": "2.6", "data_page_version": "1.0"}


@dataclass(frozen=True)
class WrittenFile:
    """A finished file: path relative to the output, size, xxh3-128 of its bytes, rows."""

    path: str
    size_bytes: int
    checksum: str
    rows: int


def write_parquet(
    tables: Iterable[pa.Table], schema: pa.Schema, root: Path, path: str, metadata: dict[str, str] | None = None
) -> WrittenFile:
    """Write tables of one schema to `root / path`, in row groups of about 64 MB, whatever the chunks they come in.

    Row groups end only where a table ends, so equal sequences of tables give equal bytes. Raises OutputError.
    """
    schema = schema.with_metadata({**(schema.metadata or {}), **(metadata or {})}) if metadata else schema
    with Aside(root, path) as aside, pq.ParquetWriter(aside.temporary, schema, **_OPTIONS) as writer:
        rows, waiting, waiting_bytes = 0, [], 0
        for table in tables:
            rows += table.num_rows
            waiting.append(table)
            waiting_bytes += table.nbytes
            if waiting_bytes >= ROW_GROUP_BYTES:
                _write_group(writer, waiting)
                waiting, waiting_bytes = [], 0
        if sum(table.num_rows for table in waiting):
            _write_group(writer, waiting)
    return aside.written(rows)


def write_bytes(content: bytes, root: Path, path: str) -> WrittenFile:
    """Write a small file to `root / path`, atomically; one that holds this already is left alone.

    Raises OutputError.
    """
    aside = Aside(root, path)
    if not (aside.final.is_file() and aside.final.read_bytes() == content):
        with aside:
            aside.temporary.write_bytes(content)
    return aside.written(0)


class Aside:
    """A file written beside its place and renamed into it when the block ends well; removed when it does not."""

    def __init__(self, root: Path, path: str) -> None:
        self.root, self.path = root, path
        self.final = root / path
        self.temporary = self.final.with_name(f".{self.final.name}.{os.getpid()}.part")

    def __enter__(self) -> Aside:
        try:
            self.final.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._refused(error) from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            if error is None:
                with self.temporary.open("rb+") as file:
                    os.fsync(file.fileno())
                self.temporary.replace(self.final)
                return
        except OSError as late:  # some file systems say only now that they are full
            error = late
        with suppress(OSError):
            self.temporary.unlink()
        if isinstance(error, OSError):
            raise self._refused(error) from error

    def _refused(self, error: OSError) -> OutputError:
        advice = (
            "free some space and run again: finished shards are kept"
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            else "check the path and its permissions"
        )
        return OutputError(f"{self.final}: cannot write: {error.strerror or error}; {advice}")

    def written(self, rows: int) -> WrittenFile:
        """Size and checksum of the finished file."""
        return WrittenFile(self.path, self.final.stat().st_size, checksum(self.final), rows)


def checksum(path: Path) -> str:
    """xxh3-128 of a file's bytes, in hexadecimal digits."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def _write_group(writer: pq.ParquetWriter, tables: list[pa.Table]) -> None:
    table = pa.concat_tables(tables).combine_chunks()
    writer.write_table(table, row_group_size=max(1, table.num_rows))
