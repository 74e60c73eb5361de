"""Kills of a run from S3 to S3: of its driver, of a worker, of the server, at seeded moments of its requests.

`make test-kills` kills more often; see KILLS.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil
import pytest

import gneiss
from gneiss.errors import OutputError
from gneiss.output import ledger
from gneiss.store.objects import ObjectStore
from gneiss.store.place import Place, place_of
from tests import runs
from tests.store.faults import Fault, Proxy
from tests.store.s3_server import S3Server
from tests.warm_processes import WarmProcesses

pytestmark = pytest.mark.processes

#: How often each is killed; a run with two workers lasts longer, and a server needs seconds to start.
KILLS = int(os.environ.get("GNEISS_KILLS", "3"))
NOT_PROMISED = ("_gneiss/ledger/", "_gneiss/run.json", "_gneiss/lock", "_gneiss/logs/", "README.md")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four shards, three of them with quarantined documents."""
    folder = tmp_path_factory.mktemp("corpus")
    for seed, name in enumerate(("a", "deep/b", "c", "d")):
        runs.write_corpus(folder / f"{name}.parquet", runs.documents(24, seed=seed), row_group_size=24)
    return folder


@pytest.fixture(scope="module")
def expected(recipe: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a run on a disk gives."""
    output = tmp_path_factory.mktemp("expected") / "output"
    gneiss.run(recipe, corpus, output, backend=runs.InThisProcess())
    return contents(place_of(output))


@pytest.fixture
def folder(s3_folder: str, corpus: Path) -> Place:
    """A folder of the server with the corpus in `input`; leases in it last a second."""
    place = place_of(s3_folder)
    assert isinstance(place.store, ObjectStore)
    place = replace(place, store=replace(place.store, lease_seconds=1.0))
    for file in place_of(corpus).files():
        with (place / "input" / file.name).create() as copied:
            copied.write((place_of(corpus) / file.name).read())
    return place


def contents(output: Place) -> dict[str, bytes]:
    names = (file.name for file in output.files() if not file.name.startswith(NOT_PROMISED))
    return {name: (output / name).read() for name in names}


def started(context: WarmProcesses, *arguments: object) -> BaseProcess:
    """`drive` in a process of its own."""
    process = context.Process(target=drive, args=arguments)
    process.start()
    return process


def drive(recipe: Path, folder: Place, output: str, backend: str | None = None) -> None:
    """A run in this process, or with two worker processes; a ledger segment for every shard."""
    ledger.SEGMENT_SECONDS = 0.0
    settings = {"backend": runs.InThisProcess()} if backend is None else {"backend": backend, "workers": 2}
    gneiss.run(recipe, folder / "input", folder / output, **settings)  # type: ignore[arg-type]


def end(process: int) -> None:
    """Kill a process, if it is there still."""
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def moments(requests: int, kills: int, seed: int) -> list[tuple[int, bool]]:
    """Seeded moments of a run: before a request is done, or after it, but before its answer."""
    draw = random.Random(seed)
    return [(draw.randint(1, requests), draw.random() < 0.5) for _ in range(kills)]


def is_whole(output: Place, expected: dict[str, bytes]) -> None:
    """Every byte is there, and each shard has one receipt in the ledger that counts."""
    assert contents(output) == expected
    assert {receipt.state for receipt in ledger.read(output).values()} == {ledger.COMMITTED}
    rows = Counter({name: count for receipt in ledger.read(output).values() for name, count in receipt.counts.items()})
    assert rows


def run_until(
    context: WarmProcesses, proxy: Proxy, moment: tuple[int, bool], victim: Callable[[int], None],
    *arguments: object,
) -> int | None:  # fmt: skip
    """A run in a process of its own, and what is to be done at its n-th request; how it ended."""
    number, is_after = moment
    processes: list[BaseProcess] = []

    def then() -> None:
        while not processes:  # it has asked before its start has returned
            time.sleep(0.001)
        victim(processes[0].pid or 0)

    proxy.faults.append(Fault(times=1, every=number, is_lost=is_after, then=then))
    processes.append(started(context, *arguments))
    processes[0].join()
    proxy.faults.clear()
    return processes[0].exitcode


def test_a_killed_driver_loses_and_doubles_nothing(
    warm: WarmProcesses, proxy: Proxy, recipe: Path, folder: Place, expected: dict[str, bytes]
) -> None:
    with proxy.counted() as counts:
        drive(recipe, folder, "whole")
    is_whole(folder / "whole", expected)
    killed = 0
    for number, moment in enumerate(moments(sum(counts.values()), KILLS, seed=1)):
        output = f"killed-{number}"
        code = run_until(warm, proxy, moment, end, recipe, folder, output)
        assert code in (-signal.SIGKILL, 0), moment
        killed += code != 0  # a quicker run renews its lease less often, and may end before its moment
        drive(recipe, folder, output)
        is_whole(folder / output, expected)
    assert killed >= 3 * KILLS // 4


def test_a_killed_worker_loses_and_doubles_nothing(
    warm: WarmProcesses, proxy: Proxy, recipe: Path, folder: Place, expected: dict[str, bytes]
) -> None:
    draw = random.Random(2)

    def kill_a_worker(driver: int) -> None:
        workers = [
            process
            for process in psutil.Process(driver).children(recursive=True)
            if "spawn" in " ".join(process.cmdline())
        ]
        if workers:
            end(draw.choice(workers).pid)

    with proxy.counted() as counts:
        drive(recipe, folder, "whole")
    for number, moment in enumerate(moments(sum(counts.values()), max(1, KILLS // 3), seed=3)):
        output = f"killed-{number}"
        assert run_until(warm, proxy, moment, kill_a_worker, recipe, folder, output, "local") == 0, moment
        is_whole(folder / output, expected)


def test_a_killed_server_loses_and_doubles_nothing(
    warm: WarmProcesses, proxy: Proxy, s3_server: S3Server, recipe: Path, folder: Place,
    expected: dict[str, bytes],
) -> None:  # fmt: skip
    """It comes back, and what it has acknowledged is there; who asks it meanwhile waits, or is resumed."""
    with proxy.counted() as counts:
        drive(recipe, folder, "whole")
    starters: list[threading.Thread] = []

    def kill_the_server(_: int) -> None:
        s3_server.kill()
        starters.append(threading.Thread(target=s3_server.start))
        starters[-1].start()

    for number, moment in enumerate(moments(sum(counts.values()), max(1, KILLS // 6), seed=4)):
        output = f"killed-{number}"
        run_until(warm, proxy, moment, kill_the_server, recipe, folder, output)
        while starters:
            starters.pop().join()
        drive(recipe, folder, output)
        is_whole(folder / output, expected)


def test_of_two_drivers_one_writes(
    warm: WarmProcesses, proxy: Proxy, recipe: Path, folder: Place, expected: dict[str, bytes]
) -> None:
    with proxy.fault("PutObject", "*/data/*", before_s=1.5):
        process = started(warm, recipe, folder, "output")
        while not any(request.key.endswith("/_gneiss/lock") for request in proxy.requests):
            time.sleep(0.01)
        time.sleep(0.2)
        with pytest.raises(OutputError, match="another run is writing here"):
            drive(recipe, folder, "output")
        process.join()
    assert process.exitcode == 0
    is_whole(folder / "output", expected)


def test_the_lease_of_a_driver_that_stands_still_is_taken_over_and_it_writes_no_more(
    warm: WarmProcesses, proxy: Proxy, recipe: Path, folder: Place, expected: dict[str, bytes]
) -> None:
    reached, stopped = threading.Event(), threading.Event()

    def stop() -> None:
        reached.set()
        stopped.wait(60)

    proxy.faults.append(Fault("PutObject", "*/statistics/c.json", times=1, then=stop))
    process = started(warm, recipe, folder, "output")
    assert reached.wait(60)
    os.kill(process.pid or 0, signal.SIGSTOP)
    stopped.set()
    drive(recipe, folder, "output")
    before = list(ledger.read(folder / "output").values())
    os.kill(process.pid or 0, signal.SIGCONT)
    process.join()
    assert process.exitcode == 1
    assert list(ledger.read(folder / "output").values()) == before
    is_whole(folder / "output", expected)
