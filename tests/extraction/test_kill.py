"""Kill and resume: at every step of a commit, and of a worker; nothing is lost, doubled or left running."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import psutil
import pytest

from gneiss.errors import OutputError
from gneiss.extraction import job
from gneiss.extraction.crawl_files import CrawlFiles
from gneiss.extraction.job import extract
from gneiss.extraction.pages import Page
from gneiss.extraction.sandbox import Limits, Sandbox
from gneiss.extraction.step import ExtractStep
from gneiss.output import ledger
from gneiss.output.ledger import Receipt
from tests import runs
from tests.chaos import killing
from tests.extraction import hostile
from tests.extraction.archives import gz, page, record, response
from tests.warm_processes import WarmProcesses

pytestmark = pytest.mark.processes

EXTRACTOR = hostile.Hostile()


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One archive with documents, skipped and quarantined records, and one with documents alone."""
    folder = tmp_path_factory.mktemp("task")
    parts = [response(page("first"), 1), response(page(hostile.RAISING), 2), record("request", b"", 3)]
    (folder / "a.warc.gz").write_bytes(b"".join(map(gz, parts)))
    (folder / "deep").mkdir()
    (folder / "deep/b.warc.gz").write_bytes(gz(response(page("second"), 4)))
    return folder


def extract_until(number: int, task: Path, output: Path, trace: Path | None = None) -> None:
    """An extraction, driver and worker in this one process, until its n-th event; a ledger segment for every task."""
    events: list[str] = []
    with (
        mock.patch.object(ledger, "SEGMENT_SECONDS", 0.0),
        killing.killed_at(number, events),
    ):
        extract(task, output, extractor=EXTRACTOR, backend=runs.InThisProcess())
    if trace is not None:
        trace.write_text("\n".join(events))


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_a_kill_at_any_step_loses_nothing_and_doubles_nothing(
    every: int, task: Path, tmp_path: Path, warm: WarmProcesses
) -> None:
    def ended(number: int, *arguments: Path) -> int | None:
        process = warm.Process(target=extract_until, args=(number, *arguments))
        process.start()
        process.join()
        return process.exitcode

    whole = tmp_path / "whole"
    assert ended(killing.NEVER, task, whole, tmp_path / "trace") == 0
    expected = runs.promised(whole)
    trace = (tmp_path / "trace").read_text().replace(str(whole) + "/", "").splitlines()
    assert [event.removeprefix("renamed ") for event in trace if event.startswith("renamed")] == [
        "_gneiss/run.json", "_gneiss/ledger/000001.jsonl",
        "data/a-00000.parquet", "quarantine/a.parquet", "skipped/a.parquet", "_gneiss/ledger/000002.jsonl",
        "data/deep/b-00000.parquet", "skipped/deep/b.parquet", "_gneiss/ledger/000003.jsonl",
        "_gneiss/extraction.json", "_gneiss/ledger/000004.jsonl",
    ]  # fmt: skip
    for number in range(1, len(trace) + 1, every):
        output = tmp_path / f"killed-{number}"
        assert ended(number, task, output) == -signal.SIGKILL, trace[number - 1]
        extract_until(killing.NEVER, task, output)
        assert runs.promised(output) == expected, trace[number - 1]


