"""Ray actors: the one module that imports Ray. An actor that dies stays dead: the driver starts another one.

Ray says of a dead actor that it is dead. What it died of is found on its node, by a task without a CPU of its own: in
the actor's record a crash, in the kernel's count a kill for memory, and of a node that does not answer that it is lost.
"""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import signal
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import count
from tempfile import mkdtemp, mkstemp
from threading import current_thread, main_thread
from typing import Any, Literal

from gneiss.backends import Done, Patience, Room, Step, Task
from gneiss.backends.care import Care, watched
from gneiss.backends.driving import Answered, Died, Event, Opened, Placed, Seen, drive
from gneiss.backends.machine import Death, Vitals, death_by_kill, log_folder, memory_kills, vitals, worn_out
from gneiss.backends.memory import held_bytes
from gneiss.backends.recorder import ASK, Record, Recorder, read_record
from gneiss.backends.resources import Resources
from gneiss.backends.samples import Sample
from gneiss.errors import DefectError, GneissError, MachineError

#: How long a node may take to say what an actor on it died of; then it is lost.
NODE_SECONDS = 30.0
_LOOPBACK = "127.0.0.1"
_log = logging.getLogger(__name__)


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
    metrics: _Metrics = field(default_factory=lambda: _Metrics(), compare=False, repr=False)
    idle: list[_Actor] | None = field(default=None, compare=False, repr=False)

    def room(self, resources: Resources) -> Room:
        """See Backend. Raises MachineError when there is no cluster to connect to."""
        return room_on(_nodes(), resources)

    def admit(self, workers: int, resources: Resources, local: Sequence[str]) -> None:
        """See Backend."""
        check_nodes(_nodes(), workers, resources, () if self.shared_filesystem else local)

    def show(self, samples: Iterable[Sample]) -> None:
        """See Backend. Among the metrics of the cluster."""
        self.metrics.show(samples)

    def run(
        self, step: Step[Task, Done], tasks: Sequence[Task], workers: int, resources: Resources
    ) -> Generator[Done, None, None]:
        """See Backend."""
        _nodes()
        with self.kept() as kept:
            assert kept.idle is not None
            actors = _Actors(step, resources, kept.idle, self.is_bound)
            yield from drive(actors, step, tasks, lambda: self._most(workers, resources), self.patience)

    def _most(self, workers: int, resources: Resources) -> int:
        """How many workers there may be now: asked for, or with room."""
        if not self.grows:
            return workers
        nodes = _nodes()
        room = room_on([node for node in nodes if node["NodeID"] == _own_node()] if self.is_bound else nodes, resources)
        return max(1, room.by_memory)

    @contextmanager
    def kept(self) -> Iterator[RayActors]:
        """See Backend."""
        if self.idle is not None:
            yield self
            return
        idle: list[_Actor] = []
        try:
            yield replace(self, idle=idle)
        finally:
            _kill_all(idle)


@dataclass
class _Metrics:
    """Metrics of Ray's by name, and what its counters have been raised to, as Ray can only add."""

    metrics: dict[str, Any] = field(default_factory=dict)
    raised: dict[tuple[str, ...], float] = field(default_factory=dict)

    def show(self, samples: Iterable[Sample]) -> None:
        """Set gauges, raise counters."""
        from ray.util.metrics import Counter, Gauge

        for its in samples:
            if (metric := self.metrics.get(its.name)) is None:
                kind: Any = Counter if its.kind == "counter" else Gauge
                metric = self.metrics[its.name] = kind(its.name, description=its.meaning, tag_keys=tuple(its.labels))
            if its.kind == "gauge":
                metric.set(its.value, tags=dict(its.labels))
                continue
            before = self.raised.get(key := (its.name, *its.labels.values()), 0.0)
            if more := its.value - before if its.value >= before else its.value:  # less: of a driver that began anew
                metric.inc(more, tags=dict(its.labels))
            self.raised[key] = its.value


