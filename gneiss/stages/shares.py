"""Rules by share: what stages hand on to find their numbers.

Every shard leaves a sketch for each rule of a phase, tokens by category and score; sketches merge in any order, and of
their sum the numbers follow. These are one small file, which every later stage and `curate` read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np
import pyarrow as pa

from gneiss.curate.phase import PhaseInput
from gneiss.quantiles import Bins, Sketch
from gneiss.recipe.limits import counted, limits_of, refuse_many
from gneiss.recipe.phase import Phase
from gneiss.recipe.recipe import Recipe
from gneiss.stages.exchange import Exchange

#: A sketch: for each rule of a phase one batch.
SKETCH = pa.schema([("shift", pa.int8()), ("category", pa.string()), ("key", pa.uint64()), ("tokens", pa.int64())])
#: The numbers of a phase.
CONDITIONS = pa.schema([("rule", pa.string()), ("condition", pa.string())])
#: Files whose sketches one task adds up.
GROUP_FILES = 256


def scores_stage(phase: Phase) -> str:
    """The name of the files with the sketches of shards."""
    return f"scores_of_{phase.name}"


def sums_stage(phase: Phase) -> str:
    """The name of the files with the sums of groups of them."""
    return f"sums_of_{phase.name}"


def thresholds_stage(phase: Phase) -> str:
    """The name of the file with the numbers."""
    return f"thresholds_of_{phase.name}"


def sketches_of(phase: Phase, documents: PhaseInput | None, tokens: str) -> Iterator[pa.RecordBatch]:
    """What the documents of a shard amount to, for each rule by share."""
    for rule in phase.shares.values():
        if documents is None:
            yield _batch(Sketch())
            continue
        weights = documents.annotations[tokens].fill_null(0).to_numpy(zero_copy_only=False)
        table = pa.table(documents.annotations)
        yield _batch(Sketch.of_all([counted(rule.named(phase.aliases), table, weights)]))


def sums_of(phase: Phase, exchange: Exchange, stage: str, tasks: Iterable[int]) -> Iterator[pa.RecordBatch]:
    """What sketches of files amount to together, for each rule by share."""
    for sketch in _summed(phase, exchange, stage, tasks):
        yield _batch(sketch)


def thresholds_of(phase: Phase, exchange: Exchange, stage: str, tasks: Iterable[int]) -> pa.RecordBatch:
    """The conditions that follow from all sketches."""
    sums = zip(phase.shares.values(), _summed(phase, exchange, stage, tasks), strict=True)
    found = [rule.condition(limits_of(rule, sketch), sketch.relative_error) for rule, sketch in sums]
    return pa.record_batch([pa.array(list(phase.shares)), pa.array(found)], schema=CONDITIONS)


def are_found(exchange: Exchange, recipe: Recipe) -> bool:
    """Whether stages have found the numbers of all rules by share."""
    return all(exchange.has(thresholds_stage(phase), 0) for phase in recipe.phases if phase.shares)


def conditions_of(exchange: Exchange, phase: Phase) -> dict[str, str]:
    """The numbers of a phase: rule → condition. Raises OutputError."""
    batch = exchange.batch(thresholds_stage(phase), 0, 0)
    return dict(zip(batch["rule"].to_pylist(), batch["condition"].to_pylist(), strict=True))


def _summed(phase: Phase, exchange: Exchange, stage: str, tasks: Iterable[int]) -> list[Sketch]:
    sums = [Sketch() for _ in phase.shares]
    for task in tasks:
        for at, (rule, batch) in enumerate(zip(phase.shares.values(), exchange.batches(stage, task), strict=True)):
            sums[at] = sums[at].merged(_sketch(batch))
            refuse_many(rule, len(sums[at].bins))
    return sums


def _batch(sketch: Sketch) -> pa.RecordBatch:
    bins = [sketch.bins[name] for name in sorted(sketch.bins)]
    sizes = [len(of.keys) for of in bins]
    names = pa.array(sorted(sketch.bins), pa.string()).take(pa.array(np.repeat(np.arange(len(bins)), sizes)))
    keys = np.concatenate([np.empty(0, np.uint64), *(of.keys for of in bins)])
    tokens = np.concatenate([np.empty(0, np.int64), *(of.amounts[:, 0] for of in bins)])
    return pa.record_batch([np.full(len(keys), sketch.shift, np.int8), names, keys, tokens], schema=SKETCH)


def _sketch(batch: pa.RecordBatch) -> Sketch:
    if not batch.num_rows:
        return Sketch()
    encoded = batch["category"].dictionary_encode()
    bounds = np.searchsorted(encoded.indices.to_numpy(), np.arange(len(encoded.dictionary) + 1))
    keys, tokens = batch["key"].to_numpy(), batch["tokens"].to_numpy()[:, None]
    own = {
        name: Bins(keys[start:end], tokens[start:end])
        for name, (start, end) in zip(encoded.dictionary.to_pylist(), pairwise(bounds), strict=True)
    }
    return Sketch(batch["shift"][0].as_py(), own)
