"""Progress says what there is to do, what cannot be read, and how far it is."""

from __future__ import annotations

import io
from unittest import mock

from gneiss.extract.progress import Spoken
from gneiss.extract.sources import Source
from gneiss.ledger import COMMITTED, UNREADABLE, Receipt

SOURCES = [Source(id_, (id_,), (id_,), 2_000_000, "", True) for id_ in ("a", "b", "c")]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """It is."""
        return True


def test_lines_on_a_terminal_are_written_over() -> None:
    stream = Terminal()
    with mock.patch("gneiss.extract.progress.time.monotonic", side_effect=[0.0, 60.0, 120.0, 120.0]):
        told = Spoken(stream)
        told.begin(SOURCES, {"a": Receipt("a", COMMITTED, "", 5)})
        told.finished(Receipt("b", COMMITTED, "", 1234))
        told.finished(Receipt("c", UNREADABLE, "", None, reason="it is no archive"))
        told.end()
    lines = stream.getvalue().replace("\r\x1b[K", "\n").splitlines()
    assert lines == [
        "extract: 3 files, 6.0 MB, 1 of them finished already",
        "",
        "2/3 files, 1,234 records, 0.03 MB/s of archive, 1 min left",
        "c cannot be read: it is no archive",
        "",
        "3/3 files, 1,234 records, 0.03 MB/s of archive, 0 min left",
        "3/3 files, 1,234 records, 0.03 MB/s of archive, 0 min left",
    ]


def test_lines_elsewhere_come_every_few_seconds() -> None:
    stream = io.StringIO()
    with mock.patch("gneiss.extract.progress.time.monotonic", side_effect=[0.0, 1.0, 6.0, 6.5, 7.0]):
        told = Spoken(stream)
        told.begin(SOURCES, {})
        for id_ in "abc":
            told.finished(Receipt(id_, COMMITTED, "", 1))
        told.end()
    assert [line.split(",")[0] for line in stream.getvalue().splitlines()] == [
        "extract: 3 files", "2/3 files", "3/3 files",
    ]  # fmt: skip