@dataclass(frozen=True)
class _Home:
    """Where an actor lives: its node, its process, the file of its recorder, and the memory kills there."""

    node: str
    pid: int
    record: str
    kills: int | None


@dataclass
class _Actor:
    handle: Any
    resources: Resources
    home: _Home | None = None
    opened_bytes: int = 0


@dataclass(frozen=True)
class _Call:
    """A call of an actor whose answer is awaited."""

    worker: int
    what: Literal["home", "open", "work"]


class _Actors:
    """See Pool. idle: actors that other pools were done with, or will be given; is_bound: to the node of the driver."""

    def __init__(self, step: Any, resources: Resources, idle: list[_Actor], is_bound: bool) -> None:
        import ray

        self._resources, self._idle = resources, idle
        self._class: Any = ray.remote(
            num_cpus=resources.cpus, memory=resources.memory_bytes, max_restarts=0, max_task_retries=0
        )(_Worker)
        if is_bound:
            self._class = _on(_own_node(), self._class)
        self._look, self._examine, self._signal = (
            ray.remote(num_cpus=0, max_retries=0)(its) for its in (_look, _examine, _signal)
        )
        self._step = ray.put(step)
        self._living: dict[int, _Actor] = {}
        self._calls: dict[Any, _Call] = {}
        self._looks: dict[Any, list[int]] = {}
        self._numbers = count(1)

    def start(self) -> int:
        """See Pool."""
        number = next(self._numbers)
        same = next((its for its in self._idle if its.resources == self._resources), None)
        if same is not None:
            self._idle.remove(same)
        actor = same or _Actor(self._class.remote(), self._resources)
        self._living[number] = actor
        self._calls[actor.handle.home.remote()] = _Call(number, "home")
        self._calls[actor.handle.open.remote(self._step)] = _Call(number, "open")
        return number

    def give(self, worker: int, task: Any, care: Care) -> None:
        """See Pool."""
        self._calls[self._living[worker].handle.work.remote(task, care)] = _Call(worker, "work")

    def look(self, workers: Collection[int]) -> None:
        """See Pool. A node is not looked at again before it has answered."""
        awaited = {number for its in self._looks.values() for number in its}
        on_nodes: dict[str, list[_Actor]] = {}
        numbers: dict[str, list[int]] = {}
        for number in workers:
            home = self._living[number].home
            if number not in awaited and home is not None:
                on_nodes.setdefault(home.node, []).append(self._living[number])
                numbers.setdefault(home.node, []).append(number)
        for node, actors in on_nodes.items():
            homes = [(actor.home.pid, actor.home.record) for actor in actors if actor.home]
            self._looks[_on(node, self._look).remote(homes)] = numbers[node]

    def ask(self, worker: int) -> None:
        """See Pool."""
        if (home := self._living[worker].home) is not None:
            _on(home.node, self._signal).remote(home.pid, ASK)

    def end(self, worker: int) -> None:
        """See Pool. A process that is stopped does not hear Ray, so it is killed on its node."""
        if (home := self._living[worker].home) is not None:
            _on(home.node, self._signal).remote(home.pid, signal.SIGKILL, home.record)
        self._forget(worker)

    def events(self, seconds: float) -> Sequence[Event]:
        """See Pool."""
        import ray

        ready, _ = ray.wait([*self._calls, *self._looks], num_returns=1, timeout=seconds)
        return [event for ref in ready for event in (self._seen(ref) if ref in self._looks else self._heard(ref))]

    def close(self) -> None:
        """See Pool. An actor without a place does not live on, since it would keep others from one."""
        busy = {call.worker for call in self._calls.values() if call.what == "work"}
        idle = [its for number, its in self._living.items() if number not in busy and its.home is not None]
        self._idle += idle
        _kill_all([its for its in self._living.values() if its not in idle])

    def _seen(self, ref: Any) -> Iterator[Event]:
        """What a look at the actors of a node showed."""
        import ray
        from ray.exceptions import RayError

        numbers = self._looks.pop(ref)
        try:
            seen = ray.get(ref)
        except RayError:
            return  # the node is lost, or full: what that means for its actors their own calls will say
        for number, its in zip(numbers, seen, strict=True):
            if its is not None:
                yield Seen(number, its)

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
                raise MachineError(f"a worker cannot start: {_last_line(error)}") from error
            death = self._death_of(self._living[call.worker], error)
            self._forget(call.worker)
            yield Died(call.worker, death)
            return
        except RayTaskError as error:
            raise DefectError(f"a worker failed: {_last_line(error)}", str(error)) from error
        except RayError as error:
            raise MachineError(f"a worker failed: {_last_line(error)}") from error
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

    def _death_of(self, actor: _Actor, error: Exception) -> Death:
        """What an actor died of, as far as its node knows."""
        import ray
        from ray.exceptions import ObjectLostError, OutOfMemoryError, RayError

        if isinstance(error, ObjectLostError):
            return Death("its answer was lost with a node", is_own=False)
        if actor.home is None:
            return Death(f"lost before it had a process: {_last_line(error)}", is_own=False)
        lost = Death("lost with its node", is_own=False)
        if actor.home.node not in {node["NodeID"] for node in _nodes()}:
            return lost
        try:
            examine = _on(actor.home.node, self._examine).remote(actor.home.record)
            kills, record = ray.get(examine, timeout=NODE_SECONDS)
        except RayError:
            return lost
        if isinstance(error, OutOfMemoryError):
            death = Death("killed by Ray: its node was out of memory", is_own=True, is_for_memory=True)
        elif record.crash:
            death = Death(record.crash, is_own=True)
        else:
            death = death_by_kill(actor.home.kills, kills)
        return replace(death, record=record)

    def _forget(self, worker: int) -> None:
        """Expect nothing more of an actor, and let Ray kill it if it lives: it may only be out of reach."""
        import ray

        ray.kill(self._living.pop(worker).handle)
        self._calls = {ref: call for ref, call in self._calls.items() if call.worker != worker}


