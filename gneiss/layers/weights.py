"""Release: the layer `weights`, a prior weight for every kept document beside the factors it is made of.

Two passes over annotation columns, never over texts: the first finds log_z, for which the mean weight is one; the
second writes. With a perplexity, one before them finds its geometric mean. Sums are exact (`math.fsum`), so neither the
order nor the boundaries of shards affect them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit

from gneiss.arrays import BoolArray, Float, Float64Array, Int64Array
from gneiss.errors import InputError, did_you_mean
from gneiss.layers.upsampling import Table, Upsampling
from gneiss.output.annotation_tables import kept_mask
from gneiss.output.claim import held
from gneiss.output.finished_run import FinishedRun, FinishedShard, open_run
from gneiss.output.layers import Layer, WrittenLayer, column, existing_layer, write_layer
from gneiss.store.place import Address

#: A weight lies within this factor of one, before it is divided by the mean.
LARGEST_FACTOR = 4.0
LOG_BOUND = math.log(LARGEST_FACTOR)
#: Probabilities are clipped to this distance from 0 and 1, so that log-odds are within ±13.8.
LEAST_PROBABILITY = 1e-6
#: fastText's probabilities may exceed one by some 1e-5.
_TOLERANCE = 1e-4
COPIES = "repeated_bytes / max(text_bytes, 1) + max(exact_copies - 1, near_cluster_size - 1)"
FORMULA = (
    "log_prior = clip(-alpha * log(1 + copies) + beta * logit(quality) + gamma * log(perplexity / typical_perplexity),"
    " -log 4, +log 4) - log_z"
)
#: The same with a table of upsampling, which is not clipped.
UPSAMPLED = FORMULA.replace(" - log_z", " + log(upsampling) - log_z")
#: Columns of `base` that are factors, with their values for runs that lack them.
FACTORS: Mapping[str, int | float | None] = {
    "dedup_repeated_bytes": 0,
    "exact_copies": 1,
    "near_cluster_size": 1,
    "inclusion_probability": 1.0,
}
_COUNTS = {"exact_copies", "near_cluster_size"}
_BINS = 128

COLUMNS = pa.schema(
    [
        column("document", pa.int64(), "dense index over the kept documents, by shard and row; null where not kept"),
        column("repeated_bytes", pa.int64(), "bytes cut elsewhere as repeats of this document"),
        column("exact_copies", pa.int64(), "documents with this normalised text, itself included"),
        column("near_cluster_size", pa.int64(), "documents in its near-duplicate cluster, itself included"),
        column("copies", pa.float64(), COPIES),
        column("quality_log_odds", pa.float64(), "log(p / (1 - p)) of the quality annotation, p within 1e-6 of 0 or 1"),
        column(
            "perplexity", pa.float64(), "the perplexity annotation: 1 / the geometric mean of a token's probability"
        ),
        column("category", pa.string(), "the category annotation"),
        column("inclusion_probability", pa.float64(), "probability with which a sampling kept it"),
        column("log_prior", pa.float64(), FORMULA),
    ]
)
UPSAMPLING = column(
    "upsampling", pa.float64(), "the factor of max(exact_copies, near_cluster_size) copies in the table of upsampling"
)


@dataclass
class _Totals:
    """The result of the first pass; `bins`: kept documents by log weight before log_z, from -bound to +bound."""

    bound: float
    documents: int = 0
    without_quality: int = 0
    without_perplexity: int = 0
    bins: Int64Array = field(default_factory=lambda: np.zeros(_BINS, np.int64))


def write_weights(
    output: Address,
    *,
    layer: str = "weights",
    alpha: float | None = None,
    beta: float = 0.0,
    gamma: float = 0.0,
    quality: str | None = None,
    perplexity: str | None = None,
    category: str | None = None,
    upsampling: str | Table | None = None,
) -> WrittenLayer:
    """Write the weights of a finished run as an annotation layer; an existing one is left unchanged.

    Parameters: `alpha`: how strongly copies lower a weight (0: not, 1: weight 1 / copies), by default 0.5, and 0 with
    `upsampling`; `beta`: how strongly quality raises it; `gamma`: how strongly perplexity does; `quality`: an
    annotation that is a probability; `perplexity`: an annotation above 0; `category`: an annotation; `upsampling`: a
    factor by the number of copies, as a table, a YAML file of one, or `fineweb-2`. After QuRating (Wettig et al. 2024),
    whose quality scores are logits, and SoftDedup (arXiv 2407.06654), whose weight is 1 / commonness, the geometric
    mean of a token's probability in a 4-gram model of the corpus itself: gamma = 1 with that model's perplexity.
    Raises InputError for an unfinished run or unsuitable columns, OutputError for a layer with other parameters.

    >>> write_weights("curated", beta=0.25, quality="prose").metadata["summary"]["log_z"]  # doctest: +SKIP
    """
    steps = None if upsampling is None else Upsampling.of(upsampling)
    if alpha is None:
        alpha = 0.5 if steps is None else 0.0
    _check_numbers(alpha, beta, gamma, quality, perplexity)
    run = open_run(output)
    columns = COLUMNS if steps is None else COLUMNS.append(UPSAMPLING)
    given: dict[str, Any] = {"formula": FORMULA if steps is None else UPSAMPLED}
    given |= {"copies": COPIES, "alpha": float(alpha), "beta": float(beta), "gamma": float(gamma)}
    given |= {"quality": quality, "perplexity": perplexity, "category": category}
    given |= {"absent": _absent(run, quality, perplexity, category)}
    if steps is not None:
        if given["absent"].keys() >= _COUNTS:
            raise InputError(f"{run.folder}: upsampling: the run counted no copies (exact_duplicates, near_duplicates)")
        given["upsampling"] = [list(step) for step in steps.steps]
    with held(run.folder) as check:
        if there := existing_layer(run, Layer(layer, "weights", given, columns)):
            return there
        factors = _Factors(run, quality, perplexity, category, float(alpha), float(beta), float(gamma), steps)
        typical = _mean(factors.log_perplexities())
        factors = replace(factors, typical_log_perplexity=typical or 0.0)
        totals = _Totals(LOG_BOUND + (steps.largest_log if steps else 0.0))
        total = math.fsum(_weights(run, factors, totals))
        log_z = _log(total / totals.documents) if totals.documents else 0.0
        found = {"typical_perplexity": None if typical is None else math.exp(typical), "log_z": log_z}
        made = Layer(layer, "weights", {**given, **found}, columns)

        def compute(_: FinishedShard, first: int, table: pa.Table) -> Mapping[str, pa.Array]:
            return factors.columns(first, table, log_z)

        return write_layer(run, made, factors.reads, compute, _summary(run, factors, totals, log_z, total), check)


@dataclass(frozen=True)
class _Factors:
    run: FinishedRun
    quality: str | None
    perplexity: str | None
    category: str | None
    alpha: float
    beta: float
    gamma: float
    upsampling: Upsampling | None
    typical_log_perplexity: float = 0.0

    @property
    def reads(self) -> list[str]:
        there = self.run.annotation_schema().names
        chosen = [name for name in (self.quality, self.perplexity, self.category) if name]
        return list(dict.fromkeys([*(name for name in FACTORS if name in there), "text_bytes", *chosen]))

    def log_perplexities(self) -> Iterator[float]:
        """The log perplexity of every kept document that has one."""
        if self.perplexity is None:
            return
        for shard in self.run.shards:
            for _, table in self.run.batches(shard, self.reads):
                logs = _logs(self._perplexity(table.filter(pa.array(kept_mask(table)))))
                yield from logs[~np.isnan(logs)].tolist()

    def log_weights(self, table: pa.Table, kept: BoolArray) -> tuple[dict[str, Any], Float64Array]:
        """The factors of the kept documents of a portion, and their log weights before log_z, (kept,)."""
        table = table.filter(pa.array(kept))
        found = {name: _numbers(table, name, absent) for name, absent in FACTORS.items()}
        whole = np.maximum(found["exact_copies"], found["near_cluster_size"]) - 1
        own = np.maximum(_numbers(table, "text_bytes", 0), 1)
        found["copies"] = found["dedup_repeated_bytes"] / own + np.maximum(whole, 0)
        if not np.isfinite(found["copies"]).all() or (found["copies"] < 0).any():
            raise InputError(f"{self.run.folder}: dedup_repeated_bytes or exact_copies is negative or not a number")
        found["log_odds"] = self._log_odds(table)
        found["perplexity"] = self._perplexity(table)
        rarity = _logs(found["perplexity"]) - self.typical_log_perplexity
        powers = (self.alpha, self.beta, self.gamma)
        log_weights = _log_weights(found["copies"], found["log_odds"], rarity, powers, LOG_BOUND)
        if self.upsampling is not None:
            found["upsampling"] = self.upsampling.factors(whole + 1)
            log_weights += self.upsampling.logs(whole + 1)
        return found, log_weights

    def columns(self, first: int, table: pa.Table, log_z: float) -> dict[str, pa.Array]:
        """The columns of the layer for a portion, null for documents that were not kept."""
        kept = kept_mask(table)
        found, log_weights = self.log_weights(table, kept)
        log_odds, perplexity = found["log_odds"], found["perplexity"]
        category = table[self.category].filter(pa.array(kept)).combine_chunks() if self.category else None
        values = {
            "document": pa.array(np.arange(first, first + int(kept.sum()))),
            "repeated_bytes": pa.array(found["dedup_repeated_bytes"].astype(np.int64)),
            "exact_copies": pa.array(found["exact_copies"].astype(np.int64)),
            "near_cluster_size": pa.array(found["near_cluster_size"].astype(np.int64)),
            "copies": pa.array(found["copies"]),
            "quality_log_odds": pa.array(log_odds, mask=np.isnan(log_odds)),
            "perplexity": pa.array(perplexity, mask=np.isnan(perplexity)),
            "category": pa.nulls(int(kept.sum()), pa.string()) if category is None else category.cast(pa.string()),
            "inclusion_probability": pa.array(found["inclusion_probability"]),
            "log_prior": pa.array(log_weights - log_z),
        }
        if self.upsampling is not None:
            values["upsampling"] = pa.array(found["upsampling"])
        places = pa.array(np.cumsum(kept) - 1, mask=~kept)
        return {name: array.take(places) for name, array in values.items()}

    def _log_odds(self, table: pa.Table) -> Float64Array:
        if self.quality is None:
            return np.full(table.num_rows, np.nan)
        probability = _numbers(table, self.quality, float("nan"))
        outside = (probability < -_TOLERANCE) | (probability > 1 + _TOLERANCE)
        if outside.any():
            raise InputError(
                f"{self.run.folder}: quality={self.quality!r}: expected probabilities, found"
                f" {float(probability[outside][0])!r}; name an annotation from 0 to 1"
            )
        return _logits(probability, LEAST_PROBABILITY)

    def _perplexity(self, table: pa.Table) -> Float64Array:
        if self.perplexity is None:
            return np.full(table.num_rows, np.nan)
        perplexity = _numbers(table, self.perplexity, float("nan"))
        outside = (perplexity <= 0) | np.isinf(perplexity)
        if outside.any():
            raise InputError(
                f"{self.run.folder}: perplexity={self.perplexity!r}: expected finite numbers above 0, found"
                f" {float(perplexity[outside][0])!r}; name an annotation that is a perplexity"
            )
        return perplexity


def _weights(run: FinishedRun, factors: _Factors, totals: _Totals) -> Iterator[float]:
    """The weight of every kept document before division by the mean; also counts them."""
    for shard in run.shards:
        for _, table in run.batches(shard, factors.reads):
            found, log_weights = factors.log_weights(table, kept_mask(table))
            totals.documents += len(log_weights)
            totals.without_quality += int(np.isnan(found["log_odds"]).sum())
            totals.without_perplexity += int(np.isnan(found["perplexity"]).sum())
            bins = np.floor((log_weights + totals.bound) * (_BINS / (2 * totals.bound))).astype(np.int64)
            totals.bins += np.bincount(np.clip(bins, 0, _BINS - 1), minlength=_BINS)
            yield from _exp(log_weights).tolist()


def _summary(run: FinishedRun, factors: _Factors, totals: _Totals, log_z: float, total: float) -> dict[str, Any]:
    """The distribution of the weights: edges are those of 128 equal bins of log weight."""
    edges = (np.arange(_BINS + 1) * (2 * totals.bound / _BINS) - totals.bound - log_z).tolist()
    seen = np.cumsum(totals.bins)
    filled = np.flatnonzero(totals.bins).tolist()

    def quantile(share: float) -> float:
        return math.exp(edges[int(np.searchsorted(seen, max(share * totals.documents, 1), side="left"))])

    shares = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
    largest = math.exp(edges[filled[-1] + 1]) if filled else None
    return {
        "documents": totals.documents,
        "rows": sum(shard.rows for shard in run.shards),
        "log_z": log_z,
        "mean_before_log_z": total / totals.documents if totals.documents else None,
        "documents_without_quality": totals.without_quality if factors.quality else None,
        "documents_without_perplexity": totals.without_perplexity if factors.perplexity else None,
        "weight_quantiles": {f"p{100 * q:g}": quantile(q) for q in shares} if filled else {},
        "largest_weight_below": largest,
        "log_prior_histogram": [[edges[b], edges[b + 1], int(totals.bins[b])] for b in filled],
    }


def _absent(run: FinishedRun, quality: str | None, perplexity: str | None, category: str | None) -> dict[str, Any]:
    """Factors without a column in the run, with their default values; unknown names are refused."""
    schema = run.annotation_schema()
    chosen = {"quality": quality, "perplexity": perplexity, "category": category}
    for option, name in chosen.items():
        if name is not None and name not in schema.names:
            raise InputError(f"{run.folder}: {option}: no annotation {name!r}{did_you_mean(name, schema.names)}")
    for option, name, expected in (("quality", quality, "probabilities"), ("perplexity", perplexity, "perplexities")):
        if name is not None and not pa.types.is_floating(schema.field(name).type):
            found = schema.field(name).type
            raise InputError(f"{run.folder}: {option}={name!r}: expected {expected}, found a column of {found}")
    if category is not None and pa.types.is_nested(schema.field(category).type):
        raise InputError(f"{run.folder}: category={category!r}: expected strings, found lists")
    absent: dict[str, Any] = {name: neutral for name, neutral in FACTORS.items() if name not in schema.names}
    return {**absent, **{option: None for option, name in chosen.items() if name is None}}


def _check_numbers(alpha: float, beta: float, gamma: float, quality: str | None, perplexity: str | None) -> None:
    for name, value in (("alpha", alpha), ("beta", beta), ("gamma", gamma)):
        if not math.isfinite(value):
            raise InputError(f"{name}={value}: expected a finite number")
    if beta and quality is None:
        raise InputError(f"beta={beta} needs quality, the annotation whose log-odds it multiplies")
    if gamma and perplexity is None:
        raise InputError(f"gamma={gamma} needs perplexity, the annotation whose logarithm it multiplies")


def _mean(values: Iterator[float]) -> float | None:
    """The exact mean; None without values."""
    count = 0

    def counted() -> Iterator[float]:
        nonlocal count
        for value in values:
            count += 1
            yield value

    total = math.fsum(counted())
    return total / count if count else None


def _numbers(table: pa.Table, name: str, absent: float | None) -> Float64Array:
    """A column as float64, (rows,); `absent` for missing columns and values."""
    if name not in table.column_names:
        return np.full(table.num_rows, absent, np.float64)
    values = pc.fill_null(table[name].cast(pa.float64()), absent)
    numbers: Float64Array = values.to_numpy()
    return numbers


@njit(cache=True, nogil=True)
def _log_weights(
    copies: Float64Array, log_odds: Float64Array, rarity: Float64Array, powers: tuple[Float, Float, Float], bound: Float
) -> Float64Array:
    alpha, beta, gamma = powers
    out = np.empty(len(copies))
    for i in range(len(copies)):
        value = -alpha * math.log1p(copies[i])
        if beta != 0.0 and not math.isnan(log_odds[i]):  # without a score a document is neither good nor bad
            value += beta * log_odds[i]
        if gamma != 0.0 and not math.isnan(rarity[i]):
            value += gamma * rarity[i]
        out[i] = min(max(value, -bound), bound)
    return out


@njit(cache=True, nogil=True)
def _logits(probabilities: Float64Array, least: Float) -> Float64Array:
    out = np.empty(len(probabilities))
    for i in range(len(probabilities)):
        p = probabilities[i]
        if math.isnan(p):
            out[i] = p
        else:
            p = min(max(p, least), 1.0 - least)
            out[i] = math.log(p) - math.log(1.0 - p)
    return out


@njit(cache=True, nogil=True)
def _logs(values: Float64Array) -> Float64Array:
    out = np.empty(len(values))
    for i in range(len(values)):
        out[i] = math.log(values[i])
    return out


@njit(cache=True, nogil=True)
def _exp(values: Float64Array) -> Float64Array:
    out = np.empty(len(values))
    for i in range(len(values)):
        out[i] = math.exp(values[i])
    return out


@njit(cache=True, nogil=True)
def _log(value: Float) -> Float:
    return math.log(value)
