"""Which workers a job has: what was asked for, or what CPUs, memory and tasks allow."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, TypeAlias

from gneiss.backends import DOCUMENT_SECONDS, Backend, Patience, Workers
from gneiss.backends.resources import Resources, check_gpus
from gneiss.errors import MachineError

BackendName: TypeAlias = Literal["auto", "local", "ray"]
_log = logging.getLogger(__name__)


def choose_workers(
    backend: BackendName | Backend,
    workers: int | None,
    tasks: int,
    resources: Resources,
    shared_filesystem: bool,
    local: Sequence[str] = (),
    document_seconds: float | None = None,
    gpus_per_worker: float | None = None,
) -> Workers:
    """The workers for a number of tasks.

    Parameters: `workers`: how many, None for as many as fit, at any time; `shared_filesystem`: whether every
    node sees the same files at the `local` paths that workers read or write; `document_seconds`: see Patience, None for
    its default; `gpus_per_worker`: what a worker asks for, None for what its resources say. `auto` takes Ray inside a
    Ray job or when RAY_ADDRESS is set. Raises MachineError.
    """
    if workers is not None and workers < 1:
        raise MachineError(f"workers={workers}: expected 1 or more")
    if document_seconds is not None and not document_seconds > 0:
        raise MachineError(f"document_seconds={document_seconds:g}: expected more than 0")
    if gpus_per_worker is not None:
        resources = replace(resources, gpus=check_gpus(gpus_per_worker))
    if isinstance(backend, str):
        patience = Patience(document_seconds=document_seconds or DOCUMENT_SECONDS)
        chosen = _backend(backend, shared_filesystem, patience, workers is None, bool(local))
    elif document_seconds is None:
        chosen = backend
    else:
        raise MachineError("document_seconds: a backend of your own has its patience, Patience(document_seconds=…)")
    if workers is None:
        room = chosen.room(resources)
        wanted = max(1, min(room.by_cpus, tasks))
        workers = max(1, min(room.by_memory, wanted))
        if workers < wanted:
            _log.warning(
                "%d workers instead of %d: each needs about %s; for more, use %s",
                workers, wanted, resources.said, resources.less,
            )  # fmt: skip
    chosen.admit(min(workers, tasks), resources, local)
    return Workers(chosen, workers, resources)


def _backend(name: BackendName, shared_filesystem: bool, patience: Patience, grows: bool, is_bound: bool) -> Backend:
    if name == "ray" or (name == "auto" and inside_ray()):
        from gneiss.backends.ray_actors import RayActors

        return RayActors(shared_filesystem, patience, grows, is_bound and not shared_filesystem)
    if shared_filesystem:
        raise MachineError("shared_filesystem=True is for Ray, and these workers are local; leave it out")
    from gneiss.backends.local import LocalProcesses

    return LocalProcesses(patience, grows)


def inside_ray() -> bool:
    """Whether `auto` takes Ray."""
    return any(name in os.environ for name in ("RAY_ADDRESS", "RAY_JOB_ID", "RAY_JOB_CONFIG_JSON_ENV_VAR"))
