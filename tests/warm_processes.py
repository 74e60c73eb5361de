"""Processes as forks of one that has every module imported and every kernel loaded, see `warm.py`.

Each has the environment of whoever starts it, as a process that is spawned has.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Any


class WarmProcess(ForkServerProcess):
    """A fork of the server, in which `target` runs; arguments as those of multiprocessing.Process."""

    def __init__(
        self, *, target: Callable[..., object], args: Sequence[object] = (), daemon: bool | None = None
    ) -> None:
        super().__init__(target=_run, args=(dict(os.environ), target, args), daemon=daemon)


class WarmProcesses(ForkServerContext):
    """A context of multiprocessing; the server starts with the first process."""

    Process: Any = WarmProcess

    def __init__(self) -> None:
        super().__init__()
        self.set_forkserver_preload(["tests.warm"])


def _run(environment: dict[str, str], target: Callable[..., object], args: Sequence[object]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    target(*args)
