"""Chaos: jobs are struck at seeded moments, what is dead is done again, and every byte is compared.

    python -m tests.chaos.chaos [--moments 200] [--seed 0] [--victim node] [--log FILE]

A moment counts where it met a running job. What is struck is drawn by the seed and the number of the moment: a log that
has some of them is continued. Ray has a head and two nodes with other CPUs; a node that is killed is replaced. Actors,
raylets and nodes are struck while they are at a task.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil

from gneiss.store.objects import ObjectStore
from gneiss.store.place import Place, place_of
from tests.backends.ray_cluster import Head, Node, running_head
from tests.chaos import jobs
from tests.chaos.jobs import Job, Where
from tests.store import s3_server
from tests.store.s3_server import S3Server

DRIVER, WORKER, ACTOR, RAYLET, NODE, SERVER = "driver", "worker", "actor", "raylet", "node", "store server"
RAY_DRIVER = "driver on Ray"
#: What is struck, how often of 20 moments, and where its job is done.
VICTIMS: dict[str, tuple[int, Where]] = {
    DRIVER: (5, "here"),
    WORKER: (4, "local"),
    RAY_DRIVER: (1, "ray"),
    ACTOR: (4, "ray"),
    RAYLET: (2, "ray"),
    NODE: (2, "ray"),
    SERVER: (2, "here"),
}
JOBS = (jobs.SHARDS, jobs.CORPUS, jobs.SHARES, jobs.PHASES, jobs.EXTRACTION)
_NODE_CPUS = (1, 2)
_LONGEST_SECONDS = 900.0


@dataclass(frozen=True)
class Outcome:
    """What a moment came to. attempts: at one task, the most; resumed: whether the job had to be done again."""

    number: int
    victim: str
    job: str
    share: float
    lost: int
    doubled: int
    is_equal: bool
    attempts: int
    resumed: bool

    @property
    def hit(self) -> bool:
        """Whether a task was under way, which had to be begun again."""
        return self.attempts > 1

    @property
    def is_right(self) -> bool:
        """Whether nothing is amiss: a job whose driver lives, and whose store does, ends without help."""
        helped = self.resumed and self.victim not in (DRIVER, RAY_DRIVER, SERVER)
        return self.is_equal and not self.lost and not self.doubled and not helped and self.attempts <= 2


@dataclass(frozen=True)
class Moment:
    """What is struck, and when: after this share of the time of a job."""

    number: int
    victim: str
    job: str
    share: float


def moments(seed: int, only: Sequence[str] = ()) -> Iterator[Moment]:
    """Without end, the same for the same seed."""
    names = list(only) or list(VICTIMS)
    weights = [VICTIMS[name][0] for name in names]
    number = 0
    while True:
        draw = random.Random(f"{seed} {number}")
        yield Moment(number, draw.choices(names, weights)[0], draw.choice(JOBS), draw.random())
        number += 1


@dataclass
class World:
    """Where jobs are done: folders, and, as soon as they are needed, a Ray cluster and an S3 server."""

    folder: Path
    context: ForkServerContext
    stack: ExitStack
    jobs: dict[str, Job] = field(default_factory=dict)
    head: Head | None = None
    server: S3Server | None = None
    in_peace: dict[Place, tuple[dict[str, bytes], float]] = field(default_factory=dict)
    folders: int = 0

    def strike(self, moment: Moment) -> Outcome | None:
        """Do a job and strike; None where the moment met nothing that could be struck."""
        where = VICTIMS[moment.victim][1]
        job, base = self._job(moment)
        reference, seconds = self._in_peace(moment, job, base, where)
        output, attempts = base / f"{moment.number}", self._new_attempts()
        process = self._start(job, output, where, attempts)
        _wait_for(lambda: bool(_begun(attempts)) or not process.is_alive())
        time.sleep(moment.share * seconds)
        met = self._kill(moment.victim, process, attempts / jobs.AT, random.Random(moment.number))
        process.join(_LONGEST_SECONDS)
        if process.is_alive():
            process.kill()
            raise AssertionError(f"{moment}: the job hangs")
        if not met:
            return None
        if resumed := process.exitcode != 0:
            again = self._start(job, output, "here", attempts)
            again.join()
            assert again.exitcode == 0, f"{moment}: it does not resume"
        found = jobs.contents(output)
        expected, rows = jobs.rows(reference), jobs.rows(found)
        most = max(file.stat().st_size for file in _begun(attempts))
        return Outcome(
            moment.number, moment.victim, moment.job, moment.share, (expected - rows).total(),
            (rows - expected).total(), found == reference, most, resumed,
        )  # fmt: skip

    def _job(self, moment: Moment) -> tuple[Job, Place]:
        """The job, and where its outputs go."""
        if not self.jobs:
            self.jobs = jobs.write_jobs(self.folder)
        job = self.jobs[moment.job]
        if moment.victim != SERVER:
            return job, place_of(self.folder / f"{VICTIMS[moment.victim][1]}-{moment.job}".replace(" ", "-"))
        if self.server is None:
            self.server = self.stack.enter_context(s3_server.running(self._new_folder("s3")))
            os.environ.update(s3_server.environment(self.server.endpoint))
            self.server.bucket("gneiss")
        place = place_of(f"s3://gneiss/{moment.job.replace(' ', '-')}")
        assert isinstance(place.store, ObjectStore)
        place = replace(place, store=replace(place.store, lease_seconds=5.0))
        if place / "outputs" not in self.in_peace:
            for file in job.input.files():
                with (place / "input" / file.name).create() as copied:
                    copied.write((job.input / file.name).read())
        return replace(job, input=place / "input"), place / "outputs"

    def _in_peace(self, moment: Moment, job: Job, base: Place, where: Where) -> tuple[dict[str, bytes], float]:
        """What the job gives where nobody strikes, and the seconds from its first task on."""
        if where == "ray" and self.head is None:
            self.head = self.stack.enter_context(running_head(cpus=1))
            self._nodes()
        if base not in self.in_peace:
            attempts = self._new_attempts()
            process = self._start(job, base / "whole", where, attempts)
            _wait_for(lambda: bool(_begun(attempts)) or not process.is_alive())
            began = time.monotonic()
            process.join()
            assert process.exitcode == 0, f"{moment}: a job in peace fails"
            self.in_peace[base] = jobs.contents(base / "whole"), time.monotonic() - began
        return self.in_peace[base]

    def _nodes(self) -> list[Node]:
        """The living nodes beside the head, as soon as these are two; what has ended otherwise is replaced too."""
        assert self.head
        found: list[Node] = []
        while len(found) < len(_NODE_CPUS):
            living = [node for node in self.head.nodes if node.processes()]
            for cpus in _NODE_CPUS[len(living) :]:
                self.head.join(cpus)
            found = [node for node in living if node.processes("raylet")]
            time.sleep(0.1)
        return found

    def _start(self, job: Job, output: Place, where: Where, attempts: Path) -> BaseProcess:
        environment = {name: value for name, value in os.environ.items() if name.startswith(("AWS_", "RAY_", "HOME"))}
        process = self.context.Process(target=jobs.drive, args=(job, output, where, attempts, environment))
        process.start()
        return process

    def _new_folder(self, name: str) -> Path:
        self.folders += 1
        folder = self.folder / f"{name}-{self.folders}"
        folder.mkdir()
        return folder

    def _new_attempts(self) -> Path:
        folder = self._new_folder("attempts")
        (folder / jobs.AT).mkdir()
        return folder

    def _kill(self, victim: str, driver: BaseProcess, at: Path, draw: random.Random) -> bool:
        """Kill one of its kind; False where there is none. at: names the workers that are at a task."""
        if not driver.is_alive():
            return False
        if victim in (DRIVER, RAY_DRIVER):
            return _end(driver.pid or 0)
        if victim == WORKER:
            return _end_one(_workers_of(driver.pid or 0), draw)
        if victim == SERVER:
            assert self.server
            self.server.kill()
            time.sleep(draw.random())
            self.server.start()
            return True
        assert self.head
        nodes = self._nodes()
        while driver.is_alive():
            busy = {int(file.name) for file in at.iterdir()}
            actors = {pid: node for node in nodes for pid in node.processes("ray::Worker") if pid in busy}
            if actors:
                break
            time.sleep(0.002)
        else:
            return False
        actor = draw.choice(sorted(actors))
        if victim == ACTOR:
            return _end(actor)
        if victim == RAYLET:
            actors[actor].kill_raylet()
        else:
            actors[actor].kill()
        self.head.join(draw.choice(_NODE_CPUS))  # in mid-run
        return True


def _begun(attempts: Path) -> list[Path]:
    """The files of tasks that workers have begun."""
    return [file for file in attempts.iterdir() if file.name != jobs.AT]


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _LONGEST_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "a job has not begun"
        time.sleep(0.005)


def _workers_of(driver: int) -> list[int]:
    """The worker processes of a driver; none where it has ended."""
    found = []
    with suppress(psutil.NoSuchProcess):
        for process in psutil.Process(driver).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                found += [process.pid] if "spawn_main" in " ".join(process.cmdline()) else []
    return found


def _end_one(pids: Sequence[int], draw: random.Random) -> bool:
    return bool(pids) and _end(draw.choice(pids))


def _end(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False


@contextmanager
def world(context: ForkServerContext) -> Iterator[World]:
    """A world that is gone afterwards."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gneiss-chaos-")))
        yield World(folder, context, stack)


