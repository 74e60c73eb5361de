"""A page that is too much costs itself: not its neighbours, not the machine, and not twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import pytest

from gneiss.errors import MachineError
from gneiss.extraction import sandbox as module
from gneiss.extraction.extractors import ExtractText, Resiliparse
from gneiss.extraction.pages import Page
from gneiss.extraction.sandbox import CRASH, DEADLINE, MEMORY, Death, Limits, Sandbox
from gneiss.extraction.wire import Answer, Outcome
from tests.extraction import hostile
from tests.extraction.archives import page

pytestmark = pytest.mark.processes

LIMITS = Limits(deadline_seconds=0.5, memory_bytes=300_000_000, max_record_bytes=2_000_000)


def told(pages: list[bytes], limits: Limits = LIMITS) -> list[Answer | Death]:
    with Sandbox(hostile.Hostile(), limits) as sandbox:
        return sandbox.extract([Page(body) for body in pages])


@pytest.mark.parametrize(
    ("mark", "reason"),
    [
        (hostile.ENDLESS, DEADLINE),
        (hostile.HUNGRY, MEMORY),
        (hostile.SWALLOWING, MEMORY),
        (hostile.CRASHING, CRASH),
    ],
)
def test_a_page_that_kills_its_process_is_the_only_one_without_text(mark: str, reason: str) -> None:
    # to touch memory is CPU time of the kernel, on a loaded machine more than half a second
    limits = LIMITS if reason == DEADLINE else replace(LIMITS, deadline_seconds=30)
    before, trouble, after = told([page("before"), page(mark), page("after")], limits)
    assert isinstance(before, Answer)
    assert isinstance(after, Answer)
    assert "before" in before.text
    assert "after" in after.text
    assert isinstance(trouble, Death)
    assert trouble.reason == reason


def test_a_page_that_does_not_even_fit_is_the_only_one_without_text() -> None:
    limits = Limits(memory_bytes=60_000_000, max_record_bytes=400_000_000)
    first, second = told([b" " * 300_000_000, page("second")], limits)
    assert first == Death(MEMORY, "60 MB")
    assert isinstance(second, Answer)


def test_what_killed_it_is_told() -> None:
    verdicts = told([page(hostile.ENDLESS), page(hostile.HUNGRY), page(hostile.CRASHING)])
    assert verdicts == [Death(DEADLINE, "0.5 s of CPU time"), Death(MEMORY, "300 MB"), Death(CRASH, "SIGSEGV")]


def test_each_page_has_a_deadline_of_its_own() -> None:
    assert all(isinstance(answer, Answer) for answer in told([page(hostile.SLOW)] * 4))


def test_an_exception_is_an_answer() -> None:
    assert told([page(hostile.RAISING)]) == [Answer(Outcome.FAILED, "RecursionError: too deep")]


def test_a_page_is_tried_twice_and_no_more() -> None:
    with mock.patch.object(Sandbox, "_start", autospec=True, side_effect=Sandbox._start) as starts:
        told([page("before"), page(hostile.CRASHING), page("after")])
    assert starts.call_count == 3


def test_no_page_pays_for_the_memory_of_those_before() -> None:
    bodies = [page(f"page {number}") + b" " * 1_500_000 for number in range(12)]
    limits = Limits(deadline_seconds=5, memory_bytes=80_000_000, max_record_bytes=2_000_000)
    assert all(isinstance(answer, Answer) and answer.outcome == Outcome.TEXT for answer in told(bodies, limits))


def test_large_pages_and_texts_pass_through_the_pipes() -> None:
    bodies = [page(f"words of page {number}", 50_000) for number in range(6)]
    texts = [answer.text for answer in told(bodies, Limits()) if isinstance(answer, Answer)]
    assert texts == [hostile.text_of(body.decode()) for body in bodies]
    assert sum(map(len, texts)) > 4_000_000


@dataclass(frozen=True)
class Noisy:
    """Prints, and gives text that is none."""

    libraries: tuple[str, ...] = ()

    def load(self) -> ExtractText:
        """See Extractor."""

        def text_of(html: str) -> str:
            print("noise " * 10_000, flush=True)
            os.write(2, b"noise " * 100_000)
            return "half \ud800 of a pair, and \0 zeros"

        return text_of


def test_what_an_extractor_prints_disturbs_nothing_and_its_text_becomes_text() -> None:
    with Sandbox(Noisy(), Limits()) as sandbox:
        assert sandbox.extract([Page(b"<p>")]) == [
            Answer(Outcome.TEXT, "half \ufffd of a pair, and  zeros", "utf-8", "guess", "noisy")
        ]


@dataclass(frozen=True)
class Sleepy:
    """Waits, which uses no CPU time."""

    libraries: tuple[str, ...] = ()

    def load(self) -> ExtractText:
        """See Extractor."""
        return lambda html: time.sleep(1000 if "sleep" in html else 0)


def test_a_page_that_waits_for_ever_is_not_waited_for() -> None:
    with (
        mock.patch.multiple(module, _WALL_SECONDS=1.0, _WALL_DEADLINES=0),
        Sandbox(Sleepy(), Limits()) as sandbox,
    ):
        (verdict,) = sandbox.extract([Page(b"sleep")])
    assert verdict == Death(DEADLINE, "no answer within 1 s of wall time")


@dataclass(frozen=True)
class Killed:
    """Is killed, as by the kernel when memory runs out, the first time or every time."""

    mark: str
    libraries: tuple[str, ...] = ()

    def load(self) -> ExtractText:
        """See Extractor."""

        def text_of(html: str) -> str:
            if "kill" in html and not (self.mark and Path(self.mark).exists()):
                if self.mark:
                    # files cannot be written in there; the parent hears it before it can hear of the death
                    os.kill(os.getppid(), signal.SIGUSR1)
                os.kill(os.getpid(), signal.SIGKILL)
            return "survived"

        return text_of


def test_a_kill_from_outside_is_not_the_pages_fault(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    before = signal.signal(signal.SIGUSR1, lambda *_: mark.touch())
    try:
        with Sandbox(Killed(str(mark)), Limits()) as sandbox:
            assert sandbox.extract([Page(b"kill")]) == [Answer(Outcome.TEXT, "survived", "utf-8", "guess", "killed")]
    finally:
        signal.signal(signal.SIGUSR1, before)
    with (
        Sandbox(Killed(""), Limits()) as sandbox,
        pytest.raises(MachineError, match="killed from outside, twice; out of memory"),
    ):
        sandbox.extract([Page(b"kill")])


@dataclass(frozen=True)
class DoesNotLoad:
    """Lacks something."""

    libraries: tuple[str, ...] = ()

    def load(self) -> ExtractText:
        """See Extractor."""
        raise ImportError("no such library")


def test_an_extractor_that_does_not_load_ends_the_run_and_says_how_to_see_why() -> None:
    with Sandbox(DoesNotLoad(), Limits()) as sandbox, pytest.raises(MachineError) as error:
        sandbox.extract([Page(b"<p>")])
    command = str(error.value).split("`")[1]
    said = subprocess.run(
        ["bash", "-c", command],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert "no such library" in said.stderr


def test_no_process_outlives_its_sandbox() -> None:
    with Sandbox(Resiliparse(), Limits()) as sandbox:
        sandbox.extract([Page(page("words"))])
        assert sandbox._process is not None
        pid = sandbox._process.pid
        assert Path(f"/proc/{pid}").exists()
    assert not Path(f"/proc/{pid}").exists()


def test_the_process_inside_can_write_no_file_and_start_no_process(tmp_path: Path) -> None:
    with Sandbox(Writer(str(tmp_path / "file")), Limits()) as sandbox:
        verdicts = sandbox.extract([Page(b"write"), Page(b"start")])
    assert isinstance(verdicts[0], Death) or verdicts[0].outcome == Outcome.FAILED
    assert not (tmp_path / "file").exists() or (tmp_path / "file").stat().st_size == 0
    if os.getuid() != 0:  # root may start as many processes as it likes
        assert isinstance(verdicts[1], Answer)
        assert verdicts[1].outcome == Outcome.FAILED


@dataclass(frozen=True)
class Writer:
    """Writes a file, or starts a process."""

    path: str
    libraries: tuple[str, ...] = ()

    def load(self) -> ExtractText:
        """See Extractor."""

        def text_of(html: str) -> str:
            if "write" in html:
                Path(self.path).write_text("x" * 1000)
            if "start" in html:
                subprocess.run(["true"], check=True)
            return "text"

        return text_of
