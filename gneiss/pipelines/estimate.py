"""Estimate: what a run will take, from a run over some of its shards.

The model: a stage takes CPU time in proportion to the bytes of text of the corpus and, once a worker, to get ready
and to do its first task. Both are measured: one worker curates the smallest shard and then, with everything loaded, a
sample. So stages over the whole corpus are included, with the repeats that the sample has: a corpus has more of them,
which are cheaper, and sorts more, which costs more; an interval of their own stands for that.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from gneiss.backends import Backend
from gneiss.backends.choice import choose_workers
from gneiss.errors import InputError
from gneiss.input.plan import Plan, make_plan
from gneiss.input.shard import Input, Shard
from gneiss.jobs.meter import cpu_seconds_of
from gneiss.jobs.progress import Progress, Silent
from gneiss.output import layout, ledger
from gneiss.output.cost import Cost
from gneiss.output.data_files import DataFiles
from gneiss.output.ledger import Receipt
from gneiss.pipelines.run import run_plan
from gneiss.recipe.recipe import Recipe
from gneiss.store.place import Address, Place, place_of

#: How far off may be what a sample does not show: the speed of a machine from day to day, stages over the whole corpus,
#: and shards where only one was seen.
_SPEED, _WIDE, _ONE_SHARD = 0.1, 0.3, 0.5
_DEVIATIONS = 2.0


@dataclass(frozen=True)
class StageEstimate:
    """A stage of a run. cpu_seconds, seconds: of all its tasks together; ready_seconds: of each worker, before them."""

    name: str
    is_by_shard: bool
    cpu_seconds: float
    seconds: float
    ready_cpu_seconds: float
    ready_seconds: float
    deviation: float


@dataclass(frozen=True)
class Estimate:
    """What a run over an input is expected to take, and between which bounds.

    recipe: its digest; shards, text_bytes: of the input; sampled: the ids of the shards that were curated;
    written_files: each a PUT in an object store.
    """

    recipe: str
    shards: int
    text_bytes: int
    sampled: tuple[str, ...]
    workers: int
    cost: Cost
    low: Cost
    high: Cost
    written_files: int
    stages: tuple[StageEstimate, ...]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


@dataclass(frozen=True)
class _Measured:
    """A run over some shards: what its tasks took, and its driver's CPU time."""

    receipts: tuple[Receipt, ...]
    driver_cpu_seconds: float

    def of(self, stage: str) -> list[Receipt]:
        """The receipts of a stage."""
        return [receipt for receipt in self.receipts if receipt.stage == stage]


def estimate(
    recipe: Recipe | str | Path,
    input: Address,
    *,
    shards: int = 4,
    workers: int = 1,
    backend: Backend | None = None,
    progress: Progress = Silent(),  # noqa: B008
) -> Estimate:
    """Estimate the cost of a run by curating a deterministic sample of its shards with one worker, in a temporary
    folder.

    Parameters: `shards`: size of the sample, spread over the bytes of the input; `workers`: of the run; `backend`: of
    the sample, local processes by default. Raises the errors of `run`.

    >>> from gneiss import estimate
    >>> estimate("fineweb", "crawl/", workers=64).cost.cpu_seconds / 3600  # doctest: +SKIP
    412.7
    """
    recipe = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe)
    plan = make_plan(recipe, input, DataFiles.of(recipe.output).refusal)
    if not plan.input.shards:
        raise InputError(f"{input}: no shard can be read, so nothing can be estimated")
    sample = sampled(plan.input.shards, shards)
    smallest = min(plan.input.shards, key=lambda shard: (shard.text_bytes, shard.id))
    with TemporaryDirectory(prefix="gneiss-estimate-") as folder, _local(backend).kept() as kept:
        first = _measured(plan, [smallest], place_of(Path(folder) / "first"), kept, Silent())
        then = _measured(plan, sample, place_of(Path(folder) / "sample"), kept, progress)
    return _extrapolated(plan, smallest, sample, first, then, workers)


def sampled(shards: Sequence[Shard], count: int) -> list[Shard]:
    """Shards at equal distances in the bytes of text, in order; one that is larger than a distance counts once."""
    if count < 1:
        raise InputError(f"shards={count}: expected 1 or more")
    total = sum(shard.text_bytes for shard in shards) or len(shards)
    targets = [total * (2 * number + 1) / (2 * count) for number in range(count)]
    found: list[Shard] = []
    end = 0.0
    for shard in shards:
        end += shard.text_bytes or total / len(shards)
        if targets and targets[0] < end:
            found.append(shard)
            targets = [target for target in targets if target >= end]
    return found or [shards[-1]]


def _local(backend: Backend | None) -> Backend:
    from gneiss.backends.local import LocalProcesses

    return LocalProcesses() if backend is None else backend


