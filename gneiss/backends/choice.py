"""Which backend a job runs on, and with how many workers: what was asked for, or what CPUs, memory and tasks allow."""

from __future__ import annotations

import logging
import os
from typing import Literal, TypeAlias

from gneiss.backends import Backend
from gneiss.errors import MachineError

BackendName: TypeAlias = Literal["auto", "local", "ray"]
_log = logging.getLogger("gneiss")


def choose_backend(
    name: BackendName, workers: int | None, tasks: int, worker_bytes: int, shared_filesystem: bool
) -> tuple[Backend, int]:
    """The backend, and how many workers for so many tasks, each of which needs about so much memory.

    `auto` takes Ray inside a Ray job or when RAY_ADDRESS is set. Raises MachineError.
    """
    if workers is not None and workers < 1:
        raise MachineError(f"--workers {workers}: expected 1 or more")
    backend: Backend
    if name == "ray" or (name == "auto" and _inside_ray()):
        from gneiss.backends.ray_actors import RayActors

        backend = RayActors(worker_bytes, shared_filesystem)
    else:
        from gneiss.backends.local import LocalProcesses

        backend = LocalProcesses(worker_bytes)
    if workers is None:
        room = backend.room()
        wanted = max(1, min(room.by_cpus, tasks))
        workers = max(1, min(room.by_memory, wanted))
        if workers < wanted:
            _log.warning("%d workers instead of %d: each needs about %.1f GB", workers, wanted, worker_bytes / 1e9)
    return backend, workers


def _inside_ray() -> bool:
    return any(name in os.environ for name in ("RAY_ADDRESS", "RAY_JOB_ID", "RAY_JOB_CONFIG_JSON_ENV_VAR"))
