"""A command that is asked to end says so, ends its workers whatever their state, and has the exit code of the shell."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests import runs
from tests.support import write_documents

pytestmark = pytest.mark.processes

#: A filter whose worker leaves its process id, and then does what the file beside it says.
WAITING = """
import os, signal, time
from dataclasses import dataclass
from pathlib import Path
from gneiss.annotation import Annotator, Column

@dataclass(frozen=True)
class Waiting(Annotator):
    columns = (Column("waited", "int64", "nothing"),)
    def compute(self, batch):
        Path(f"pid-{os.getpid()}").touch()
        if Path("stop").exists():
            os.kill(os.getpid(), signal.SIGSTOP)
        while Path("wait").exists():
            time.sleep(0.02)
        return {"waited": [0 for _ in batch.texts()]}
"""
RECIPE = "name: waiting\nphases: [{name: only, annotate: ['waiting:Waiting'], rules: {long: waited < 1}}]\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "waiting.py").write_text(WAITING)
    (tmp_path / "waiting.yaml").write_text(RECIPE)
    for name in "ab":
        write_documents(tmp_path / f"input/{name}.parquet", ["a text", "another one"])
    return tmp_path


def begun(folder: Path, hangup: signal.Handlers = signal.SIG_DFL) -> subprocess.Popen[str]:
    """A run with two workers."""
    for old in folder.glob("pid-*"):
        old.unlink()
    command = [sys.executable, "-m", "gneiss", "run", "waiting.yaml", "-i", "input", "-o", "output"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(
        [*command, "--workers", "2", "--backend", "local"],
        cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        preexec_fn=partial(hear_signals, hangup),
    )  # fmt: skip


def hear_signals(hangup: signal.Handlers) -> None:
    """What a shell runs in the background ignores interrupts, under nohup hangups too, and so would the run."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, hangup)


def started(folder: Path, hangup: signal.Handlers = signal.SIG_DFL) -> subprocess.Popen[str]:
    """A run whose two workers are in the middle of a shard, and wait there."""
    process = begun(folder, hangup)
    while len(list(folder.glob("pid-*"))) < 2:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    return process


def workers(folder: Path) -> list[int]:
    return [int(path.name.removeprefix("pid-")) for path in folder.glob("pid-*")]


@pytest.mark.parametrize(
    ("number", "code", "how", "state"),
    [
        pytest.param(signal.SIGINT, 130, "interrupted", "wait", marks=pytest.mark.exhaustive),
        (signal.SIGTERM, 143, "ended by SIGTERM", "wait"),
        pytest.param(signal.SIGHUP, 129, "ended by SIGHUP", "stop", marks=pytest.mark.exhaustive),
    ],
)
def test_the_last_words_the_exit_code_no_worker_left_and_the_same_command_resumes(
    number: int, code: int, how: str, state: str, folder: Path
) -> None:
    (folder / state).touch()
    process = started(folder)
    process.send_signal(number)
    said = process.communicate(timeout=600)[1]
    assert process.returncode == code
    assert said.splitlines()[-1] == f"gneiss: {how}; the same command resumes where it stopped"
    assert "Traceback" not in said
    assert not any(map(psutil.pid_exists, workers(folder)))
    (folder / state).unlink()
    process = begun(folder)
    assert process.communicate(timeout=600)[1].count("Traceback") == 0
    assert process.returncode == 0
    assert {"data/a.parquet", "data/b.parquet"} <= set(runs.files(folder / "output"))


def test_a_driver_that_is_killed_leaves_workers_that_end_without_a_word(folder: Path) -> None:
    (folder / "wait").touch()
    process = started(folder)
    process.kill()
    (folder / "wait").unlink()
    said = process.communicate(timeout=600)[1]  # to the end of the last process that may write there
    assert "Traceback" not in said
    while any(map(psutil.pid_exists, workers(folder))):
        time.sleep(0.05)


@pytest.mark.exhaustive
def test_a_hangup_that_is_ignored_stays_so(folder: Path) -> None:
    """As under `nohup`."""
    (folder / "wait").touch()
    process = started(folder, hangup=signal.SIG_IGN)
    process.send_signal(signal.SIGHUP)
    (folder / "wait").unlink()
    process.communicate(timeout=600)
    assert process.returncode == 0
