"""`gneiss label choose`: which documents of a run to have labelled, a coreset with an audit, and what they cover."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import replace
from math import ceil, sqrt

import numpy as np
import pyarrow as pa

from gneiss.arrays import BoolArray, Float64Array, Int64Array
from gneiss.errors import InputError
from gneiss.model_training.document_features import (
    PROJECTIONS,
    document_batches,
    document_features,
    numeric_annotations,
    standardise,
)
from gneiss.model_training.labelling.queue import (
    CHOSEN,
    MARGIN_ROUNDS,
    Coverage,
    Quantiles,
    Queue,
    Request,
    existing_queue,
    write_queue,
)
from gneiss.model_training.labelling.strategies.coreset import Coreset, Settings, choose, radius_for, stream_of
from gneiss.model_training.labels import AUDIT, CORESET
from gneiss.output.claim import held
from gneiss.output.finished_run import open_run
from gneiss.output.sources import sources
from gneiss.routing.audit import draw
from gneiss.store.place import Address, place_of
from gneiss.version import __version__

#: The radius is found on so many windows, spread over the run: 10,000 documents. On fewer more of the budget would be
#: left, as a cover grows slower than what it covers.
_SAMPLED_WINDOWS = 50
#: How many times as many documents as on average one may stand for.
_MOST_OF_AVERAGE = 10
_FEWEST = 20
#: By how much two shares may exceed 1, such as .7, .2 and .1.
_ROUNDING = 1e-9


def choose_labels(
    run: Address,
    output: Address,
    *,
    budget: int,
    coreset_share: float = 0.5,
    audit_share: float = 0.05,
    seed: int = 0,
    input: Address | None = None,
) -> Queue:
    """Choose documents of a run to have labelled, and write the queue and what it covers.

    An audit is drawn uniformly, by hashes of shard and row; all other documents are stood for by a coreset. The rest of
    the budget is left for margin (`next_labels`). The same call finds its queue there.

    Parameters: `run`: a finished run; `output`: the queue's own folder; `budget`: labels in all; `coreset_share`,
    `audit_share`: of the budget, at most; `seed`: of projections and draws; `input`: what was given to the run, to
    choose from dropped documents too. Memory: 8 bytes for each feature of each document; time: documents x collected.
    Raises InputError, OutputError where the folder holds another queue.
    """
    _check(budget, coreset_share, audit_share)
    opened, folder = open_run(run), place_of(output, "output")
    of = sources(opened, input)
    asked = Request(opened.digest, "all" if of.has_all else "kept", budget, coreset_share, audit_share, seed)
    with held(folder):
        folder.sweep()  # of a process that was killed
        if queue := existing_queue(folder, asked):
            return queue
        names = numeric_annotations(opened)
        ids: list[str] = []
        rows: list[Int64Array] = []
        features: list[Float64Array] = []
        for shard, own, batch in document_batches(of, names):
            ids += [shard] * len(own)
            rows.append(own)
            features.append(document_features(batch, names, seed))
        if len(ids) <= budget:
            raise InputError(
                f"{run}: budget={budget}: expected fewer labels than documents, found {len(ids):,} documents; have all"
                " of them labelled"
            )
        row, values = np.concatenate(rows), np.concatenate(features)
        standardise(values)
        is_audit = drawn(seed, ids, row, round(audit_share * budget))
        settings, found = _coreset(values[~is_audit], int(coreset_share * budget), seed)
        chosen = _chosen(ids, row, is_audit, found)
        coverage = Coverage(
            asked=asked,
            gneiss=__version__,
            projections=PROJECTIONS,
            annotations=tuple(names),
            documents=len(ids),
            shards=len(set(ids)),
            audit=int(is_audit.sum()),
            collected=len(found.rows),
            collected_share=len(found.rows) / len(found.reach),
            left_for_margin=budget - chosen.num_rows,
            margin_rounds=MARGIN_ROUNDS,
            capacity=settings.capacity,
            window=settings.window,
            radius=settings.radius,
            covered_share=found.covered(settings.radius),
            reach=Quantiles(*np.quantile(found.reach, [0.5, 0.9, 0.99, 1]).tolist()),
            variance_ratio=found.variance_ratio,
            distance_at_random=sqrt(2 * int(values.any(axis=0).sum())),
        )
        return write_queue(folder, of, chosen, coverage)


def drawn(seed: int, shards: Sequence[str], rows: Int64Array, count: int) -> BoolArray:
    """Which documents are audited, bool (documents,): those with the least numbers drawn by hashes of shard and row.

    >>> int(drawn(0, ["a", "a", "b"], np.array([0, 1, 0]), 2).sum())
    2
    """
    numbers = (draw(seed, f"audit\0{shard}\0{row}".encode()) for shard, row in zip(shards, rows.tolist(), strict=True))
    is_drawn = np.zeros(len(rows), np.bool_)
    is_drawn[[position for _, position in heapq.nsmallest(count, zip(numbers, range(len(rows)), strict=True))]] = True
    return is_drawn


def _coreset(features: Float64Array, budget: int, seed: int) -> tuple[Settings, Coreset]:
    """A coreset with the radius with which the budget lasts on a sample, and its settings."""
    documents = len(features)
    settings = Settings(0.0, capacity=_MOST_OF_AVERAGE * ceil(documents / budget), budget=budget, seed=seed)
    starts = np.linspace(0, max(documents - settings.window, 0), _SAMPLED_WINDOWS).astype(np.int64)
    sampled = np.unique(np.concatenate([np.arange(start, start + settings.window) for start in starts]))
    sample = features[sampled[sampled < documents]]
    settings = replace(settings, radius=radius_for(sample, budget / documents, settings))
    return settings, choose(stream_of(features), settings)


def _chosen(shards: Sequence[str], rows: Int64Array, is_audit: BoolArray, found: Coreset) -> pa.Table:
    """`CHOSEN` of audit and coreset, in the order of shards and rows."""
    reach = np.zeros(len(found.rows))
    np.maximum.at(reach, found.stand_in, found.reach)
    weight, radius = np.zeros(len(rows), np.int64), np.zeros(len(rows))
    collected = np.flatnonzero(~is_audit)[found.rows]
    weight[is_audit], weight[collected], radius[collected] = 1, found.weights, reach
    at = np.flatnonzero(weight)
    columns = {
        "shard": [shards[position] for position in at.tolist()],
        "row": rows[at],
        "weight": weight[at],
        "why": [AUDIT if audited else CORESET for audited in is_audit[at].tolist()],
        "radius": radius[at],
    }
    return pa.table(columns, CHOSEN)


def _check(budget: int, coreset_share: float, audit_share: float) -> None:
    if budget < _FEWEST:
        raise InputError(f"budget={budget}: expected at least {_FEWEST} labels")
    if not (coreset_share * budget >= 1 and audit_share >= 0 and coreset_share + audit_share <= 1 + _ROUNDING):
        raise InputError(
            f"coreset_share={coreset_share:g}, audit_share={audit_share:g}: expected shares of {budget:,} labels, of 1"
            " together at most, with a label at least for the coreset"
        )