@pytest.mark.parametrize(
    ("name", "is_known"),
    [
        ("data/a-00000.parquet", True),
        ("data/a-00000.parquet", False),
        ("quarantine/a.parquet", False),
        ("skipped/a.parquet", True),
    ],
)
def test_a_file_of_the_right_size_with_other_bytes_is_extracted_again(
    name: str, is_known: bool, task: Path, tmp_path: Path
) -> None:
    """Whether the ledger knows it, or only the footer of the file that was written last."""
    extract_until(killing.NEVER, task, tmp_path / "whole")
    output = Path(shutil.copytree(tmp_path / "whole", tmp_path / "harmed"))
    content = bytearray((output / name).read_bytes())
    content[10] ^= 1
    (output / name).write_bytes(content)
    if not is_known:
        shutil.rmtree(output / "_gneiss/ledger")
    before = runs.touched(output)
    done = extract(task, output, extractor=EXTRACTOR, backend=runs.InThisProcess())
    assert done.finished_before == 1
    assert runs.promised(output) == runs.promised(tmp_path / "whole")
    after = runs.touched(output)
    again = {each for each in before if after[each] != before[each]}
    assert again - {"_gneiss/ledger/000001.jsonl"} == {
        "data/a-00000.parquet", "quarantine/a.parquet", "skipped/a.parquet"
    }  # fmt: skip


def test_documents_of_a_killed_extraction_are_not_left_without_their_archive(task: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    (output / "_gneiss").mkdir(parents=True)
    extract(task / "deep", output, extractor=EXTRACTOR, backend=runs.InThisProcess())
    (output / "data/z-00000.parquet").write_bytes(b"of a driver that was killed before it wrote skipped/z.parquet")
    with pytest.raises(OutputError, match="it holds 1 tasks that this input lacks, first 'z'"):
        extract(task / "deep", output, extractor=EXTRACTOR, backend=runs.InThisProcess())


@dataclass(frozen=True)
class DeadlyStep:
    """A step whose worker is killed at its first task, once, or always."""

    step: ExtractStep
    mark: Path
    always: bool = False

    def open(self) -> Callable[[CrawlFiles], Receipt]:
        """Open the step."""
        work = self.step.open()

        def deadly(task: CrawlFiles) -> Receipt:
            if task.id == "a" and (self.always or not self.mark.exists()):
                self.mark.touch()
                with killing.killed_at(4, end=killing.crash_this_process if self.always else killing.kill_this_process):
                    return work(task)
            return work(task)

        return deadly

    def lost(self, task: CrawlFiles, reason: str) -> Receipt:
        """See ExtractStep."""
        return self.step.lost(task, reason)


@pytest.mark.parametrize("always", [False, True])
def test_a_killed_worker_is_replaced_until_it_is_the_task(always: bool, task: Path, tmp_path: Path) -> None:
    expected = tmp_path / "expected"
    extract_until(killing.NEVER, task, expected)
    with mock.patch.object(
        job, "ExtractStep", lambda *given: DeadlyStep(ExtractStep(*given), tmp_path / "mark", always)
    ):
        done = extract(task, tmp_path / "out", extractor=EXTRACTOR, workers=2, backend="local")
    if always:
        assert done.unreadable["a"].startswith("its worker died 3 times (Segmentation fault)")
        done = extract(task, tmp_path / "out", extractor=EXTRACTOR, workers=2, backend="local")
    assert done.unreadable == {}
    assert {n: h for n, h in runs.promised(tmp_path / "out").items() if ".part" not in n} == runs.promised(expected)


def wait_in_a_page(pids: Path) -> None:
    """A worker whose page never ends."""
    with Sandbox(EXTRACTOR, Limits(deadline_seconds=2)) as sandbox:
        sandbox.extract([Page(b"before")])
        assert sandbox._process is not None
        pids.write_text(str(sandbox._process.pid))
        sandbox.extract([Page(hostile.ENDLESS.encode())])


def test_the_sandbox_of_a_killed_worker_ends_with_its_page(tmp_path: Path, warm: WarmProcesses) -> None:
    pids = tmp_path / "pid"
    process = warm.Process(target=wait_in_a_page, args=(pids,))
    process.start()
    while process.is_alive() and not (pids.exists() and pids.read_text()):
        time.sleep(0.05)
    inside = int(pids.read_text())
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with suppress(psutil.NoSuchProcess):
        while killing.is_alive(inside):
            assert psutil.Process(inside).cpu_times().user < 20, "the sandbox goes on without its worker"
            time.sleep(0.05)
