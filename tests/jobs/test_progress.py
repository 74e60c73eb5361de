"""Progress says what there is to do, what cannot be read, and how far it is."""

from __future__ import annotations

import io
from unittest import mock

from gneiss.jobs.progress import PrintedProgress, duration
from gneiss.output.cost import Cost, Forecast
from gneiss.output.ledger import COMMITTED, UNREADABLE, Receipt

SIZES = dict.fromkeys(("a", "b", "c"), 2000000)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """It is."""
        return True


def test_lines_on_a_terminal_are_written_over() -> None:
    stream = Terminal()
    with mock.patch("gneiss.jobs.progress.time.monotonic", side_effect=[0.0, 60.0, 120.0, 120.0]):
        told = PrintedProgress(stream, "file", "records", "archives")
        told.begin("extract", SIZES, ["a"])
        told.finished(Receipt("b", COMMITTED, "", 1234))
        told.finished(Receipt("c", UNREADABLE, "", None, reason="it is no archive"))
        told.end()
    lines = stream.getvalue().replace("\r\x1b[K", "\n").splitlines()
    assert lines == [
        "extract: 3 files, 6.0 MB of archives, 1 of them finished already",
        "",
        "2/3 files, 1,234 records, 0.03 MB/s, 1 min 00 s left",
        "file c is quarantined: it is no archive",
        "",
        "3/3 files, 1,234 records, 0.03 MB/s, 0 s left",
        "3/3 files, 1,234 records, 0.03 MB/s, 0 s left",
    ]


def test_lines_elsewhere_come_every_few_seconds() -> None:
    stream = io.StringIO()
    with mock.patch("gneiss.jobs.progress.time.monotonic", side_effect=[0.0, 0.0, 1.0, 6.0, 6.5, 7.0]):
        told = PrintedProgress(stream)
        told.stage("keys", 1)
        told.begin("sample", SIZES, [])
        for id_ in "abc":
            told.finished(Receipt(id_, COMMITTED, "", 1))
        told.end()
    assert [line.split(",")[0] for line in stream.getvalue().splitlines()] == [
        "stage keys: 1 task", "sample: 3 shards", "2/3 shards", "3/3 shards",
    ]  # fmt: skip


def test_the_time_left_is_that_of_the_stage() -> None:
    """Four tasks of 10 s before the shards of 50 s each: what they took is no time that a shard takes."""
    stream = io.StringIO()
    times = [0.0, 0.0, *(10.0, 20.0, 30.0, 40.0), *(90.0, 140.0, 190.0), 190.0]
    with mock.patch("gneiss.jobs.progress.time.monotonic", side_effect=times):
        told = PrintedProgress(stream)
        told.begin("recipe", SIZES, [])
        told.stage("keys", 4)
        for number in range(4):
            told.finished(Receipt(f"{number}", COMMITTED, "", None, stage="keys"))
        for id_ in SIZES:
            told.finished(Receipt(id_, COMMITTED, "", 1))
        told.end()
    assert stream.getvalue().splitlines()[1:] == [
        "stage keys: 4 tasks",
        "stage keys: 1/4 tasks, 30 s left",
        "stage keys: 2/4 tasks, 20 s left",
        "stage keys: 3/4 tasks, 10 s left",
        "1/3 shards, 1 documents, 0.02 MB/s, 1 min 40 s left",
        "2/3 shards, 2 documents, 0.03 MB/s, 50 s left",
        "3/3 shards, 3 documents, 0.03 MB/s, 0 s left",
    ]


def test_with_a_forecast_the_time_left_is_that_of_all_stages() -> None:
    stream = Terminal()
    forecast = Forecast(Cost(1000.0, 0.0, 0.0, 0.0), {"keys": 0.5, "curate": 0.3, "after": 0.2})
    with mock.patch("gneiss.jobs.progress.time.monotonic", side_effect=[0.0, 0.0, 60.0, 180.0]):
        told = PrintedProgress(stream, forecast=forecast)
        told.begin("sample", SIZES, ["a"])
        told.stage("keys", 2)
        told.finished(Receipt("0", COMMITTED, "", None, stage="keys"))
        told.finished(Receipt("b", COMMITTED, "", 1))
    left = [line.split(", ")[-1] for line in stream.getvalue().replace("\r", "\n").splitlines() if "left" in line]
    # of 0.9 to do 0.65 is left after 60 s, then 0.55; 0.02 of the 1,000 s that were predicted count beside
    assert left == [
        f"{duration(0.65 * (60 + 20) / (0.25 + 0.02))} left",
        f"{duration(0.55 * (180 + 20) / (0.35 + 0.02))} left",
    ]
