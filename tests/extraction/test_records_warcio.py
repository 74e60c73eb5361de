"""What warcio writes is read, and what it reads leniently is read alike."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest

from gneiss.extraction.record import Record
from gneiss.extraction.records import read_records
from gneiss.store.place import place_of
from tests.extraction.archives import gz, plain, record, response

warcio = pytest.importorskip("warcio", reason="needs warcio")

PARTS = [response(b"<p>Words of one page. " * 40, 1), record("metadata", b"a: b", 2), response(b"", 3)]
CHANGES: list[Callable[[bytes], bytes]] = [
    lambda part: part,
    lambda part: part.replace(b"WARC/1.0\r\n", b"WARC/1.1\r\n"),
    lambda part: b"".join(
        [part.partition(b"\r\n\r\n")[0].replace(b"\r\n", b"\n"), b"\n\n", part.partition(b"\r\n\r\n")[2]]
    ),
    lambda part: part.replace(b"WARC-", b"warc-").replace(b"Content-Length", b"content-length"),
    lambda part: part + b"\r\n\r\n",
]


def by_warcio(content: bytes) -> list[tuple[str, str, bytes]]:
    from warcio.archiveiterator import ArchiveIterator

    records = ArchiveIterator(BytesIO(content), no_record_parse=True)
    return [
        (record.rec_type, record.rec_headers.get_header("WARC-Record-ID"), record.raw_stream.read())
        for record in records
    ]


@pytest.mark.parametrize("pack", [plain, gz])
@pytest.mark.parametrize("change", CHANGES)
def test_records_are_those_that_warcio_reads(
    pack: Callable[[bytes], bytes], change: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    content = b"".join(pack(change(part)) for part in PARTS)
    (tmp_path / "x").write_bytes(content)
    found = list(read_records(place_of(tmp_path / "x"), 10**6))
    expected = by_warcio(content)
    assert [(record.kind, record.id) for record in found if isinstance(record, Record)] == [
        fields[:2] for fields in expected
    ]
    assert [record.content for record in found if isinstance(record, Record) and record.kind == "response"] == [
        fields[2] for fields in expected if fields[0] == "response"
    ]


@pytest.mark.parametrize("is_gzip", [True, False])
def test_what_warcio_writes_is_read(is_gzip: bool, tmp_path: Path) -> None:
    from warcio.statusandheaders import StatusAndHeaders
    from warcio.warcwriter import WARCWriter

    with (tmp_path / "x").open("wb") as file:
        writer = WARCWriter(file, gzip=is_gzip)
        for number in range(3):
            head = StatusAndHeaders("200 OK", [("Content-Type", "text/html")], protocol="HTTP/1.1")
            body = BytesIO(f"<p>page {number}".encode())
            writer.write_record(
                writer.create_warc_record(f"https://x.org/{number}", "response", payload=body, http_headers=head)
            )
    found = [record for record in read_records(place_of(tmp_path / "x"), 10**6) if isinstance(record, Record)]
    assert [record.url for record in found] == [f"https://x.org/{number}" for number in range(3)]
    assert [(record.content or b"")[-6:] for record in found] == [f"page {number}".encode() for number in range(3)]
