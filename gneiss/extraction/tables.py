"""The files of an extraction: documents in parts, and one row per skipped or quarantined record."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from gneiss.output.layout import part_path
from gneiss.output.parquet import WrittenFile, write_parquet
from gneiss.store.place import Place

#: FineWeb's columns except those computed from the text (language, language_score, token_count); how that was decoded
#: and extracted.
DOCUMENTS = pa.schema(
    [(name, pa.string()) for name in ("text", "id", "dump", "url", "date", "file_path", "charset", "charset_from")]
    + [("replaced_characters", pa.int64()), ("extractor", pa.string())]
    + [("warc_file", pa.string()), ("warc_offset", pa.int64()), ("warc_length", pa.int64())]
)
REJECTED = pa.schema(
    [(name, pa.string()) for name in ("reason", "detail", "record_id", "url", "file_path")]
    + [("offset", pa.int64()), ("size_bytes", pa.int64())]
)
_TABLE_BYTES = 8_000_000
_TABLE_ROWS = 20_000


@dataclass(frozen=True)
class Document:
    """A row of `data/`.

    charset: of the page's bytes; charset_from: where it was found; replaced_characters: U+FFFD in the text;
    extractor: that found the text; None of text that was extracted already; warc_file, warc_offset, warc_length: the
    bytes of an archive that hold its record; no length where they hold other records too.
    """

    text: str
    id: str | None
    dump: str | None
    url: str | None
    date: str | None
    file_path: str
    charset: str = ""
    charset_from: str = ""
    replaced_characters: int = 0
    extractor: str | None = None
    warc_file: str | None = None
    warc_offset: int | None = None
    warc_length: int | None = None


@dataclass(frozen=True)
class Rejected:
    """A row of `skipped/` or `quarantine/`: the record's position, and the reason."""

    reason: str
    detail: str
    record_id: str | None
    url: str | None
    file_path: str
    offset: int
    size_bytes: int


def write_documents(
    documents: Iterable[Document], output: Place, task_id: str, part_max_bytes: int
) -> list[WrittenFile]:
    """Write documents in parts of about `part_max_bytes` of text; at least one part. Raises OutputError."""
    tables = _tables(documents)
    upcoming = next(tables, None)
    files: list[WrittenFile] = []

    def part() -> Iterator[pa.Table]:
        nonlocal upcoming
        size = 0
        while upcoming is not None and size < part_max_bytes:
            size += upcoming["text"].nbytes
            yield upcoming
            upcoming = next(tables, None)

    while upcoming is not None or not files:
        files.append(write_parquet(part(), DOCUMENTS, output, part_path(task_id, len(files))))
    return files


def write_rejected(
    rows: Sequence[Rejected], output: Place, path: str, metadata: dict[str, str] | None = None
) -> WrittenFile:
    """Write rows of skipped or quarantined records. Raises OutputError."""
    slices = (rows[start : start + _TABLE_ROWS] for start in range(0, len(rows), _TABLE_ROWS))
    return write_parquet((_table(part, REJECTED) for part in slices), REJECTED, output, path, metadata)


def _tables(documents: Iterable[Document]) -> Iterator[pa.Table]:
    rows: list[Document] = []
    size = 0
    for document in documents:
        rows.append(document)
        size += len(document.text)
        if size >= _TABLE_BYTES or len(rows) == _TABLE_ROWS:
            yield _table(rows, DOCUMENTS)
            rows, size = [], 0
    if rows:
        yield _table(rows, DOCUMENTS)


def _table(rows: Sequence[Document] | Sequence[Rejected], schema: pa.Schema) -> pa.Table:
    columns = ([getattr(row, name) for row in rows] for name in schema.names)
    return pa.table([pa.array(column, kind) for column, kind in zip(columns, schema.types, strict=True)], schema=schema)
