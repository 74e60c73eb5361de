"""Ray actors: the one module that imports Ray. Retries, lost actors and back-pressure are Ray's own."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gneiss.backends import MOST_ATTEMPTS, Done, Step, Task
from gneiss.errors import GneissError, MachineError


@dataclass(frozen=True)
class RayActors:
    """One actor a worker, on a running cluster (RAY_ADDRESS, or inside a Ray job) or one started here.

    worker_memory_bytes: what a worker is expected to need; Ray places actors by it.
    shared_filesystem: the output is the same folder on every node.
    """

    worker_memory_bytes: int
    shared_filesystem: bool = False

    def run(self, step: Step[Task, Done], tasks: Sequence[Task], workers: int) -> Iterator[Done]:
        """Apply a step to all tasks; see Backend. Raises MachineError when the cluster cannot hold the workers."""
        import ray
        from ray.exceptions import RayActorError, RayTaskError

        _connect(ray)
        self._check_cluster(ray, workers)
        retries = MOST_ATTEMPTS - 1
        actor = ray.remote(num_cpus=1, memory=self.worker_memory_bytes, max_restarts=retries, max_task_retries=retries)(
            _Worker
        )
        waiting = list(tasks)[::-1]
        running: dict[Any, tuple[Any, Task]] = {}
        for _ in range(min(workers, len(tasks))):
            worker, task = actor.remote(step), waiting.pop()
            running[worker.work.remote(task)] = (worker, task)
        while running:
            ready, _ = ray.wait(list(running), num_returns=1)
            worker, task = running.pop(ready[0])
            try:
                answer = ray.get(ready[0])
            except RayActorError:
                answer = step.lost(task, f"its actor died {MOST_ATTEMPTS} times; out of memory?")
                worker = actor.remote(step)
            except RayTaskError as error:
                raise MachineError(f"a worker failed: {error.cause}") from error
            if isinstance(answer, GneissError):
                raise answer
            if waiting:
                task = waiting.pop()
                running[worker.work.remote(task)] = (worker, task)
            yield answer

    def _check_cluster(self, ray: Any, workers: int) -> None:
        resources = ray.cluster_resources()
        cpus = int(resources.get("CPU", 0))
        if workers > cpus:
            raise MachineError(
                f"{workers} workers were asked for, but the cluster has {cpus} CPUs: the others would wait for ever; use --workers {cpus} or less"
            )
        memory = int(resources.get("memory", 0))
        if workers * self.worker_memory_bytes > memory:
            fitting = memory // self.worker_memory_bytes
            raise MachineError(
                f"{workers} workers need about {workers * self.worker_memory_bytes / 1e9:.1f} GB, but the cluster offers"
                f" {memory / 1e9:.1f} GB: use --workers {max(fitting, 1)}, or smaller shards (shard_max_bytes)"
            )
        nodes = sum(1 for node in ray.nodes() if node["Alive"])
        if nodes > 1 and not self.shared_filesystem:
            raise MachineError(
                f"the cluster has {nodes} nodes and the output is a local path: give --shared-filesystem if every node sees the same input and output there"
            )


def cluster_cpus() -> int:
    """CPUs of the cluster that RAY_ADDRESS or the job names, or of this machine."""
    import ray

    _connect(ray)
    return int(ray.cluster_resources().get("CPU", 1))


def _connect(ray: Any) -> None:
    if not ray.is_initialized():
        ray.init(address=os.environ.get("RAY_ADDRESS"), logging_level=logging.WARNING)


class _Worker:
    """The actor: opens the step once, then works. Errors that concern the run come back as values, not as retries."""

    def __init__(self, step: Any) -> None:
        self._step, self._work = step, None

    def work(self, task: Any) -> Any:
        """Apply the step to a task."""
        try:
            if self._work is None:
                self._work = self._step.open()
            return self._work(task)
        except GneissError as error:
            return error
