"""What there is to mix: the kept documents of runs by cells, with hashes of their ids, in one pass of annotations."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from itertools import zip_longest
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from gneiss.arrays import Int64Array, UInt64Array, distinct_values
from gneiss.errors import InputError
from gneiss.filters.tokens import Tokens
from gneiss.layers.upsampling import Upsampling
from gneiss.loader.order import mixed
from gneiss.mixture.buckets import amounts_of, check_columns
from gneiss.mixture.plan import Cell
from gneiss.output.annotation_tables import kept_mask
from gneiss.output.differences import difference, run_differences
from gneiss.output.finished_run import FinishedRun, FinishedShard
from gneiss.quantiles import Bins, Sketch
from gneiss.report.held_out import Identities, refuse_shared

#: Factors are whole multiples of 1 / 16, so that there are few.
FACTOR_STEPS = 16
#: The bucket of all documents of a run without buckets.
ALL = "all"
#: Hashes of ids of a source that are compared with those of others.
MOST_IDS = 1 << 20
_COPIES = ("exact_copies", "near_cluster_size")


@dataclass(frozen=True)
class Source:
    """A run to mix, under its name.

    tokens: the column of weights; buckets: the layer with the buckets of its documents, None: all are in one; weights:
    the layer whose prior weights are factors; upsampling: factors by the number of copies.
    """

    name: str
    run: FinishedRun
    tokens: str
    buckets: str | None = None
    weights: str | None = None
    upsampling: Upsampling | None = None

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that are read."""
        return tuple(layer for layer in (self.buckets, self.weights) if layer is not None)

    @cached_property
    def bucketing(self) -> Mapping[str, Any]:
        """The parameters of its buckets. Raises InputError for a layer of something else."""
        if self.buckets is None:
            return {}
        metadata = self.run.layers([self.buckets])[self.buckets]
        if metadata["annotator"] != "buckets":
            raise InputError(
                f"{self.run.folder}: the layer {self.buckets!r} holds no buckets, but {metadata['annotator']};"
                " `gneiss buckets` writes such a layer"
            )
        parameters: Mapping[str, Any] = metadata["parameters"]
        return parameters

    @cached_property
    def tokenizer(self) -> str:
        """What counts its tokens."""
        counters = (annotator for phase in self.run.recipe.phases for annotator in phase.annotators)
        found = next((of for of in counters if isinstance(of, Tokens) and of.column == self.tokens), None)
        if found is None:
            return self.tokens
        checksum = self.run.identity.get("models", {}).get(found.tokenizer)
        return f"{found.tokenizer} ({checksum})" if checksum else found.tokenizer

    def rows(self, shard: FinishedShard, more: Mapping[str, str] = MappingProxyType({})) -> Iterator[pa.Table]:
        """The annotations of a shard's kept documents that are needed, portion by portion; more: others, renamed."""
        held = self.run.columns(shard, self.layers)
        own = {layer_column: name for name, layer_column in held.items()}
        wanted = {"tokens": self.tokens, **more}
        if self.buckets is not None:
            wanted |= {name: own[self.buckets, name] for name in ("bucket", "category", "quantile")}
        if self.weights is not None:
            wanted["log_prior"] = own[self.weights, "log_prior"]
        if self.upsampling is not None:
            wanted |= {name: name for name in _COPIES if name in held}
        for _, table in self.run.batches(shard, list(dict.fromkeys(wanted.values())), self.layers):
            kept = table.filter(pa.array(kept_mask(table)))
            columns = {name: kept[column] for name, column in wanted.items()}
            yield pa.table({"row": kept["row"], "id": kept["id"], **columns})


@dataclass(frozen=True, eq=False)
class Assigned:
    """Which cells documents are in: keys of cells, the index of each document's, its tokens, the hash of its id."""

    keys: list[str]
    cell: Int64Array
    amounts: Int64Array
    hashes: UInt64Array
    quantiles: Mapping[str, int | None]


@dataclass(frozen=True, eq=False)
class Survey:
    """The cells of some sources.

    shared_ids: about how many documents have an id that another source has too; found: cell → its key in the sketch.
    """

    sources: tuple[Source, ...]
    seed: int
    cells: tuple[Cell, ...]
    sketch: Sketch
    shared_ids: int
    found: Mapping[Cell, str] = field(default_factory=dict)

    def hashes(self, cell: Cell) -> tuple[Bins, int]:
        """The tokens of a cell's documents by the hashes of their ids, and the bits that were dropped."""
        return self.sketch.bins[self.found[cell]], self.sketch.shift