def _measured(plan: Plan, shards: Sequence[Shard], folder: Place, backend: Backend, progress: Progress) -> _Measured:
    within = Input(tuple(shards), (), sum(shard.text_bytes for shard in shards))
    recipe = plan.recipe.changed({"output.shard_bytes": None, "output.shuffle_seed": None})
    hire = partial(choose_workers, backend, 1, shared_filesystem=False)
    cpu = time.process_time()
    run_plan(replace(plan, recipe=recipe, input=within), folder, hire, progress)
    receipts = tuple(
        entry for entry in ledger.entries(folder) if "cpu_seconds" in entry.cost and entry.stage != ledger.ENDED
    )
    return _Measured(receipts, time.process_time() - cpu)


def _extrapolated(
    plan: Plan, smallest: Shard, sample: Sequence[Shard], first: _Measured, then: _Measured, workers: int
) -> Estimate:
    shards, text_bytes = plan.input.shards, max(plan.input.text_bytes, 1)
    its_bytes = max(sum(shard.text_bytes for shard in sample), 1)
    scale = text_bytes / its_bytes
    names = list(dict.fromkeys(receipt.stage for receipt in then.receipts))
    stages = [_stage(name, smallest, sample, first, then, scale, len(shards)) for name in names]
    cpu = seconds = deviation = 0.0
    largest = max(shard.text_bytes for shard in shards)
    for stage in stages:
        hands = min(workers, len(shards)) if stage.is_by_shard else 1 if scale <= 1 else workers
        cpu += stage.cpu_seconds + hands * stage.ready_cpu_seconds
        longest = stage.seconds * largest / text_bytes if stage.is_by_shard else 0.0
        seconds += max(stage.seconds / hands, longest) + stage.ready_seconds
        deviation += stage.deviation
    driver = first.driver_cpu_seconds + then.driver_cpu_seconds / len(sample) * (len(shards) - 1)
    files = [file for receipt in then.receipts for file in receipt.files]
    written = scale * sum(file.size_bytes for file in files)
    cost = Cost(seconds + driver, cpu + driver, _peak(largest, smallest, sample, first, then), written)
    share = min(0.9, deviation / max(cpu, 1e-9) + _SPEED)
    low, high = (
        Cost(cost.seconds * by, cost.cpu_seconds * by, cost.peak_bytes * by, written * by)
        for by in (1 - share, 1 + share)
    )
    own = sum(1 for file in files if not file.path.startswith(f"{layout.EXCHANGE}/"))
    count = math.ceil(own / len(sample) * len(shards)) + math.ceil(scale * (len(files) - own))
    ids = tuple(shard.id for shard in sample)
    return Estimate(
        plan.recipe.digest(), len(shards), plan.input.text_bytes, ids, workers, cost, low, high, count, tuple(stages)
    )


def _stage(
    name: str, smallest: Shard, sample: Sequence[Shard], first: _Measured, then: _Measured, scale: float, shards: int
) -> StageEstimate:
    receipts, before = then.of(name), first.of(name)
    cpu, seconds = _sum(receipts, "cpu_seconds"), _sum(receipts, "seconds")
    is_by_shard = len(receipts) == len(sample) and len(before) == 1 and len(sample) > 1
    share = smallest.text_bytes / max(sum(shard.text_bytes for shard in sample), 1)
    warm_up = max(0.0, _sum(before, "cpu_seconds") - share * cpu)
    warm_up_seconds = max(0.0, _sum(before, "seconds") - share * seconds)
    ready = sum(cpu_seconds_of(receipt) for receipt in before) - _sum(before, "cpu_seconds")
    if is_by_shard:
        deviation = _deviation([receipt.cost["cpu_seconds"] for receipt in receipts], sample, shards) * scale * cpu
    else:
        deviation = (_ONE_SHARD if len(sample) == 1 < shards else _WIDE if scale > 1 else 0.0) * scale * cpu
    return StageEstimate(
        name, is_by_shard, scale * cpu, scale * seconds, warm_up + ready, warm_up_seconds + ready, deviation
    )


def _deviation(cpu_seconds: Sequence[float], sample: Sequence[Shard], shards: int) -> float:
    """Two standard deviations of a ratio of sums, by its share, from a sample without replacement."""
    count = len(sample)
    sizes = [max(shard.text_bytes, 1) for shard in sample]
    ratio = sum(cpu_seconds) / sum(sizes)
    squares = sum((own - ratio * size) ** 2 for own, size in zip(cpu_seconds, sizes, strict=True))
    error = math.sqrt(max(0.0, 1 - count / shards) * squares * count / (count - 1))
    return _DEVIATIONS * error / max(sum(cpu_seconds), 1e-9)


def _peak(largest: int, smallest: Shard, sample: Sequence[Shard], first: _Measured, then: _Measured) -> float:
    """The peak of a worker's memory, on a line through the smallest shard and the largest of the sample."""
    low, high = (
        max((receipt.cost.get("peak_bytes", 0.0) for receipt in run.receipts), default=0.0) for run in (first, then)
    )
    seen = max(shard.text_bytes for shard in sample)
    slope = max(0.0, high - low) / max(seen - smallest.text_bytes, 1)
    return high + slope * max(0, largest - seen)


def _sum(receipts: Sequence[Receipt], name: str) -> float:
    return sum(receipt.cost.get(name, 0.0) for receipt in receipts)
