"""Features of a run's documents, by which they are near each other: projections of their words, and annotations."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np
import pyarrow as pa
from numba import njit, uint64

from gneiss.arrays import Float64Array, Int64Array, UInt64Array
from gneiss.batch import TextBatch
from gneiss.errors import InputError, did_you_mean
from gneiss.filters.contamination_words import BASE, folded_words, mixed
from gneiss.output.annotation_tables import usable_mask
from gneiss.output.finished_run import FinishedRun
from gneiss.output.sources import Sources
from gneiss.recipe.columns import ORIGIN, RESERVED

#: Projections of a document's words, a bit of each word's hash for each.
PROJECTIONS = 48


def document_batches(of: Sources, columns: Sequence[str]) -> Iterator[tuple[str, Int64Array, TextBatch]]:
    """The documents of a run in the order of shards and rows, some at a time: shard, rows, and annotated texts.

    Those that `of` has: the kept ones, or all but the quarantined ones. Columns: annotations; `layer.column` is of that
    layer. Raises InputError.
    """
    layers = list(dict.fromkeys(name.split(".")[0] for name in columns if "." in name))
    of.run.layers(layers)
    for shard in of.run.shards:
        if not (shard.rows if of.has_all else shard.kept):
            continue
        own = names_in(of.run, columns, of.run.columns(shard, layers))
        annotations = pa.concat_tables(table for _, table in of.run.batches(shard, list(own.values()), layers))
        for rows, table in of.tables(shard, [of.run.text]):
            there = annotations.take(pa.array(rows))
            is_usable = usable_mask(there)
            texts = table.column(0).filter(pa.array(is_usable)).cast(pa.large_string())
            there = there.filter(pa.array(is_usable))
            found = {name: there[renamed].combine_chunks() for name, renamed in own.items()}
            yield shard.id, rows[is_usable], TextBatch.of(texts).annotated(found)


def names_in(run: FinishedRun, names: Sequence[str], there: Collection[str]) -> dict[str, str]:
    """Annotation, of a layer `layer.column` → what a run calls it, where it has `there`. Raises InputError."""
    own = {name: name if name in there else name.partition(".")[2] for name in names}
    for name, found in own.items():
        if found not in there:
            raise InputError(f"{run.folder}: no annotation {name!r}{did_you_mean(name, there)}")
    return own


def numeric_annotations(run: FinishedRun) -> list[str]:
    """The annotations of a run that are numbers, in order."""
    names = {*RESERVED, *ORIGIN}
    fields = [field for field in run.annotation_schema() if field.name not in names]
    return [field.name for field in fields if pa.types.is_integer(field.type) or pa.types.is_floating(field.type)]


def document_features(batch: TextBatch, annotations: Sequence[str], seed: int) -> Float64Array:
    """Projections of the words, then annotations, NaN for a missing one: (documents, 48 + annotations)."""
    numbers = [numbers_of(batch.annotations[name]) for name in annotations]
    return np.column_stack([word_projections(batch, seed), *numbers])


def numbers_of(values: pa.Array) -> Float64Array:
    """Numbers as float64, NaN where there is none."""
    numbers: Float64Array = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return numbers


def word_projections(batch: TextBatch, seed: int) -> Float64Array:
    """Random projections of the counts of words, scaled to length 1, (documents, 48); 0 of a text without words.

    Each word adds 1 to a projection or takes 1 away, by a bit of its hash. Documents with equal counts have equal
    projections, and the distance between two is about that of their counts, scaled alike (Achlioptas, 2003).

    >>> one, other, third = word_projections(TextBatch.of(["a cat sat", "Sat, a CAT!", "rain fell"]), 0)
    >>> bool((one == other).all()), bool((one == third).all())
    (True, False)
    """
    words = folded_words(batch)
    return _projected(words.sums, words.documents, np.uint64(seed))


@njit(cache=True, nogil=True)
def _projected(sums: UInt64Array, documents: Int64Array, seed: np.uint64) -> Float64Array:
    key = mixed(seed + uint64(BASE))
    found = np.zeros((len(documents) - 1, PROJECTIONS))
    for document in range(len(found)):
        own = found[document]
        for word in range(documents[document], documents[document + 1]):
            bits = mixed((sums[word + 1] - sums[word] * uint64(BASE)) ^ key)
            for k in range(PROJECTIONS):
                own[k] += 1.0 if bits >> uint64(k) & uint64(1) else -1.0
        square = 0.0
        for k in range(PROJECTIONS):
            square += own[k] * own[k]
        if square > 0.0:
            length = np.sqrt(square)
            for k in range(PROJECTIONS):
                own[k] /= length
    return found


@njit(cache=True, nogil=True)
def standardise(features: Float64Array) -> None:
    """Give each column, (documents, features), mean 0 and variance 1, and 0 to what is missing or does not vary.

    >>> features = np.array([[1.0, 7.0], [3.0, 7.0], [np.nan, 7.0]])
    >>> standardise(features)
    >>> features.tolist()
    [[-1.0, 0.0], [1.0, 0.0], [0.0, 0.0]]
    """
    for k in range(features.shape[1]):
        column = features[:, k]
        count, mean, variance = 0, 0.0, 0.0
        for value in column:
            if np.isfinite(value):
                count += 1
                mean += (value - mean) / count
        for value in column:
            if np.isfinite(value):
                variance += (value - mean) ** 2 / count
        deviation = np.sqrt(variance)
        for row in range(len(column)):
            scaled = (column[row] - mean) / deviation if deviation > 0.0 else 0.0
            column[row] = scaled if np.isfinite(scaled) else 0.0