def survey(sources: Sequence[Source], seed: int, held_out: Identities | None = None) -> Survey:
    """Count the documents and tokens of each cell.

    Raises InputError for counts, ids or factors that cannot be, and for a document that is held out.
    """
    quantiles: dict[str, int | None] = {}
    ids = [_Ids() for _ in sources] if len(sources) > 1 else []
    more = {"content_hash": "content_hash"} if held_out else {}

    def parts() -> Iterator[tuple[Sequence[str], Int64Array, UInt64Array, Int64Array]]:
        for source, own in zip_longest(sources, ids):
            for shard in source.run.shards:
                for table in source.rows(shard, more):
                    if held_out is not None:
                        refuse_shared(source.name, table["id"].to_pylist(), held_out, table["content_hash"].to_pylist())
                    assigned = assign(source, shard, table, seed)
                    quantiles.update(assigned.quantiles)
                    if own is not None:
                        own.add(assigned.hashes)
                    yield assigned.keys, assigned.cell, assigned.hashes, assigned.amounts

    sketch = Sketch.of_all(parts())
    found: dict[Cell, str] = {}
    for source in sources:
        keys = sorted(key for key in sketch.bins if json.loads(key)[0] == source.name)
        nothing = json.dumps([source.name, "", ALL, FACTOR_STEPS])
        found |= dict(_cells(keys, sketch, quantiles)) or {Cell(source.name, ALL, 0, 0): nothing}
    return Survey(tuple(sources), seed, tuple(found), sketch, _shared(ids), found)


def assign(source: Source, shard: FinishedShard, table: pa.Table, seed: int) -> Assigned:
    """The cells of documents: rows of `Source.rows`."""
    amounts = amounts_of(source.run, table, "tokens")
    factors = _factors(source, table)
    rows = table.num_rows
    if source.buckets is None:
        columns = {"category": pa.array([""] * rows, pa.string()), "bucket": pa.array([ALL] * rows, pa.string())}
        columns["quantile"] = pa.nulls(rows, pa.int64())
    else:
        columns = {name: table[name].combine_chunks() for name in ("category", "bucket", "quantile")}
    columns["factor"] = pa.array(factors)
    code = np.zeros(rows, np.int64)  # fits: a column has no more values than a portion has rows
    for column in columns.values():
        encoded = column.dictionary_encode("encode")
        code = code * max(len(encoded.dictionary), 1) + encoded.indices.to_numpy(zero_copy_only=False)
    _, firsts, cell = np.unique(code, return_index=True, return_inverse=True)
    keys, quantiles = [], {}
    for group in pa.table(columns).take(pa.array(firsts)).to_pylist():
        keys.append(json.dumps([source.name, group["category"], group["bucket"], group["factor"]]))
        quantiles[keys[-1]] = group["quantile"]
    return Assigned(keys, cell, amounts, _hashes(shard, table, seed), quantiles)


def _cells(keys: Sequence[str], sketch: Sketch, quantiles: Mapping[str, int | None]) -> Iterator[tuple[Cell, str]]:
    """The cells of a source, with their places among the tokens of their category."""
    tokens: dict[tuple[str, int], int] = {}
    for key in keys:
        category, number = json.loads(key)[1], quantiles[key]
        if number is not None:
            tokens[category, number] = tokens.get((category, number), 0) + int(sketch.bins[key].amounts[:, 0].sum())
    places: dict[tuple[str, int], tuple[Fraction, Fraction]] = {}
    for category in {category for category, _ in tokens}:
        own = sorted((number, count) for (name, number), count in tokens.items() if name == category)
        total, before = sum(count for _, count in own), 0
        for number, count in own:
            if total:
                places[category, number] = Fraction(before, total), Fraction(before + count, total)
            before += count
    for key in keys:
        name, category, bucket, steps = json.loads(key)
        amounts, number = sketch.bins[key].amounts.sum(axis=0).tolist(), quantiles[key]
        place = None if number is None else places.get((category, number))
        yield Cell(name, bucket, amounts[1], amounts[0], category, Fraction(steps, FACTOR_STEPS), place), key


def _factors(source: Source, table: pa.Table) -> Int64Array:
    """The factor of each document, in steps of 1 / 16, int64 (rows,); at least one step."""
    factors = np.ones(table.num_rows)
    if source.weights is not None:
        factors = np.fromiter(map(math.exp, table["log_prior"].to_pylist()), np.float64, table.num_rows)
    if source.upsampling is not None:
        counts = [
            pc.fill_null(table[name].cast(pa.float64()), 1.0).to_numpy()
            for name in _COPIES
            if name in table.column_names
        ]
        if not counts:
            raise InputError(
                f"{source.run.folder}: upsampling: the run counted no copies (exact_duplicates, near_duplicates)"
            )
        factors = source.upsampling.factors(np.maximum.reduce(counts))
    steps: Int64Array = np.maximum(np.rint(factors * FACTOR_STEPS), 1).astype(np.int64)
    return steps


