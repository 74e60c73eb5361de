"""How a run goes, or went: read from its ledger, its lock and its files, on any machine, also while it is on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import nlargest

from gneiss.errors import InputError, first_line
from gneiss.output import layout, ledger
from gneiss.output.cost import Cost, Forecast
from gneiss.output.ledger import COMMITTED, Receipt
from gneiss.output.running import RunningTask, running_tasks
from gneiss.store.place import Address, place_of
from gneiss.store.store import Holder

#: A holder that is silent for longer has most likely died: leases are renewed more often.
_GONE_SECONDS = 120.0
RUNNING, STOPPED, FINISHED = "running", "stopped", "finished"


@dataclass(frozen=True)
class StageStatus:
    """A stage of a run.

    tasks: that it has; left: of these, those that are not finished; workers: that it began with; first: how many tasks
    these were given at first, as small ones are given together; begun, last: when it began, and its latest receipt
    came, in Unix time by the driver's clock; done, done_bytes: since it began; left_bytes: of input, 0 where tasks are
    numbered; cpu_seconds: of the tasks since then.
    """

    name: str
    tasks: int
    left: int
    workers: int
    first: int
    begun: float
    last: float
    done: int
    done_bytes: int
    left_bytes: int
    cpu_seconds: float

    @property
    def shares_left(self) -> tuple[float, float]:
        """What was left of it when it began, and what is left now, as shares of all of it."""
        begin = (self.left + self.done) / max(self.tasks, 1)
        of = self.left_bytes + self.done_bytes
        now = self.left_bytes / of if of and self.left_bytes else self.left / max(self.left + self.done, 1)
        return begin, begin * now

    @property
    def seconds(self) -> float:
        """Wall time from its begin to its latest receipt."""
        return max(0.0, self.last - self.begun)

    @property
    def bytes_per_second(self) -> float | None:
        """Input done per second of wall time; None where that is not known."""
        return self.done_bytes / self.seconds if self.done_bytes and self.seconds else None

    @property
    def seconds_left(self) -> float | None:
        """How long the rest takes at the rate so far; None before as many tasks are done as were given at first."""
        if not self.left:
            return 0.0
        if self.done < self.first:
            return None
        share = self.left_bytes / self.done_bytes if self.done_bytes and self.left_bytes else self.left / self.done
        return self.seconds * share


@dataclass(frozen=True)
class RunStatus:
    """How a run goes.

    state: `running`, `stopped` or `finished`; holder: who holds its output, for messages; quiet_seconds: since that
    one last said so, where the store knows; stages: in the order in which they began; unusable: shard → reason, of
    those that could not be curated, failed: of these, the ones that failed by a defect; slowest: receipts of the tasks
    that took longest; last: when the latest receipt came, in Unix time by the driver's clock; predicted: what the run
    was to take, by an estimate that it was given; took: by its last driver, where that has ended; running: the tasks
    that its drivers wait for, the longest first, by their last word.
    """

    folder: str
    state: str
    holder: str | None
    quiet_seconds: float | None
    stages: tuple[StageStatus, ...]
    unusable: Mapping[str, str]
    failed: Sequence[str]
    slowest: tuple[Receipt, ...]
    last: float | None
    predicted: Forecast | None = None
    took: Cost | None = None
    running: tuple[RunningTask, ...] = ()

    @property
    def seconds_left(self) -> float | None:
        """How long the rest of the run takes, by its estimate and by what was done since; None without an estimate."""
        if self.predicted is None or not self.predicted.work:
            return None
        shares = {stage.name: stage.shares_left for stage in self.stages}
        return self.predicted.seconds_left(shares, sum(stage.seconds for stage in self.stages))

    @property
    def current(self) -> StageStatus | None:
        """The stage that began last."""
        return self.stages[-1] if self.stages else None


def run_status(folder: Address, slowest: int = 5) -> RunStatus:
    """The current status of the run in an output. Raises InputError if there is none, OutputError.

    slowest: number of slowest tasks to list.

    >>> from gneiss import run_status
    >>> run_status("curated").state  # doctest: +SKIP
    'finished'
    """
    output = place_of(folder)
    within = output / layout.CURATED
    try:
        if (output / layout.RUN_FILE).find() is None:
            raise InputError(f"{output}: no run here: expected {layout.RUN_FILE}; name the output of `gneiss run`")
        locks = [layout.LOCK_FILE, *map(layout.share_lock, layout.share_locks(output))]
        holders = [found for found in ((output / lock).holder() for lock in locks) if found]
        holder = min(holders, key=lambda found: found.quiet_seconds or 0.0, default=None)
        is_finished = any((output / name).find() for name in (layout.STATISTICS_FILE, layout.EXTRACTION_FILE))
        entries = [*ledger.entries(within), *ledger.entries(output)]
    except OSError as error:
        raise InputError(f"{output}: cannot read: {first_line(error)}") from error
    found = _status(str(output), holder, entries, slowest)
    if holder is not None and (holder.quiet_seconds or 0.0) <= _GONE_SECONDS:
        stage = found.current
        running = [task for place in (within, output) for task in (running_tasks(place, stage.name) if stage else ())]
        return replace(found, state=RUNNING, running=tuple(running))
    return replace(found, state=FINISHED) if is_finished and not any(stage.left for stage in found.stages) else found


def _status(folder: str, holder: Holder | None, entries: Sequence[Receipt], slowest: int) -> RunStatus:
    begun: dict[str, Receipt] = {}
    since: dict[str, dict[str, Receipt]] = {}
    latest: dict[tuple[str, str], Receipt] = {}
    predicted: Forecast | None = None
    took: Cost | None = None
    for entry in entries:
        match entry.stage:
            case ledger.BEGUN:
                before = begun.pop(entry.task, None)  # so that it comes last
                if before and entry.fingerprint not in ("", before.fingerprint):
                    entry = _together(before, entry)
                else:
                    since[entry.task] = {}
                begun[entry.task] = entry
            case ledger.PREDICTED:
                if "work" in entry.cost and predicted:
                    predicted = replace(predicted, work={**predicted.work, entry.task: entry.cost["work"]})
                else:
                    predicted = Forecast(Cost.of(entry.cost))
            case ledger.ENDED:
                took = Cost.of(entry.cost)
            case _:
                latest[entry.stage, entry.task] = entry
                since.setdefault(entry.stage, {})[entry.task] = entry
    lost = {task: receipt for (_, task), receipt in latest.items() if receipt.state != COMMITTED}
    return RunStatus(
        folder,
        STOPPED,
        holder.name if holder else None,
        holder.quiet_seconds if holder else None,
        tuple(_stage(note, list(since[name].values())) for name, note in begun.items()),
        {task: receipt.reason or "unknown" for task, receipt in lost.items()},
        [task for task, receipt in lost.items() if receipt.is_defect],
        tuple(nlargest(slowest, latest.values(), key=lambda receipt: receipt.cost.get("seconds", 0.0))),
        max((entry.cost.get("at", 0.0) for entry in entries), default=None) or None,
        predicted,
        took,
    )


def _together(first: Receipt, second: Receipt) -> Receipt:
    """The notes of the drivers of two shares of a run, which begin one stage."""
    counts = {name: count + first.counts[name] for name, count in second.counts.items() if name != "tasks"}
    return replace(second, counts={"tasks": second.counts["tasks"], **counts}, cost=first.cost)


def _stage(note: Receipt, receipts: Sequence[Receipt]) -> StageStatus:
    counts, done_bytes = note.counts, int(_sum(receipts, "input_bytes"))
    return StageStatus(
        note.task,
        counts["tasks"],
        max(0, counts["left"] - len(receipts)),
        counts["workers"],
        counts.get("first", counts["workers"]),
        note.cost["at"],
        max((receipt.cost.get("at", 0.0) for receipt in receipts), default=note.cost["at"]),
        len(receipts),
        done_bytes,
        max(0, counts["left_bytes"] - done_bytes),
        _sum(receipts, "cpu_seconds") + _sum(receipts, "ready_cpu_seconds"),
    )


def _sum(receipts: Iterable[Receipt], name: str) -> float:
    return sum(receipt.cost.get(name, 0.0) for receipt in receipts)
