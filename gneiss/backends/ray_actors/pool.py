"""A pool of actors. One that dies stays dead: the driver starts another one.

Ray says of a dead actor that it is dead. What it died of is found on its node, by a task without a CPU of its own: in
the actor's record a crash, in the kernel's count a kill for memory, and of a node that does not answer that it is lost.
Ray takes many seconds to find that a node is gone; meanwhile other actors are given tasks.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, Literal

from gneiss.backends.care import Care
from gneiss.backends.driving import Answered, Died, Event, Opened, Placed, Seen
from gneiss.backends.machine import Death, death_by_kill, worn_out
from gneiss.backends.ray_actors.cluster import last_line, living_nodes, on_node, own_node
from gneiss.backends.ray_actors.worker import Home, Worker, examine, look_at, send_signal
from gneiss.backends.recorder import ASK
from gneiss.backends.resources import Resources
from gneiss.errors import DefectError, GneissError, MachineError

#: How long a node may take to say what an actor on it died of; then it is lost.
NODE_SECONDS = 30.0
_LOST = Death("lost with its node", is_own=False)


@dataclass
class Actor:
    handle: Any
    resources: Resources
    home: Home | None = None
    opened_bytes: int = 0


@dataclass(frozen=True)
class _Call:
    """A call of an actor whose answer is awaited."""

    worker: int
    what: Literal["home", "open", "work"]


@dataclass(frozen=True)
class _Examination:
    """What a node is asked of a dead actor on it; error: what Ray says of it; until: when the node is lost."""

    worker: int
    home: Home
    error: Exception
    until: float


class ActorPool:
    """See Pool. idle: actors that other pools were done with, or will be given; is_bound: to the node of the driver."""

    def __init__(self, step: Any, resources: Resources, idle: list[Actor], is_bound: bool) -> None:
        import ray

        self._resources, self._idle = resources, idle
        self._class: Any = ray.remote(
            num_cpus=resources.cpus,
            num_gpus=resources.gpus,
            memory=resources.memory_bytes,
            max_restarts=0,
            max_task_retries=0,
        )(Worker)
        if is_bound:
            self._class = on_node(own_node(), self._class)
        self._look, self._examine, self._signal = (
            ray.remote(num_cpus=0, max_retries=0)(function) for function in (look_at, examine, send_signal)
        )
        self._step = ray.put(step)
        self._living: dict[int, Actor] = {}
        self._calls: dict[Any, _Call] = {}
        self._looks: dict[Any, list[int]] = {}
        self._examinations: dict[Any, _Examination] = {}
        self._numbers = count(1)

    def start(self) -> int:
        """See Pool."""
        number = next(self._numbers)
        same = next((actor for actor in self._idle if actor.resources == self._resources), None)
        if same is not None:
            self._idle.remove(same)
        actor = same or Actor(self._class.remote(), self._resources)
        self._living[number] = actor
        self._calls[actor.handle.home.remote()] = _Call(number, "home")
        self._calls[actor.handle.open.remote(self._step)] = _Call(number, "open")
        return number

    def give(self, worker: int, task: Any, care: Care) -> None:
        """See Pool."""
        self._calls[self._living[worker].handle.work.remote(task, care)] = _Call(worker, "work")

    def look(self, workers: Collection[int]) -> None:
        """See Pool. A node is not looked at again before it has answered."""
        awaited = {number for look in self._looks.values() for number in look}
        on_nodes: dict[str, list[Actor]] = {}
        numbers: dict[str, list[int]] = {}
        for number in workers:
            home = self._living[number].home
            if number not in awaited and home is not None:
                on_nodes.setdefault(home.node, []).append(self._living[number])
                numbers.setdefault(home.node, []).append(number)
        for node, actors in on_nodes.items():
            homes = [(actor.home.pid, actor.home.record) for actor in actors if actor.home]
            self._looks[on_node(node, self._look).remote(homes)] = numbers[node]

    def ask(self, worker: int) -> None:
        """See Pool."""
        if (home := self._living[worker].home) is not None:
            on_node(home.node, self._signal).remote(home.pid, ASK)

    def end(self, worker: int) -> None:
        """See Pool. A process that is stopped does not hear Ray, so it is killed on its node."""
        if (home := self._living[worker].home) is not None:
            on_node(home.node, self._signal).remote(home.pid, signal.SIGKILL, home.record)
        self._forget(worker)

    def events(self, seconds: float) -> Sequence[Event]:
        """See Pool."""
        import ray

        ready, _ = ray.wait([*self._calls, *self._looks, *self._examinations], num_returns=1, timeout=seconds)
        now = time.monotonic()
        overdue = [ref for ref, dead in self._examinations.items() if dead.until <= now and ref not in ready]
        return [event for ref in (*ready, *overdue) for event in self._event_of(ref)]

    def _event_of(self, ref: Any) -> Iterator[Event]:
        if ref in self._looks:
            return self._seen(ref)
        return self._heard(ref) if ref in self._calls else self._examined(ref)

    def close(self) -> None:
        """See Pool. An actor without a place does not live on, since it would keep others from one."""
        busy = {call.worker for call in self._calls.values() if call.what == "work"}
        busy |= {dead.worker for dead in self._examinations.values()}
        idle = [actor for number, actor in self._living.items() if number not in busy and actor.home is not None]
        self._idle += idle
        kill_all([actor for actor in self._living.values() if actor not in idle])

    def _seen(self, ref: Any) -> Iterator[Event]:
        """What a look at the actors of a node showed."""
        import ray
        from ray.exceptions import RayError

        numbers = self._looks.pop(ref)
        try:
            seen = ray.get(ref)
        except RayError:
            return  # the node is lost, or full: what that means for its actors their own calls will say
        for number, vitals in zip(numbers, seen, strict=True):
            if vitals is not None:
                yield Seen(number, vitals)

    def _heard(self, ref: Any) -> Iterator[Event]:
        """What an actor answered."""
        import ray
        from ray.exceptions import (
            NodeDiedError,
            ObjectLostError,
            OutOfMemoryError,
            RayActorError,
            RayError,
            RayTaskError,
        )

        call = self._calls.pop(ref)
        try:
            answer = ray.get(ref)
        except (RayActorError, NodeDiedError, ObjectLostError, OutOfMemoryError) as error:
            if getattr(error, "actor_init_failed", False):
                raise MachineError(f"a worker cannot start: {last_line(error)}") from error
            yield from self._ended(call.worker, error)
            return
        except RayTaskError as error:
            raise DefectError(f"a worker failed: {last_line(error)}", str(error)) from error
        except RayError as error:
            raise MachineError(f"a worker failed: {last_line(error)}") from error
        if isinstance(answer, GneissError):
            raise answer
        actor = self._living[call.worker]
        if call.what == "home":
            actor.home = answer
            yield Placed(call.worker, f"process {answer.pid} on node {answer.node[:12]}")
        elif call.what == "open":
            actor.opened_bytes = answer
            yield Opened(call.worker)
        else:
            given, kills, held = answer
            actor.home = actor.home and replace(actor.home, kills=kills)
            yield Answered(call.worker, given)
            if worn := worn_out(held, actor.opened_bytes, self._resources):
                self.end(call.worker)
                yield Died(call.worker, worn)

    def _ended(self, worker: int, error: Exception) -> Iterator[Event]:
        """An actor is dead: its node is asked what it died of, unless that is known."""
        from ray.exceptions import ObjectLostError

        home = self._living[worker].home
        if isinstance(error, ObjectLostError):
            death = Death("its answer was lost with a node", is_own=False)
        elif home is None:
            death = Death(f"lost before it had a process: {last_line(error)}", is_own=False)
        elif home.node not in {node["NodeID"] for node in living_nodes()}:
            death = _LOST
        else:
            self._drop(worker)
            examined = on_node(home.node, self._examine).remote(home.record)
            self._examinations[examined] = _Examination(worker, home, error, time.monotonic() + NODE_SECONDS)
            return
        self._forget(worker)
        yield Died(worker, death)

    def _examined(self, ref: Any) -> Iterator[Event]:
        """What an actor died of, as far as its node knows."""
        import ray
        from ray.exceptions import OutOfMemoryError, RayError

        dead = self._examinations.pop(ref)
        try:
            kills, record = ray.get(ref, timeout=0)
        except RayError:
            death = _LOST
        else:
            if isinstance(dead.error, OutOfMemoryError):
                death = Death("killed by Ray: its node was out of memory", is_own=True, is_for_memory=True)
            elif record.crash:
                death = Death(record.crash, is_own=True)
            else:
                death = death_by_kill(dead.home.kills, kills)
            death = replace(death, record=record)
        self._forget(dead.worker)
        yield Died(dead.worker, death)

    def _forget(self, worker: int) -> None:
        """Be done with an actor."""
        self._drop(worker)
        del self._living[worker]

    def _drop(self, worker: int) -> None:
        """Expect nothing more of an actor, and let Ray kill it if it lives: it may only be out of reach."""
        import ray

        ray.kill(self._living[worker].handle)
        self._calls = {ref: call for ref, call in self._calls.items() if call.worker != worker}
        self._examinations = {ref: dead for ref, dead in self._examinations.items() if dead.worker != worker}


def kill_all(actors: Sequence[Actor]) -> None:
    import ray

    for actor in actors:
        ray.kill(actor.handle)
