"""Consolidation: a loss log becomes the layer `losses`, one row for every row of the run, for the next round's rules.

A *visit* is a document in an epoch: the spans that were trained on, wherever they were packed; its loss is their mean
over tokens. Losses of early positions are higher, and all are higher early in training, so a document's *excess* is its
loss less what the tokens at the same positions lost on average in the same steps, over all ranks and documents.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numba import njit

from gneiss.arrays import AnyArray, BoolArray, Float64Array, Int32Array, Int64Array
from gneiss.errors import InputError, first_line
from gneiss.layers.loss_log import BUCKETS, SCHEMA, bucket_of, rank_folder, segments
from gneiss.output.claim import held
from gneiss.output.finished_run import FinishedRun, kept_mask
from gneiss.output.layers import Layer, WrittenLayer, column, existing_layer, write_layer
from gneiss.output.parquet import checksum

#: Documents whose losses are held at a time; the log is read once for each so many.
DOCUMENTS_PER_PASS = 2_000_000
COLUMNS = pa.schema(
    [
        column("loss_visits", pa.int64(), "epochs in which it was trained on; 0: kept, but not seen; null: not kept"),
        column("loss_tokens", pa.int64(), "tokens with a loss, over all visits"),
        column("loss_first", pa.float64(), "mean token loss of the first visit"),
        column("loss_last", pa.float64(), "mean token loss of the last visit"),
        column("loss_ema", pa.float64(), "moving average over visits: decay * before + (1 - decay) * loss"),
        column("excess_first", pa.float64(), "loss_first less the mean at its positions in the same steps"),
        column("excess_last", pa.float64(), "loss_last less the mean at its positions in the same steps"),
        column("excess_ema", pa.float64(), "moving average of the excess over visits"),
    ]
)


@dataclass(frozen=True)
class Segment:
    """A segment of the log, of which rows before `limit` count: later ones were logged again after a resume."""

    path: Path
    limit: int | None

    def read(self, kind: str, columns: Sequence[str]) -> dict[str, AnyArray]:
        """Columns of the rows of one kind that count."""
        table = _read(self.path, ["step", "kind", *columns])
        chosen = pc.equal(table["kind"], kind)
        if self.limit is not None:
            chosen = pc.and_(chosen, pc.less(table["step"], self.limit))
        table = table.filter(chosen)
        return {name: table[name].to_numpy() for name in dict.fromkeys(["step", *columns])}


def consolidate(
    output: str | Path,
    logs: Sequence[str | Path],
    *,
    layer: str = "losses",
    decay: float = 0.9,
    window_steps: int = 100,
) -> WrittenLayer:
    """Write the losses of a run's documents as an annotation layer.

    Parameters: `logs`: folders that LossLog wrote, in the order of training (what a later one holds replaces the same
    steps of an earlier one); `decay`: of the moving averages, per visit; `window_steps`: steps whose tokens make the
    mean at a position. A span whose masked tokens lie between others is taken to have them at its end.
    Raises InputError for logs that are damaged or of another run, OutputError when another layer has the name.

    >>> consolidate("curated", ["losses"]).told["summary"]["documents_seen"]  # doctest: +SKIP
    """
    if not 0 <= decay < 1 or window_steps < 1:
        raise InputError(f"decay {decay}, window_steps {window_steps}: expected 0 <= decay < 1 and 1 or more steps")
    run = FinishedRun.open(output)
    found = list(_segments([Path(log) for log in logs]))
    digest = sha256("\n".join(f"{s.limit} {checksum(s.path)}" for s in found).encode()).hexdigest()
    given = {"decay": decay, "window_steps": window_steps, "log": digest}
    made = Layer(layer, "losses", given, COLUMNS)
    with held(run.folder):
        if there := existing_layer(run, made):
            return there
        baseline = _baseline(found, window_steps)
        passes = _Passes(run, found, baseline, decay)

        def compute(first: int, table: pa.Table) -> Mapping[str, pa.Array]:
            return passes.columns(first, kept_mask(table))

        summary = _summary(run, found, baseline)
        return write_layer(run, made, [], compute, summary)


@dataclass(frozen=True, eq=False)
class _Baseline:
    """Mean token loss by window of steps and bucket of positions, float64 (windows, buckets)."""

    mean: Float64Array
    tokens: Int64Array
    window_steps: int


def _baseline(found: Sequence[Segment], window_steps: int) -> _Baseline:
    sums: dict[int, Float64Array] = {}
    tokens: dict[int, Int64Array] = {}
    for segment in found:
        rows = segment.read("position", ["id", "tokens", "loss_sum"])
        windows, buckets = rows["step"] // window_steps, rows["id"]
        if len(buckets) and not (buckets.min() >= 0 and buckets.max() < BUCKETS and windows.min() >= 0):
            raise InputError(f"{segment.path}: a step or a position that no log has; the file is damaged")
        for window in np.unique(windows).tolist():
            at = windows == window
            sums[window] = sums.get(window, np.zeros(BUCKETS)) + np.bincount(buckets[at], rows["loss_sum"][at], BUCKETS)
            tokens[window] = tokens.get(window, np.zeros(BUCKETS, np.int64)) + np.bincount(
                buckets[at], rows["tokens"][at], BUCKETS
            ).astype(np.int64)
    size = 1 + max(sums, default=-1)
    mean, count = np.zeros((size, BUCKETS)), np.zeros((size, BUCKETS), np.int64)
    for window, its in sums.items():
        count[window] = tokens[window]
        whole = its.sum() / max(int(count[window].sum()), 1)
        mean[window] = np.where(count[window] > 0, its / np.maximum(count[window], 1), whole)
    return _Baseline(mean, count, window_steps)


@dataclass
class _Passes:
    """The columns of the layer for portions in order; documents beyond those held are read from the log."""

    run: FinishedRun
    segments: Sequence[Segment]
    baseline: _Baseline
    decay: float
    _first: int = 0
    _held: dict[str, Any] = field(default_factory=dict)
    _end: int = 0

    def columns(self, first: int, kept: BoolArray) -> dict[str, pa.Array]:
        end = first + int(kept.sum())
        if end > self._end or first < self._first:  # a portion is smaller than a pass
            self._first, self._end = first, min(max(first + DOCUMENTS_PER_PASS, end), self.run.documents)
            self._held = _visits(self.segments, self.baseline, self.decay, self._first, self._end)
        own = {name: values[first - self._first : end - self._first] for name, values in self._held.items()}
        unseen = own["loss_visits"] == 0
        places = pa.array(np.cumsum(kept) - 1, mask=~kept)
        return {
            name: pa.array(values, mask=None if values.dtype == np.int64 else unseen).take(places)
            for name, values in own.items()
        }


def _visits(found: Sequence[Segment], baseline: _Baseline, decay: float, first: int, end: int) -> dict[str, Any]:
    """The columns for documents `first` to `end`: epoch by epoch, each in the order of ranks and segments."""
    size = end - first
    out: dict[str, Any] = {
        field.name: np.zeros(size, np.int64 if field.type == pa.int64() else np.float64) for field in COLUMNS
    }
    for epoch in _epochs(found):
        sums, expected, tokens = np.zeros(size), np.zeros(size), np.zeros(size, np.int64)
        for segment in found:
            rows = segment.read("document", ["id", "epoch", "first_position", "tokens", "loss_sum"])
            at = (rows["epoch"] == epoch) & (rows["id"] >= first) & (rows["id"] < end)
            chosen = {name: values[at] for name, values in rows.items()}
            windows = chosen["step"] // baseline.window_steps
            if len(windows) and not 0 <= windows.min() <= windows.max() < len(baseline.mean):
                raise InputError(f"{segment.path}: it has losses of documents, but none of positions; it is damaged")
            _add(
                chosen["id"] - first, windows, chosen["first_position"],
                chosen["tokens"], chosen["loss_sum"], baseline.mean, sums, expected, tokens,
            )  # fmt: skip
        seen = tokens > 0
        loss = sums[seen] / tokens[seen]
        excess = (sums[seen] - expected[seen]) / tokens[seen]
        is_first = out["loss_visits"][seen] == 0
        for name, values in (("loss", loss), ("excess", excess)):
            out[f"{name}_first"][seen] = np.where(is_first, values, out[f"{name}_first"][seen])
            out[f"{name}_last"][seen] = values
            before = out[f"{name}_ema"][seen]
            out[f"{name}_ema"][seen] = np.where(is_first, values, decay * before + (1 - decay) * values)
        out["loss_visits"][seen] += 1
        out["loss_tokens"] += tokens
    return out


def _epochs(found: Sequence[Segment]) -> list[int]:
    return sorted(
        {int(epoch) for segment in found for epoch in np.unique(segment.read("document", ["epoch"])["epoch"])}
    )


def _segments(logs: Sequence[Path]) -> Iterator[Segment]:
    """The segments of all logs that hold anything that counts."""
    limits: dict[Path, int | None] = {}
    later: int | None = None
    for log in reversed(logs):
        ranks = sorted(log.glob(rank_folder(0)[:-5] + "*"))
        if not ranks:
            raise InputError(f"{log}: no loss log here; gneiss.layers.loss_log.LossLog writes one while training")
        firsts = []
        for rank in ranks:
            limit = later
            for path in reversed(segments(rank)):
                limits[path] = limit
                first = int(pc.min(_read(path, ["step"])["step"]).as_py())
                firsts.append(first)
                limit = first if limit is None else min(limit, first)
        later = min(firsts if later is None else [later, *firsts], default=None)
    for log in logs:
        for path in sorted(limits):
            if path.is_relative_to(log):
                yield Segment(path, limits[path])


def _read(path: Path, columns: Sequence[str]) -> pa.Table:
    try:
        table = pq.read_table(path, columns=list(dict.fromkeys(columns)))
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot read: {first_line(error)}; delete this segment of the loss log") from error
    for name in table.column_names:
        if table.schema.field(name).type != SCHEMA.field(name).type:
            raise InputError(f"{path}: {name}: expected {SCHEMA.field(name).type}; this is no segment of a loss log")
    return table


def _summary(run: FinishedRun, found: Sequence[Segment], baseline: _Baseline) -> dict[str, Any]:
    seen = np.zeros(-(-run.documents // 8), np.uint8)
    spans, steps, skipped = 0, set[int](), 0
    for segment in found:
        rows = segment.read("document", ["id"])
        ids = rows["id"]
        if len(ids) and not (ids.min() >= 0 and ids.max() < run.documents):
            raise InputError(
                f"{segment.path}: document {int(ids.max())} of {run.documents}: the log is of training on another run"
            )
        np.bitwise_or.at(seen, ids // 8, np.left_shift(1, ids % 8).astype(np.uint8))
        spans += len(ids)
        steps |= set(np.unique(rows["step"]).tolist())
        skipped += int(segment.read("sequence", ["skipped_tokens"])["skipped_tokens"].sum())
    tokens = baseline.tokens.sum(axis=0)
    sums = (baseline.mean * baseline.tokens).sum(axis=0)
    return {
        "documents": run.documents,
        "documents_seen": int(np.unpackbits(seen).sum()),
        "spans": spans,
        "steps": len(steps),
        "tokens": int(tokens.sum()),
        "skipped_tokens": skipped,
        "mean_loss_by_position": [
            {"from": 0 if b == 0 else 1 << (b - 1), "tokens": int(tokens[b]), "loss": float(sums[b] / tokens[b])}
            for b in np.flatnonzero(tokens).tolist()
        ],
    }


@njit(cache=True, nogil=True)
def _add(
    document: Int64Array,
    window: Int64Array,
    first: Int32Array,
    tokens: Int64Array,
    loss_sum: Float64Array,
    mean: Float64Array,
    sums: Float64Array,
    expected: Float64Array,
    counts: Int64Array,
) -> None:
    """Add spans to their documents: loss, loss that is expected at their positions, tokens."""
    for span in range(len(document)):
        at = document[span]
        sums[at] += loss_sum[span]
        counts[at] += tokens[span]
        position, left = first[span], tokens[span]
        while left > 0:
            bucket = bucket_of(position)
            end = np.int64(1) << bucket if bucket < BUCKETS - 1 else position + left
            here = min(left, end - position)
            expected[at] += here * mean[window[span], bucket]
            position += here
            left -= here
