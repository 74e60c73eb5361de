"""Leases: one owner at a time, whatever is lost on the way, and no clock but one's own."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.store import lease as leases
from gneiss.store.lease import Lease, leased

OTHER = json.dumps({"host": "there", "process": 7, "started": "1", "machine": "another", "token": "x", "renewals": 3})


@dataclass
class MemoryCell:
    """An object in memory. losing: answers to writes that are lost, though the writes are done."""

    content: bytes | None = None
    number: int = 0
    losing: int = 0
    is_away: bool = False
    honours: bool = True
    writers: list[bytes] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self) -> tuple[bytes, str] | None:
        if self.is_away:
            raise OSError("away")
        with self.lock:
            return None if self.content is None else (self.content, str(self.number))

    def put(self, content: bytes, etag: str | None) -> str | None:
        if self.is_away:
            raise OSError("away")
        with self.lock:
            if self.honours and etag != (None if self.content is None else str(self.number)):
                return None
            self.content, self.number = content, self.number + 1
            self.writers.append(content)
            if self.losing:
                self.losing -= 1
                return None
            return str(self.number)


@dataclass
class Time:
    """A clock that moves when somebody sleeps; `meanwhile` happens then."""

    now: float = 1000.0
    meanwhile: Callable[[], None] = lambda: None

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.meanwhile()


def lease(cell: MemoryCell, time: Time | None = None) -> Lease:
    time = time or Time()
    return Lease(cell, "s3://b/lock", 60, time, time.sleep)


def test_a_lease_is_held_renewed_and_given_back() -> None:
    cell, time = MemoryCell(), Time()
    mine = lease(cell, time)
    mine.take()
    for _ in range(10):
        time.now += 40
        mine.check()
        mine.renew()
    mine.give_back()
    with pytest.raises(OSError, match="no longer held by this process: it was given back"):
        mine.check()
    lease(cell, Time(0)).take()


def test_who_renews_is_not_disturbed_and_named() -> None:
    cell, time = MemoryCell(OTHER.encode(), 1), Time()
    time.meanwhile = lambda: cell.put(b"renewed", str(cell.number)) and None
    with pytest.raises(BlockingIOError, match="held by an unknown owner"):
        lease(cell, time).take()
    assert time.now <= 1000 + 5
    cell, time = MemoryCell(OTHER.encode(), 1), Time()
    renewed = OTHER.replace("3", "4").encode()
    time.meanwhile = lambda: cell.put(renewed, str(cell.number)) and None
    with pytest.raises(BlockingIOError, match="held by process 7 on there"):
        lease(cell, time).take()


def test_a_lease_that_nobody_renews_is_taken_over_when_it_has_expired() -> None:
    cell, time = MemoryCell(OTHER.encode(), 1), Time()
    mine = lease(cell, time)
    mine.take()
    assert 1060 <= time.now <= 1070
    mine.check()
    assert cell.content is not None
    assert b"another" not in cell.content


def test_a_process_of_this_machine_that_has_ended_holds_nothing() -> None:
    ended = {**json.loads(OTHER), "machine": leases._machine(), "process": 1 << 40}
    cell, time = MemoryCell(json.dumps(ended).encode(), 1), Time()
    lease(cell, time).take()
    assert time.now == 1000


def test_who_lost_a_lease_is_stopped_by_its_own_clock_and_by_the_other_one() -> None:
    cell, time = MemoryCell(), Time()
    mine = lease(cell, time)
    mine.take()
    cell.is_away = True
    time.now += 30
    mine.renew()
    mine.check()
    time.now += 20
    mine.renew()
    with pytest.raises(OSError, match="could not be renewed in time"):
        mine.check()
    cell.is_away = False
    mine.renew()
    with pytest.raises(OSError, match="could not be renewed in time"):  # for good
        mine.check()
    taken = MemoryCell()
    mine = lease(taken)
    mine.take()
    taken.content, taken.number = OTHER.encode(), 9
    mine.renew()
    with pytest.raises(OSError, match="another one has taken it over"):
        mine.check()
    mine.give_back()
    assert taken.content == OTHER.encode()


def test_an_answer_that_is_lost_is_no_lost_lease() -> None:
    cell = MemoryCell(losing=1)
    mine = lease(cell)
    mine.take()
    cell.losing = 1
    mine.renew()
    mine.renew()
    mine.check()


def test_a_store_without_conditions_is_refused() -> None:
    with pytest.raises(OSError, match="this store ignores If-None-Match"):
        lease(MemoryCell(honours=False)).take()


STEPS = st.tuples(
    st.sampled_from([0, 0, 1]), st.sampled_from(["work", "work", "work", "pause", "away", "back"]), st.integers(1, 70)
)


@given(st.lists(STEPS, min_size=20, max_size=60))
def test_two_drivers_never_both_hold_it(steps: list[tuple[int, str, int]]) -> None:
    """Each driver has a clock of its own, which goes on while it is paused, and the store is away at times."""
    cell, now = MemoryCell(), Time(0)
    clocks: tuple[Callable[[], float], ...] = (lambda: now.now, lambda: 1e6 + now.now)
    drivers: dict[int, Lease] = {}
    holding: set[int] = set()
    for driver, what, seconds in steps:
        now.now += seconds
        cell.is_away = what == "away" or (cell.is_away and what != "back")
        driver_lease = drivers.setdefault(driver, Lease(cell, "lock", 60, clocks[driver]))
        try:
            if what == "work" and driver in holding:
                driver_lease.renew()
                driver_lease.check()
            elif what == "work" and driver_lease.look():
                holding.add(driver)
        except OSError:
            holding.discard(driver)
            del drivers[driver]
        assert len([each for each in holding if is_held(drivers[each])]) <= 1


def is_held(lease: Lease) -> bool:
    try:
        lease.check()
    except OSError:
        return False
    return True


def test_a_lease_is_renewed_in_a_thread() -> None:
    cell = MemoryCell()
    written = threading.Event()
    mine = Lease(cell, "lock", 0.04)
    renew = mine.renew

    def noted() -> None:
        renew()
        if len(cell.writers) > 3:
            written.set()

    mine.renew = noted  # type: ignore[method-assign]
    with leased(mine):
        assert written.wait(60)
    assert cell.content == b"{}"
