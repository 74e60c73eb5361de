"""Consolidation: a loss log becomes the layer `losses`, one row per row of the run, for the next run's rules.

A *visit* is a document in an epoch: its spans that were trained on, wherever they were packed; its loss is their mean
over tokens. Losses are higher at early positions and early in training, so a document's *excess* is its loss minus the
mean loss at the same positions in the same steps, over all ranks and documents.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit

from gneiss.arrays import AnyArray, BoolArray, Float64Array, Int32Array, Int64Array
from gneiss.errors import InputError, first_line
from gneiss.layers.loss_log import BUCKETS, SCHEMA, bucket_of, ranks, segment_name, segments
from gneiss.output.annotation_tables import kept_mask
from gneiss.output.claim import held
from gneiss.output.finished_run import FinishedRun, FinishedShard, open_run
from gneiss.output.layers import Layer, WrittenLayer, column, existing_layer, write_layer
from gneiss.output.parquet import read_table
from gneiss.store.place import Address, Place, place_of

#: Documents, and visits of them, held at a time; each pass reads the log once.
DOCUMENTS_PER_PASS, VISITS_PER_PASS = 2_000_000, 8_000_000
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
    """A segment of the log; only rows before `limit` are valid, later ones were logged again after a resume."""

    path: Place
    limit: int | None

    def read(self, **columns_of: Sequence[str]) -> dict[str, dict[str, AnyArray]]:
        """Kind → columns, including `step`, of the valid rows of this kind; the file is read once."""
        table = _read(self.path, ["step", "kind", *chain(*columns_of.values())])
        table = table.filter(pa.array(_last_words(table["step"].to_numpy(), self.limit)))
        found = {}
        for kind, columns in columns_of.items():
            rows = table.filter(pc.equal(table["kind"], kind))
            found[kind] = {name: rows[name].to_numpy() for name in ("step", *columns)}
        return found


def consolidate(
    output: Address,
    logs: Sequence[Address],
    *,
    layer: str = "losses",
    decay: float = 0.9,
    window_steps: int = 100,
) -> WrittenLayer:
    """Write the losses of a run's documents as an annotation layer.

    Parameters: `logs`: folders written by LossLog, in the order of training (a later one replaces the same
    steps of an earlier one); `decay`: of the moving averages, per visit; `window_steps`: steps whose tokens make the
    mean at a position. Masked tokens within a span are counted as if at its end.
    Raises InputError for logs that are damaged or of another run, OutputError when another layer has the name.

    >>> consolidate("curated", ["losses"]).metadata["summary"]["documents_seen"]  # doctest: +SKIP
    """
    if not 0 <= decay < 1 or window_steps < 1:
        raise InputError(f"decay {decay}, window_steps {window_steps}: expected 0 <= decay < 1 and 1 or more steps")
    run = open_run(output)
    found = _segments([place_of(log) for log in logs])
    digest = sha256("\n".join(f"{s.limit} {s.path.checksum()}" for s in found).encode()).hexdigest()
    given = {"decay": decay, "window_steps": window_steps, "log": digest}
    made = Layer(layer, "losses", given, COLUMNS)
    with held(run.folder) as check:
        if there := existing_layer(run, made):
            return there
        survey = _Survey(run, window_steps)
        for segment in found:
            survey.add(segment)
        baseline = survey.baseline()
        passes = _Passes(run, found, baseline, sorted(survey.epochs), decay)

        def compute(_: FinishedShard, first: int, table: pa.Table) -> Mapping[str, pa.Array]:
            return passes.columns(first, kept_mask(table))

        return write_layer(run, made, [], compute, survey.summary(baseline), check)


@dataclass(frozen=True, eq=False)
class _Baseline:
    """Mean token loss by window of steps and bucket of positions, float64 (windows, buckets)."""

    mean: Float64Array
    tokens: Int64Array
    window_steps: int


class _Survey:
    """What the first pass over the log finds: the baseline, which epochs there are, and what the summary says."""

    def __init__(self, run: FinishedRun, window_steps: int) -> None:
        self.epochs: set[int] = set()
        self._run, self._window_steps = run, window_steps
        self._sums: dict[int, Float64Array] = {}
        self._tokens: dict[int, Int64Array] = {}
        self._seen = np.zeros(-(-run.documents // 8), np.uint8)
        self._steps: set[int] = set()
        self._spans = self._skipped = 0

    def add(self, segment: Segment) -> None:
        """Read one more segment. Raises InputError when it is damaged, or of training on another run."""
        rows = segment.read(
            position=["id", "tokens", "loss_sum"], document=["id", "epoch"], sequence=["skipped_tokens"]
        )
        self._add_positions(segment.path, rows["position"])
        self._add_documents(segment.path, rows["document"])
        self._skipped += int(rows["sequence"]["skipped_tokens"].sum())

    def _add_positions(self, path: Place, rows: Mapping[str, AnyArray]) -> None:
        windows, buckets = rows["step"] // self._window_steps, rows["id"]
        if len(buckets) and not (buckets.min() >= 0 and buckets.max() < BUCKETS and windows.min() >= 0):
            raise InputError(f"{path}: found an impossible step or position; the file is damaged")
        for window in np.unique(windows).tolist():
            at = windows == window
            sums = np.bincount(buckets[at], rows["loss_sum"][at], BUCKETS)
            tokens = np.bincount(buckets[at], rows["tokens"][at], BUCKETS).astype(np.int64)
            self._sums[window] = self._sums.get(window, np.zeros(BUCKETS)) + sums
            self._tokens[window] = self._tokens.get(window, np.zeros(BUCKETS, np.int64)) + tokens

    def _add_documents(self, path: Place, rows: Mapping[str, AnyArray]) -> None:
        ids, documents = rows["id"], self._run.documents
        if len(ids) and not (ids.min() >= 0 and ids.max() < documents):
            raise InputError(f"{path}: document {int(ids.max())} of {documents}: the log is of training on another run")
        np.bitwise_or.at(self._seen, ids // 8, np.left_shift(1, ids % 8).astype(np.uint8))
        self._spans += len(ids)
        self._steps |= set(np.unique(rows["step"]).tolist())
        self.epochs |= set(np.unique(rows["epoch"]).tolist())

    def baseline(self) -> _Baseline:
        """The mean loss at each position; that of all positions where a window has no token at one."""
        size = 1 + max(self._sums, default=-1)
        mean, count = np.zeros((size, BUCKETS)), np.zeros((size, BUCKETS), np.int64)
        for window, sums in self._sums.items():
            count[window] = self._tokens[window]
            whole = sums.sum() / max(int(count[window].sum()), 1)
            mean[window] = np.where(count[window] > 0, sums / np.maximum(count[window], 1), whole)
        return _Baseline(mean, count, self._window_steps)

    def summary(self, baseline: _Baseline) -> dict[str, Any]:
        """What the layer's metadata say of the log."""
        tokens = baseline.tokens.sum(axis=0)
        sums = (baseline.mean * baseline.tokens).sum(axis=0)
        return {
            "documents": self._run.documents,
            "documents_seen": int(np.unpackbits(self._seen).sum()),
            "spans": self._spans,
            "steps": len(self._steps),
            "tokens": int(tokens.sum()),
            "skipped_tokens": self._skipped,
            "mean_loss_by_position": [
                {"from": 0 if b == 0 else 1 << (b - 1), "tokens": int(tokens[b]), "loss": float(sums[b] / tokens[b])}
                for b in np.flatnonzero(tokens).tolist()
            ],
        }


