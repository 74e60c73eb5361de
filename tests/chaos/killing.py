"""Processes that kill themselves at a chosen step of a commit."""

from __future__ import annotations

import os
import resource
import signal
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import active_children
from pathlib import Path
from typing import Any
from unittest import mock

import psutil

from gneiss.input.shard import Shard
from gneiss.jobs.progress import Silent
from gneiss.output import ledger, parquet
from gneiss.output.ledger import Receipt
from gneiss.pipelines import run as pipeline
from gneiss.stages.curating import CurateStep
from gneiss.store import local
from tests.runs import InThisProcess

NEVER = 10**9
RECIPE = """
name: chaos
input: {derived_from_text: {token_count: null}}
phases:
  - name: only
    dedup: {min_length: 80}
    annotate: [{fasttext: {models: {prose: {source: tiny.bin, label: hq}}}}, readability]
    rules: {good: prose > 0.5, readable: eflaw < 30}
    keep: good AND readable
"""


def kill_this_process() -> None:
    """As the kernel does when memory runs out: at once, without any cleaning up."""
    os.kill(os.getpid(), signal.SIGKILL)


def crash_this_process() -> None:
    """As a defect in a library does."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.kill(os.getpid(), signal.SIGSEGV)


@contextmanager
def killed_at(
    number: int, trace: list[str] | None = None, end: Callable[[], None] = kill_this_process
) -> Iterator[None]:
    """End this process at its n-th event: a row group written, a file written aside, a file put in its place.

    trace: is told each event, as `kind path`; end: how.
    """
    count = 0

    def event(kind: str, path: str) -> None:
        nonlocal count
        count += 1
        if trace is not None:
            trace.append(f"{kind} {path}")
        if count == number:
            end()

    def after_half(writer: Any, tables: Any) -> None:
        write_group(writer, tables)
        event("half", "")

    def before_sync(descriptor: int) -> None:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            event("aside", os.readlink(f"/proc/self/fd/{descriptor}"))
        sync(descriptor)

    def after_move(temporary: str, final: str, is_new: bool) -> None:
        move(temporary, final, is_new)
        if not is_new:  # os.replace is not counted: numba keeps its kernels by it, once
            event("renamed", final)

    def after_link(source: Path, target: Path) -> None:
        link(source, target)
        event("renamed", str(target))

    write_group, sync, move, link = parquet._write_group, os.fsync, local._move, os.link
    with (
        mock.patch.object(parquet, "_write_group", after_half),
        mock.patch.object(os, "fsync", before_sync),
        mock.patch.object(local, "_move", after_move),
        mock.patch.object(os, "link", after_link),
    ):
        yield


def run_here_until(number: int, recipe: Path, source: Path, output: Path, trace: Path | None = None) -> None:
    """A run, driver and worker in this one process, until its n-th event; a ledger segment for every shard."""
    events: list[str] = []
    with (
        mock.patch.object(ledger, "SEGMENT_SECONDS", 0.0),
        killed_at(number, events),
    ):
        pipeline.run(recipe, source, output, backend=InThisProcess())
    if trace is not None:
        trace.write_text("\n".join(events))


@dataclass(frozen=True)
class DeadlyStep:
    """A step that kills its worker.

    once: shard → event of its commit (0: before it) at which its first attempt dies; always: shards that crash it every
    time; attempts: a folder with a file for each shard, a byte for each attempt.
    """

    step: CurateStep
    attempts: Path
    once: Mapping[str, int]
    always: tuple[str, ...] = ()

    def open(self) -> Callable[[Shard], Receipt]:
        """Open the step."""
        work = self.step.open()

        def deadly(shard: Shard) -> Receipt:
            path = self.attempts / shard.id.replace("/", "_")
            with path.open("ab") as file:
                file.write(b"x")
            is_first = path.stat().st_size == 1
            event = self.once.get(shard.id, NEVER) if is_first else NEVER
            if shard.id in self.always:
                crash_this_process()
            if event == 0:
                kill_this_process()
            with killed_at(event):
                return work(shard)

        return deadly

    def lost(self, task: Shard, reason: str) -> Receipt:
        """See CurateStep."""
        return self.step.lost(task, reason)


@dataclass(frozen=True)
class FailsToLoad:
    """A step whose workers cannot load."""

    error: Exception

    def open(self) -> None:
        """Fail."""
        raise self.error


@dataclass(frozen=True)
class DiesWhileLoading:
    """A step whose worker is dead before it is ready."""

    def open(self) -> None:
        """Die."""
        crash_this_process()


def is_alive(pid: int) -> bool:
    """Whether a process goes on; who adopts an orphan need not bury it."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class DeadlyProgress(Silent):
    """Kills the driver when it hears of the n-th finished shard; leaves the process ids of its workers in a file."""

    def __init__(self, shards: int, workers: Path) -> None:
        self.left, self.workers = shards, workers

    def finished(self, receipt: Receipt) -> None:
        """Count."""
        self.left -= 1
        if self.left == 0:
            self.workers.write_text(" ".join(str(process.pid) for process in active_children()))
            kill_this_process()


def driver_until(shards: int, recipe: Path, source: Path, output: Path, workers: Path) -> None:
    """A run with two worker processes whose driver dies after so many shards."""
    pipeline.run(recipe, source, output, workers=2, backend="local", progress=DeadlyProgress(shards, workers))
