"""The backend: as many actors as were asked for, or as the nodes of the cluster have room for at any time."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

from gneiss.backends import Done, Headcount, Patience, Room, Step, Task
from gneiss.backends.driving import drive
from gneiss.backends.ray_actors.cluster import living_nodes, own_node
from gneiss.backends.ray_actors.metrics import Metrics
from gneiss.backends.ray_actors.pool import Actor, ActorPool, kill_all
from gneiss.backends.ray_actors.room import asked_of, check_nodes, room_on
from gneiss.backends.resources import Resources
from gneiss.backends.samples import Sample


@dataclass(frozen=True)
class RayActors:
    """One actor a worker, on a running cluster (RAY_ADDRESS, or inside a Ray job) or one started here.

    shared_filesystem: local paths name the same files on every node; grows: there are as many workers as there is room
    for, at any time; is_bound: they live on the node of the driver, whose files others may not see; idle: actors that
    live on, where workers are kept.
    """

    shared_filesystem: bool = False
    patience: Patience = field(default_factory=Patience)
    grows: bool = False
    is_bound: bool = False
    metrics: Metrics = field(default_factory=lambda: Metrics(), compare=False, repr=False)
    headcount: Headcount = field(default_factory=Headcount, compare=False, repr=False)
    idle: list[Actor] | None = field(default=None, compare=False, repr=False)

    def room(self, resources: Resources) -> Room:
        """See Backend. Raises MachineError when there is no cluster to connect to."""
        nodes = living_nodes()
        return room_on(nodes, asked_of(nodes, resources))

    def admit(self, workers: int, resources: Resources, local: Sequence[str]) -> None:
        """See Backend."""
        check_nodes(living_nodes(), workers, resources, () if self.shared_filesystem else local)

    def show(self, samples: Iterable[Sample]) -> None:
        """See Backend. Among the metrics of the cluster."""
        self.metrics.show(samples)

    def present(self) -> int:
        """See Backend."""
        return self.headcount.now

    def stop(self) -> None:
        """See Backend."""
        self.headcount.is_over = True

    def run(
        self, step: Step[Task, Done], tasks: Sequence[Task], workers: int, resources: Resources
    ) -> Generator[Done, None, None]:
        """See Backend."""
        resources = asked_of(living_nodes(), resources)
        with self.kept() as kept:
            assert kept.idle is not None
            actors = ActorPool(step, resources, kept.idle, self.is_bound)
            most = partial(self._most, workers, resources)
            yield from drive(actors, step, tasks, most, self.patience, headcount=self.headcount)

    def _most(self, workers: int, resources: Resources) -> int:
        """How many workers there may be now: asked for, or with room."""
        if not self.grows:
            return workers
        nodes = living_nodes()
        room = room_on([node for node in nodes if node["NodeID"] == own_node()] if self.is_bound else nodes, resources)
        return max(1, room.by_memory)

    @contextmanager
    def kept(self) -> Iterator[RayActors]:
        """See Backend."""
        if self.idle is not None:
            yield self
            return
        idle: list[Actor] = []
        try:
            yield replace(self, idle=idle)
        finally:
            kill_all(idle)