def table(outcomes: Sequence[Outcome]) -> str:
    """What was struck × the job: moments, and how many of them are not right."""
    head = ("struck", *JOBS, "moments", "at a task", "rows lost", "doubled", "bytes differ", "most attempts", "resumed")
    lines = [f"| {' | '.join(head)} |", "| --- " * len(head) + "|"]
    for victim in [*VICTIMS, "all"]:
        of_victim = [outcome for outcome in outcomes if victim in (outcome.victim, "all")]
        if of_victim:
            counts = [sum(outcome.job == job for outcome in of_victim) for job in JOBS]
            sums = (
                len(of_victim), sum(o.hit for o in of_victim), sum(o.lost for o in of_victim),
                sum(o.doubled for o in of_victim), sum(not o.is_equal for o in of_victim),
                max(o.attempts for o in of_victim), sum(o.resumed for o in of_victim),
            )  # fmt: skip
            lines.append("| " + " | ".join(map(str, (victim, *counts, *sums))) + " |")
    return "\n".join(lines)


def struck(world: World, wanted: int, drawn: Iterator[Moment]) -> Iterator[Outcome]:
    """So many moments that met a running job. Raises AssertionError where too many meet none."""
    for tried, moment in enumerate(drawn):
        if not wanted:
            return
        assert tried < 50 + 4 * wanted, "most moments meet no running job"
        if (outcome := world.strike(moment)) is not None:
            wanted -= 1
            yield outcome


def main() -> int:
    """Strike, print a table; 1 where anything is not right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--victim", action="append", choices=VICTIMS, default=[], help="strike only these")
    parser.add_argument("--log", type=Path, help="a file of moments that is continued")
    given = parser.parse_args()
    lines = given.log.read_text().splitlines() if given.log and given.log.exists() else []
    outcomes = [Outcome(**json.loads(line)) for line in lines]
    known = {outcome.number for outcome in outcomes}
    drawn = (moment for moment in moments(given.seed, given.victim) if moment.number not in known)
    context = get_context("forkserver")
    context.set_forkserver_preload(["tests.warm"])
    with world(context) as started:
        for outcome in struck(started, given.moments - len(outcomes), drawn):
            outcomes.append(outcome)
            said = "right" if outcome.is_right else f"NOT RIGHT: {outcome}"
            print(f"{len(outcomes)}/{given.moments} {outcome.victim}, {outcome.job}: {said}", flush=True)
            if given.log:
                with given.log.open("a") as log:
                    log.write(json.dumps(asdict(outcome)) + "\n")
    print(table(outcomes))
    return 0 if all(outcome.is_right for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
