"""Ray actors: the one module that imports Ray. Retries, lost actors and back-pressure are Ray's own."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gneiss.backends import MOST_ATTEMPTS, Done, Room, Step, Task
from gneiss.backends.resources import Resources
from gneiss.errors import DefectError, GneissError, MachineError


@dataclass(frozen=True)
class RayActors:
    """One actor a worker, on a running cluster (RAY_ADDRESS, or inside a Ray job) or one started here.

    shared_filesystem: the output is the same folder on every node.
    """

    shared_filesystem: bool = False

    def room(self, resources: Resources) -> Room:
        """See Backend. Raises MachineError when there is no cluster to connect to."""
        return room_on(_nodes(), resources)

    def run(
        self, step: Step[Task, Done], tasks: Sequence[Task], workers: int, resources: Resources
    ) -> Generator[Done, None, None]:
        """See Backend. Raises MachineError when the cluster cannot hold the workers."""
        import ray
        from ray.exceptions import OutOfMemoryError, RayActorError, RayError, RayTaskError

        check_nodes(_nodes(), workers, resources, self.shared_filesystem)
        actor: Any = ray.remote(
            num_cpus=resources.cpus,
            memory=resources.memory_bytes,
            max_restarts=-1,
            max_task_retries=MOST_ATTEMPTS - 1,
        )(_Worker)
        waiting = list(tasks)[::-1]
        pool = [actor.remote(step) for _ in range(workers)]
        running: dict[Any, tuple[Any, Task]] = {}
        try:
            idle = list(pool)
            while waiting or running:
                while idle and waiting:
                    worker, task = idle.pop(), waiting.pop()
                    running[worker.work.remote(task)] = (worker, task)
                answered, _ = ray.wait(list(running), num_returns=1)
                worker, task = running.pop(answered[0])
                idle.append(worker)
                try:
                    answer = ray.get(answered[0])
                except (RayActorError, OutOfMemoryError) as error:
                    if getattr(error, "actor_init_failed", False):
                        raise MachineError(f"a worker cannot start: {_last_line(error)}") from error
                    answer = step.lost(task, f"its actor died {MOST_ATTEMPTS} times; out of memory?")
                except RayTaskError as error:
                    raise DefectError(f"a worker failed: {_last_line(error)}", str(error)) from error
                except RayError as error:
                    raise MachineError(f"a worker failed: {_last_line(error)}") from error
                if isinstance(answer, GneissError):
                    raise answer
                yield answer
        finally:
            for worker in pool:
                ray.kill(worker)


def room_on(nodes: Sequence[Mapping[str, Any]], resources: Resources) -> Room:
    """How many workers fit on nodes, as `ray.nodes()` describes them; a worker fits only where one node has both."""
    cpus = [int(node["Resources"].get("CPU", 0)) // resources.cpus for node in nodes]
    by_memory = [int(node["Resources"].get("memory", 0)) // resources.memory_bytes for node in nodes]
    return Room(sum(cpus), sum(map(min, cpus, by_memory)))


def check_nodes(
    nodes: Sequence[Mapping[str, Any]], workers: int, resources: Resources, shared_filesystem: bool
) -> None:
    """Refuse a run that would wait forever, or write to several disks. Raises MachineError."""
    room = room_on(nodes, resources)
    if workers > room.by_cpus:
        raise MachineError(
            f"{workers} workers were asked for, but the cluster has CPUs for {room.by_cpus}: the others would wait for"
            f" ever; use workers={room.by_cpus} or less"
        )
    if workers > room.by_memory:
        offered = ", ".join(f"{node['Resources'].get('memory', 0) / 1e9:.1f} GB" for node in nodes)
        fewer = f"use workers={room.by_memory}, or" if room.by_memory else "use"
        raise MachineError(
            f"{workers} workers need about {resources.memory_bytes / 1e9:.1f} GB each, but the cluster's nodes offer"
            f" {offered}: {fewer} smaller shards (shard_max_bytes)"
        )
    if len(nodes) > 1 and not shared_filesystem:
        raise MachineError(
            f"the cluster has {len(nodes)} nodes and the output is a local path: give shared_filesystem=True if"
            " every node sees the same input and output there"
        )


def _nodes() -> list[Mapping[str, Any]]:
    """The living nodes of the cluster that RAY_ADDRESS or the job names, or of one started on this machine."""
    import ray
    from ray.exceptions import RayError

    if not ray.is_initialized():
        address = os.environ.get("RAY_ADDRESS")
        try:
            ray.init(address=address, logging_level=logging.WARNING)
        except (OSError, RuntimeError, ValueError, RayError) as error:
            raise MachineError(f"cannot connect to Ray (RAY_ADDRESS={address or ''}): {_last_line(error)}") from error
    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


class _Worker:
    """The actor: opens the step once, then works. Errors that concern the run come back as values, not as retries."""

    def __init__(self, step: Any) -> None:
        self._step = step
        self._work: Callable[[Any], Any] | None = None

    def work(self, task: Any) -> Any:
        """Apply the step to a task."""
        try:
            if self._work is None:
                self._work = self._step.open()
            return self._work(task)
        except GneissError as error:
            return error


def _last_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1][:300]