def _kill_all(actors: Sequence[_Actor]) -> None:
    import ray

    for actor in actors:
        ray.kill(actor.handle)


def _on(node: str, function: Any) -> Any:
    """A remote function, to be run on this node."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return function.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node_id=node, soft=False))


def _look(homes: Sequence[tuple[int, str]]) -> list[Vitals | None]:
    return [vitals(pid, _record(record)) for pid, record in homes]


def _examine(record: str) -> tuple[int | None, Record]:
    found = _record(record)
    with suppress(OSError):
        os.unlink(record)  # whose actor is dead
    return memory_kills(), found


def _record(path: str) -> Record:
    """What the recorder of an actor of this node says; nothing where its file is gone."""
    try:
        with open(path, "rb", buffering=0) as file:
            return read_record(file.fileno())
    except OSError:
        return Record()


def _signal(pid: int, number: int, record: str = "") -> None:
    """Send a signal to a process of this node; record: a file that then nobody needs any more."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)
    if record:
        with suppress(OSError):
            os.unlink(record)


def room_on(nodes: Sequence[Mapping[str, Any]], resources: Resources) -> Room:
    """How many workers fit on nodes, as `ray.nodes()` describes them; a worker fits only where one node has both."""
    cpus = [int(_offer(node, "CPU")) // resources.cpus for node in nodes]
    by_memory = [resources.places(int(_offer(node, "memory"))) for node in nodes]
    return Room(sum(cpus), sum(map(min, cpus, by_memory)))


def _offer(node: Mapping[str, Any], resource: str) -> float:
    return float(node["Resources"].get(resource, 0))


def check_nodes(nodes: Sequence[Mapping[str, Any]], workers: int, resources: Resources, local: Sequence[str]) -> None:
    """Refuse a run whose workers have no place on any node, or find other files there. Raises MachineError.

    local: paths that workers read or write, and of which nobody has said that every node sees the same there.
    """
    if len(nodes) > 1 and local:
        raise MachineError(
            f"the cluster has {len(nodes)} nodes, and these are local paths: {', '.join(local)}; give"
            " shared_filesystem=True if every node sees the same files there, or addresses of a store instead"
        )
    room = room_on(nodes, resources)
    if not room.by_memory and (room.by_cpus or local):
        offered = ", ".join(f"{_offer(node, 'CPU'):g} and {_offer(node, 'memory') / 1e9:.1f} GB" for node in nodes)
        raise MachineError(
            f"a worker needs CPUs ({resources.cpus}) and memory (about {resources.said}) of one node, but the cluster's"
            f" nodes offer {offered}: use {resources.less}"
        )
    if workers > room.by_memory:
        _log.warning(
            "%d workers were asked for, but the cluster has CPUs for %d, and memory for %d at %s each: the others start"
            " when machines join",
            workers, room.by_cpus, room.by_memory, resources.said,
        )  # fmt: skip


def _nodes() -> list[Mapping[str, Any]]:
    """The living nodes of the cluster that RAY_ADDRESS or the job names, or of one started on this machine.

    One that is started here listens on the loopback interface only, and its files are private.
    """
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # read by `import ray`; named for its default
    import ray

    if not ray.is_initialized():
        try:
            own: Any = {} if address else {"_temp_dir": _own_folder()}
            with _signal_handlers_kept():
                ray.init(address=address or "local", logging_level=logging.WARNING, **own)
        except Exception as error:  # of any class: Ray raises Exception itself where a start takes it too long
            raise MachineError(f"cannot connect to Ray (RAY_ADDRESS={address or ''}): {_last_line(error)}") from error
        if not address and any(node["NodeManagerAddress"] != _LOOPBACK for node in ray.nodes()):  # type: ignore[no-untyped-call]
            _log.warning("Ray was imported before gneiss, and listens on all interfaces of this machine")
    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def _own_folder() -> str:
    """A folder for a Ray of this process, which goes with it.

    It lies in one that only we may enter, since Ray opens its own to everybody; its sockets need a short path.
    """
    private = mkdtemp(prefix="gneiss-ray-", dir="/tmp")
    atexit.register(_leave, private)
    return f"{private}/ray"


def _leave(folder: str) -> None:
    import ray

    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


def _own_node() -> str:
    """The node of this process."""
    import ray

    return str(ray.get_runtime_context().get_node_id())


@contextmanager
def _signal_handlers_kept() -> Iterator[None]:
    """Ray takes SIGTERM for itself when it starts: Python's handler, and one below it that prints a C++ stack."""
    if current_thread() is not main_thread():  # only there can handlers be set, and Ray sets none elsewhere
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    yield
    if callable(before):
        signal.signal(signal.SIGTERM, before)


class _Worker:
    """The actor: opens a step, then works. Errors that concern the run come back as values, not as retries."""

    def __init__(self) -> None:
        self._work: Callable[[Any], Any] | None = None
        descriptor, self._record = mkstemp(prefix="gneiss-recorder-", dir=log_folder())
        self._recorder = Recorder(descriptor)

    def home(self) -> _Home:
        """Where it lives."""
        import ray

        return _Home(ray.get_runtime_context().get_node_id(), os.getpid(), self._record, memory_kills())

    def open(self, step: Any) -> GneissError | int:
        """Open a step; what it holds then."""
        self._work = None  # so that two are never held
        try:
            self._work = step.open()
        except GneissError as error:
            return error
        return held_bytes()

    def work(self, task: Any, care: Care) -> GneissError | tuple[Any, int | None, int]:
        """Apply the step to a task; with the answer, the memory kills of its node, and what it holds."""
        assert self._work is not None
        try:
            with watched(care, self._recorder):
                answer = self._work(task)
            return answer, memory_kills(), held_bytes()
        except GneissError as error:
            return error


def _last_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1][:300]