def _hashes(shard: FinishedShard, table: pa.Table, seed: int) -> UInt64Array:
    """The hashes of ids, of the places of documents without one, mixed with the seed, uint64 (rows,)."""
    places = pc.binary_join_element_wise(shard.id, table["row"].cast(pa.string()), "\0")
    ids = pc.coalesce(table["id"].cast(pa.string()), places).cast(pa.binary()).to_pylist()
    hashes: UInt64Array = np.fromiter(map(xxhash.xxh3_64_intdigest, ids), np.uint64, len(ids))
    return mixed(hashes + np.full(1, xxhash.xxh3_64_intdigest(f"mixture\0{seed}".encode()), np.uint64))


class _Ids:
    """The lowest hashes of ids: all while they are few, then those below a bound."""

    def __init__(self) -> None:
        self.bits = 0
        self.lowest: UInt64Array = np.empty(0, np.uint64)
        self._waiting: list[UInt64Array] = []

    def add(self, hashes: UInt64Array) -> None:
        """Add hashes of ids."""
        self._waiting.append(hashes)
        if sum(map(len, self._waiting)) >= MOST_IDS:
            self.settle()

    def settle(self) -> None:
        """Sort in what was added."""
        new = [self._low(hashes, self.bits) for hashes in self._waiting]
        self.lowest, self._waiting = distinct_values(np.concatenate([self.lowest, *new])), []
        while len(self.lowest) > MOST_IDS:
            self.bits += 1
            self.lowest = self._low(self.lowest, self.bits)

    def below(self, bits: int) -> UInt64Array:
        """The hashes with so many leading zeros, at least as many as are left here."""
        return self._low(self.lowest, bits)

    @staticmethod
    def _low(hashes: UInt64Array, bits: int) -> UInt64Array:
        return hashes[hashes >> np.uint64(64 - bits) == 0] if bits else hashes


def _shared(ids: Sequence[_Ids]) -> int:
    """About how many ids are in more than one source; exactly, while there are few."""
    if len(ids) < 2:
        return 0
    for own in ids:
        own.settle()
    bits = max(own.bits for own in ids)
    _, counts = np.unique(np.concatenate([own.below(bits) for own in ids]), return_counts=True)
    return int((counts > 1).sum()) << bits


def sources_of(
    runs: Mapping[str, FinishedRun],
    *,
    tokens: str | None = None,
    buckets: str | None = None,
    weights: str | None = None,
    upsampling: str | Mapping[int, float] | None = None,
) -> tuple[Source, ...]:
    """The sources of a mixture, by name.

    Parameters: as for `mix`. Raises InputError for a layer or column that a run lacks, and for runs whose tokens are
    counted by different tokenizers.
    """
    if weights is not None and upsampling is not None:
        raise InputError(
            "weights and upsampling: both are factors of documents; give one (weights may hold upsampling)"
        )
    steps = None if upsampling is None else Upsampling.of(upsampling)
    found = []
    for name, run in runs.items():
        layers = [layer for layer in (buckets, weights) if layer is not None]
        column = check_columns(run, [], [], tokens, layers)
        source = Source(name, run, column, buckets, weights, steps)
        if source.buckets is not None:
            _ = source.bucketing
        if weights is not None and "log_prior" not in run.layer_schema(weights):
            raise InputError(f"{run.folder}: the layer {weights!r} has no log_prior; `gneiss weights` writes it")
        found.append(source)
    for source in found[1:]:
        if source.tokenizer != found[0].tokenizer:
            raise InputError(
                f"tokens of {found[0].name} are counted by {found[0].tokenizer}, those of {source.name} by"
                f" {source.tokenizer}; a budget needs one count: run one of them with the other's tokenizer, or weigh"
                " by bytes (tokens=text_bytes)"
            )
    return tuple(found)


def differences(sources: Sequence[Source]) -> list[str]:
    """In what other sources differ from the first: recipes, models, and buckets."""
    first = sources[0]
    of_runs = run_differences({source.name: source.run for source in sources})
    of_buckets = [
        difference("buckets", first.name, _without_cuts(first.bucketing), each.name, _without_cuts(each.bucketing))
        for each in sources[1:]
    ]
    return of_runs + [sentence for sentence in of_buckets if sentence]


def _without_cuts(bucketing: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in bucketing.items() if key not in ("cuts", "relative_error")}
