"""Buckets: the kept documents of a run by token-weighted quantiles of a score, within each category.

One pass over annotation columns finds where quantiles begin; what documents are in is then a comparison of floats.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gneiss.arrays import Int64Array
from gneiss.errors import InputError, did_you_mean
from gneiss.output.annotation_tables import kept_mask
from gneiss.output.claim import held
from gneiss.output.finished_run import FinishedRun, FinishedShard, open_run
from gneiss.output.layers import Layer, WrittenLayer, column, existing_layer, write_layer
from gneiss.quantiles import Sketch, categories_of, cuts_of, keys_of, quantiles_of, scores_of, values_of
from gneiss.report.counting import token_column
from gneiss.store.place import Address

MOST_QUANTILES = 1000
#: The most categories; each has a line in tables for every quantile.
MOST_CATEGORIES = 10_000
#: The bucket, within its category, of documents without a finite score.
UNSCORED = "unscored"
COLUMNS = pa.schema(
    [
        column("bucket", pa.string(), "category and quantile; null where not kept"),
        column("category", pa.string(), "the values of the columns by which there are buckets, with / between them"),
        column("quantile", pa.int64(), "from 1, the lowest scores, on; null without a score"),
        column("score", pa.float64(), "the largest of the scores; null where none is finite"),
    ]
)


@dataclass(frozen=True)
class Buckets:
    """How documents are put into buckets.

    scores: annotations, of which the largest counts; by: columns whose values make a category; quantiles: how many;
    tokens: the column of weights; layers: that columns are in; cuts: category → from which score on a document is in
    each quantile but the first (those that no score reaches are left out); relative_error: of the cuts.
    """

    scores: tuple[str, ...]
    by: tuple[str, ...]
    quantiles: int
    tokens: str
    layers: tuple[str, ...]
    cuts: Mapping[str, Sequence[float]]
    relative_error: float = 0.0

    @property
    def reads(self) -> list[str]:
        """The columns that say in which bucket a document is."""
        return list(dict.fromkeys([*self.scores, *self.by]))

    def names(self, category: str) -> list[str]:
        """The buckets of a category, the lowest scores first, last the one without a score.

        >>> Buckets(("prose",), ("language",), 2, "tokens", (), {"en": [0.5]}).names("en")
        ['en/q1', 'en/q2', 'en/unscored']
        """
        within = f"{category}/" if self.by else ""
        digits = len(str(self.quantiles))
        return [
            *(f"{within}q{number:0{digits}d}" for number in range(1, self.quantiles + 1)),
            f"{within}{UNSCORED}",
        ]

    def columns(self, table: pa.Table) -> dict[str, pa.Array]:
        """The columns of the layer for annotations of documents. Raises InputError for a category without cuts."""
        scores = scores_of(table, self.scores)
        names, category = categories_of(table, self.by)
        quantile = np.full(len(scores), self.quantiles, np.int64)
        for at, name in enumerate(names.to_pylist()):
            if name not in self.cuts:
                raise InputError(f"category {name!r}: it was not there when quantiles were found; write another layer")
            rows = (category == at) & ~np.isnan(scores)
            quantile[rows] = np.searchsorted(self.cuts[name], scores[rows], side="right")
        listed = pa.array([bucket for name in names.to_pylist() for bucket in self.names(name)], pa.string())
        return {
            "bucket": listed.take(pa.array(category * (self.quantiles + 1) + quantile)),
            "category": names.take(pa.array(category)),
            "quantile": pa.array(quantile + 1, mask=np.isnan(scores)),
            "score": pa.array(scores, mask=np.isnan(scores)),
        }


@dataclass(frozen=True)
class Bucket:
    """A bucket: its documents and their tokens; low, high: the scores from one on, up to the other; None without."""

    name: str
    category: str
    quantile: int | None
    documents: int
    tokens: int
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, eq=False)
class FoundBuckets:
    """The buckets of a run, with what is in each."""

    run: FinishedRun
    buckets: Buckets
    sketch: Sketch
    unscored: Mapping[str, tuple[int, int]]

    @cached_property
    def table(self) -> tuple[Bucket, ...]:
        """Every bucket, by category, also the empty ones; `unscored` where there are documents without a score."""
        return tuple(bucket for category in self.buckets.cuts for bucket in self._of(category))

    @property
    def constant(self) -> list[str]:
        """The categories of two documents or more whose scores are all the same."""
        bins = self.sketch.bins
        return [name for name, of in bins.items() if len(of.keys) == 1 and of.amounts[0, 1] > 1]

    def _of(self, category: str) -> Iterator[Bucket]:
        buckets = self.buckets
        *names, unscored = buckets.names(category)
        if (bins := self.sketch.bins.get(category)) is not None:
            values = values_of(bins.keys << np.uint64(self.sketch.shift))
            found = quantiles_of(bins.amounts[:, 0], buckets.quantiles)
            bounds = np.searchsorted(found, np.arange(buckets.quantiles + 1))
            for number, name in enumerate(names):
                of = slice(bounds[number], bounds[number + 1])
                tokens, documents = bins.amounts[of].sum(axis=0).tolist()
                ends = values[of][[0, -1]].tolist() if documents else (None, None)
                yield Bucket(name, category, number + 1, documents, tokens, *ends)
        if category in self.unscored:
            tokens, documents = self.unscored[category]
            yield Bucket(unscored, category, None, documents, tokens)


def find_buckets(
    output: Address | FinishedRun,
    scores: Sequence[str],
    *,
    by: Sequence[str] = (),
    quantiles: int = 20,
    tokens: str | None = None,
    layers: Sequence[str] = (),
) -> FoundBuckets:
    """Put the kept documents of a run into buckets of about equal tokens: quantiles of a score, within each category.

    Parameters: `scores`: numeric annotations, of which the largest counts; `by`: annotations that are strings, whole
    numbers or flags; `quantiles`: how many, 2 to 1,000; `tokens`: the column that weighs, by default the recipe's token
    count; `layers`: that columns are in. Equal scores are in one bucket. A score that is null, NaN or infinite is none;
    without one a document is in the bucket `unscored`. The sketch is exact up to 4 million distinct scores; past that
    `relative_error` says how far cuts may be off. Raises InputError.

    >>> [bucket.tokens for bucket in find_buckets("curated", ["prose"], quantiles=4).table]  # doctest: +SKIP
    [51204, 50991, 51377, 51020]
    """
    run = output if isinstance(output, FinishedRun) else open_run(output)
    if not 2 <= quantiles <= MOST_QUANTILES:
        raise InputError(f"quantiles {quantiles}: expected 2 to {MOST_QUANTILES}")
    if not scores:
        raise InputError("no score; name an annotation whose quantiles are sought")
    tokens = check_columns(run, scores, by, tokens, layers)
    unscored: dict[str, Int64Array] = {}

    def parts() -> Iterator[Any]:
        seen: set[str] = set()
        for table in kept_batches(run, [tokens, *scores, *by], layers):
            values, amounts = scores_of(table, scores), amounts_of(run, table, tokens)
            names, category = categories_of(table, by)
            seen.update(named := names.to_pylist())
            if len(seen) > MOST_CATEGORIES:
                raise InputError(
                    f"{run.folder}: {', '.join(by)}: more than {MOST_CATEGORIES:,} categories; name columns of fewer"
                    " values"
                )
            has = ~np.isnan(values)
            for at, name in enumerate(named):
                if (rows := ~has & (category == at)).any():
                    unscored[name] = unscored.get(name, 0) + amounts[rows].sum(axis=0)
            yield named, category[has], keys_of(values[has]), amounts[has]

    sketch = Sketch.of_all(parts())
    found = sorted({*sketch.bins, *unscored})
    cuts = {name: cuts_of(sketch.bins[name], sketch.shift, quantiles) if name in sketch.bins else [] for name in found}
    buckets = Buckets(tuple(scores), tuple(by), quantiles, tokens, tuple(layers), cuts, sketch.relative_error)
    return FoundBuckets(run, buckets, sketch, {name: tuple(of.tolist()) for name, of in unscored.items()})


def write_buckets(found: FoundBuckets, layer: str = "buckets") -> WrittenLayer:
    """Write the buckets of all kept documents as an annotation layer; an existing one is left unchanged.

    Its metadata hold the cuts, by which a later run can be cut at the same scores. Raises OutputError for a layer with
    other parameters.

    >>> write_buckets(find_buckets("curated", ["prose"])).metadata["parameters"]["cuts"]  # doctest: +SKIP
    """
    run, buckets = found.run, found.buckets
    given = {
        "scores": list(buckets.scores),
        "by": list(buckets.by),
        "quantiles": buckets.quantiles,
        "tokens": buckets.tokens,
        "layers": list(buckets.layers),
        "cuts": {name: list(cuts) for name, cuts in buckets.cuts.items()},
        "relative_error": buckets.relative_error,
    }
    made = Layer(layer, "buckets", given, COLUMNS)

    def compute(_: FinishedShard, __: int, table: pa.Table) -> Mapping[str, pa.Array]:
        kept = kept_mask(table)
        places = pa.array(np.cumsum(kept) - 1, mask=~kept)
        of_kept = buckets.columns(table.filter(pa.array(kept)))
        return {name: values.take(places) for name, values in of_kept.items()}

    summary = {"documents": run.documents, "buckets": {of.name: [of.documents, of.tokens] for of in found.table}}
    with held(run.folder) as check:
        if there := existing_layer(run, made):
            return there
        return write_layer(run, made, buckets.reads, compute, summary, check, layers=buckets.layers)


def kept_batches(run: FinishedRun, columns: Sequence[str], layers: Sequence[str] = ()) -> Iterator[pa.Table]:
    """The annotations of kept documents, portion by portion in their order. Raises InputError."""
    for shard in run.shards:
        for _, table in run.batches(shard, list(dict.fromkeys(columns)), layers):
            yield table.filter(pa.array(kept_mask(table)))


def check_columns(
    run: FinishedRun, scores: Sequence[str], by: Sequence[str], tokens: str | None, layers: Sequence[str]
) -> str:
    """The column of tokens. Raises InputError for a column that is not there, or of a type that does not do."""
    if not run.shards:
        raise InputError(f"{run.folder}: the run has no rows")
    run.layers(layers)
    held_in = run.columns(run.shards[0], layers)
    types = {"base": run.annotation_schema(), **{layer: run.layer_schema(layer) for layer in layers}}
    if tokens is None:
        tokens = token_column(run.recipe)
        if tokens is None:
            raise InputError(
                f"{run.folder}: the recipe counts no tokens; name the column that weighs, such as tokens=text_bytes"
            )
    kinds = {
        "a number": (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean),
        "a string, a whole number or a flag": (pa.types.is_string, pa.types.is_integer, pa.types.is_boolean),
        "a whole number": (pa.types.is_integer,),
    }
    wanted = [*((name, "a number") for name in scores), *((name, "a string, a whole number or a flag") for name in by)]
    for name, kind in [*wanted, (tokens, "a whole number")]:
        if name not in held_in:
            raise InputError(f"{run.folder}: no annotation {name!r}{did_you_mean(name, held_in)}")
        layer, own = held_in[name]
        found = types[layer].field(own).type if layer == "base" else types[layer][own]
        if not any(is_kind(found) for is_kind in kinds[kind]):
            raise InputError(f"{run.folder}: {name!r}: expected {kind}, found a column of {found}")
    return tokens


def amounts_of(run: FinishedRun, table: pa.Table, tokens: str) -> Int64Array:
    """Tokens and documents of each row, int64 (rows, 2). Raises InputError for a negative or missing count."""
    column = table[tokens].cast(pa.int64())
    counts = pc.fill_null(column, -1).to_numpy()
    if (counts < 0).any():
        at = int(np.flatnonzero(counts < 0)[0])
        raise InputError(
            f"{run.folder}: {tokens}: expected a number of tokens from 0 on, found {column[at].as_py()} for document"
            f" {table['id'][at].as_py()!r}"
        )
    return np.stack([counts, np.ones(len(counts), np.int64)], axis=1)