@dataclass
class _Passes:
    """The columns of the layer for portions in order; documents beyond those held are read from the log."""

    run: FinishedRun
    segments: Sequence[Segment]
    baseline: _Baseline
    epochs: Sequence[int]
    decay: float
    _first: int = 0
    _held: dict[str, Any] = field(default_factory=dict)
    _end: int = 0

    def columns(self, first: int, kept: BoolArray) -> dict[str, pa.Array]:
        end = first + int(kept.sum())
        if end > self._end or first < self._first:  # a portion is smaller than a pass
            documents = min(DOCUMENTS_PER_PASS, VISITS_PER_PASS // max(len(self.epochs), 1))
            self._first, self._end = first, min(max(first + documents, end), self.run.documents)
            self._held = self._read()
        own = {name: values[first - self._first : end - self._first] for name, values in self._held.items()}
        unseen = own["loss_visits"] == 0
        places = pa.array(np.cumsum(kept) - 1, mask=~kept)
        return {
            name: pa.array(values, mask=None if values.dtype == np.int64 else unseen).take(places)
            for name, values in own.items()
        }

    def _read(self) -> dict[str, Any]:
        """The columns for the documents of this pass: visits by epoch, each in the order of ranks and segments."""
        size = self._end - self._first
        visits = {epoch: _Visits(np.zeros(size), np.zeros(size), np.zeros(size, np.int64)) for epoch in self.epochs}
        for segment in self.segments:
            rows = segment.read(document=["id", "epoch", "first_position", "tokens", "loss_sum"])["document"]
            in_pass = (rows["id"] >= self._first) & (rows["id"] < self._end)
            for epoch in np.unique(rows["epoch"][in_pass]).tolist():
                at = in_pass & (rows["epoch"] == epoch)
                self._add(segment.path, {name: values[at] for name, values in rows.items()}, visits[epoch])
        return _columns(visits.values(), size, self.decay)

    def _add(self, path: Place, rows: Mapping[str, AnyArray], visits: _Visits) -> None:
        windows = rows["step"] // self.baseline.window_steps
        if not 0 <= windows.min() <= windows.max() < len(self.baseline.mean):
            raise InputError(f"{path}: it has losses of documents, but none of positions; it is damaged")
        spans = _Spans(rows["id"] - self._first, windows, rows["first_position"], rows["tokens"], rows["loss_sum"])
        _add_spans(spans, self.baseline.mean, visits)


def _columns(visits: Iterable[_Visits], size: int, decay: float) -> dict[str, Any]:
    """The columns from the visits of epochs in order, each (documents,)."""
    out: dict[str, Any] = {
        field.name: np.zeros(size, np.int64 if field.type == pa.int64() else np.float64) for field in COLUMNS
    }
    for sums, expected, tokens in visits:
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


def _last_words(steps: Int64Array, limit: int | None) -> BoolArray:
    """Which rows are the last of their step, bool (rows,): none of it, or of an earlier one, was logged after it.

    >>> _last_words(np.array([3, 4, 4, 5, 4, 5, 6]), 6).tolist()
    [True, False, False, False, True, True, False]
    """
    begins = np.flatnonzero(np.diff(steps, prepend=steps[:1] - 1))
    runs = np.append(steps[begins], np.iinfo(np.int64).max if limit is None else limit)
    least_after = np.minimum.accumulate(runs[::-1])[::-1][1:]
    return np.repeat(runs[:-1] < least_after, np.diff(np.append(begins, len(steps))))


def _segments(logs: Sequence[Place]) -> list[Segment]:
    """The segments of all logs, log by log, with the step from which on their rows were logged again."""
    found: list[list[Segment]] = []
    later: int | None = None
    for log in reversed(logs):
        own: list[Segment] = []
        firsts: list[int] = []
        for rank in ranks(log):
            limit = later
            for path in (log / rank / segment_name(number) for number in reversed(segments(log / rank))):
                own.append(Segment(path, limit))
                firsts.append(int(pc.min(_read(path, ["step"])["step"]).as_py()))
                limit = firsts[-1] if limit is None else min(limit, firsts[-1])
        if not own:
            raise InputError(f"{log}: no loss log here; gneiss.layers.loss_log.LossLog writes one while training")
        later = min(firsts if later is None else [later, *firsts])
        found.append(sorted(own, key=lambda segment: segment.path.path))
    return [segment for own in reversed(found) for segment in own]


def _read(path: Place, columns: Sequence[str]) -> pa.Table:
    try:
        table = read_table(path, list(dict.fromkeys(columns)))
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot read: {first_line(error)}; delete this segment of the loss log") from error
    for name in table.column_names:
        if table.schema.field(name).type != SCHEMA.field(name).type:
            raise InputError(f"{path}: {name}: expected {SCHEMA.field(name).type}; this is no segment of a loss log")
    return table


class _Spans(NamedTuple):
    """Spans of documents in one epoch, (spans,): document of the pass, window of steps, first position."""

    document: Int64Array
    window: Int64Array
    first: Int32Array
    tokens: Int64Array
    loss_sum: Float64Array


class _Visits(NamedTuple):
    """The documents of a pass in one epoch, (documents,): sum of losses, of what is expected of them, and tokens."""

    sums: Float64Array
    expected: Float64Array
    tokens: Int64Array


@njit(cache=True, nogil=True)
def _add_spans(spans: _Spans, mean: Float64Array, visits: _Visits) -> None:
    """Add spans to their documents; `mean`: of losses, (windows, buckets)."""
    document, window, first, tokens, loss_sum = spans
    sums, expected, counts = visits
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
