"""`gneiss label next`: of a run's documents that are not queued, those about which a model is least sure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gneiss.arrays import BoolArray, Float64Array, Int64Array
from gneiss.batch import TextBatch
from gneiss.errors import InputError
from gneiss.model_training.document_features import document_batches, numbers_of
from gneiss.model_training.labelling.queue import CHOSEN, Queue, Round, open_queue, write_round
from gneiss.model_training.labelling.strategies.margin import nearest_to_half
from gneiss.model_training.labels import MARGIN, read_documents
from gneiss.model_training.trained_model import trained_model
from gneiss.output.claim import held
from gneiss.output.finished_run import open_run
from gneiss.output.sources import Sources, sources
from gneiss.store.place import Address, place_of

#: The annotation that says which documents are near-duplicates.
_CLUSTER = "near_cluster"


@dataclass(frozen=True)
class NextRound:
    """A round of margin in its queue.

    was_there: whether an earlier call wrote it; has_clusters: whether the run knows near-duplicates; left: how many
    labels of the budget are left after it.
    """

    round: Round
    queue: Queue
    was_there: bool
    has_clusters: bool
    left: int


@dataclass(frozen=True, eq=False)
class _Scored:
    """Documents in the order of shards and rows: where they are, their scores, clusters, and which have a label."""

    shards: list[str]
    rows: Int64Array
    scores: Float64Array
    clusters: Int64Array
    is_labelled: BoolArray


@dataclass(frozen=True, eq=False)
class _Scorer:
    """identity: what a round is known by; reads: annotations; scores: of annotated texts, NaN where there is none."""

    identity: Mapping[str, str]
    reads: tuple[str, ...]
    scores: Callable[[TextBatch], Float64Array]


def next_labels(
    run: Address,
    queue: Address,
    *,
    model: Path | None = None,
    score: str | None = None,
    labels: Path | None = None,
    budget: int | None = None,
    input: Address | None = None,
) -> NextRound:
    """Queue the documents without a label whose score is nearest to ½, at most one of each cluster of near-duplicates.

    The same call finds its round there, and adds none. Parameters: `run`, `queue`: as for `choose_labels`; `model`: of
    `gneiss train`, its folder or file; `score`: instead, an annotation of the run that is a probability, of a layer
    `layer.column`; `labels`: Parquet with documents that have a label and need not be queued; `budget`: documents of
    the round, by default an even share of what is left for margin; `input`: what was given to the run, for a queue of
    all documents. Raises InputError, ModelError, OutputError.
    """
    if budget is not None and budget < 1:
        raise InputError(f"budget={budget}: expected at least 1 document")
    opened, folder = open_run(run), place_of(queue, "output")
    found = open_queue(folder, opened)
    if (found.asked.documents == "all") is not (input is not None):
        raise InputError(
            f"{folder}: it was chosen from {found.asked.documents} documents: "
            + ("name what was given to the run, input=…" if input is None else "leave out input=…")
        )
    of = sources(opened, input)
    scorer = _scorer(model, score)
    asked = {**scorer.identity, "budget": budget}
    with held(folder):
        folder.sweep()  # of a process that was killed
        rounds = found.rounds()
        written = next((round_ for round_ in rounds if round_.asked == asked), None)
        was_there, has_clusters = written is not None, _CLUSTER in opened.annotation_schema().names
        if written is None:
            count = budget or _even_share(found, len(rounds))
            scored = _scored(of, scorer, _known(found, labels), has_clusters)
            written = write_round(found, asked, of, _chosen(scored, count, found))
        left = found.asked.budget - found.documents().num_rows
        return NextRound(written, found, was_there, has_clusters, left)


def _scorer(model: Path | None, score: str | None) -> _Scorer:
    if model is not None and score is None:
        return _of_model(model)
    if score is not None and model is None:
        return _of_annotation(score)
    raise InputError("expected a model (model=…), or an annotation that is a probability (score=…), and not both")


def _of_annotation(name: str) -> _Scorer:
    def scores(batch: TextBatch) -> Float64Array:
        values = batch.annotations[name]
        if not (pa.types.is_floating(values.type) or pa.types.is_integer(values.type)):
            raise InputError(f"annotation {name!r}: expected probabilities, found {values.type}; take another score")
        return numbers_of(values)

    return _Scorer({"score": name}, (name,), scores)


def _of_model(path: Path) -> _Scorer:
    trained = trained_model(path)
    compute = trained.annotator.load({str(trained.path): trained.path})
    with trained.path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return _Scorer(
        {"model": sha256},
        trained.annotator.reads_annotations,
        lambda batch: numbers_of(pa.array(compute(batch)[trained.column])),
    )


def _even_share(queue: Queue, rounds: int) -> int:
    """How many documents a round has that was not asked for a number."""
    left: int = queue.asked.budget - queue.documents().num_rows
    if left <= 0:
        raise InputError(
            f"{queue.folder}: the {queue.asked.budget:,} labels of the budget are queued already; ask for more with"
            " budget=…, which is for this round only"
        )
    return ceil(left / max(1, queue.coverage.margin_rounds - rounds))


def _known(queue: Queue, labels: Path | None) -> tuple[Mapping[str, set[int]], set[str]]:
    """Documents that are queued or labelled: shard → rows, and ids."""
    rows: dict[str, set[int]] = {}
    ids: set[str] = set()
    table = queue.documents()
    found = [list(zip(table["shard"].to_pylist(), table["row"].to_pylist(), strict=True))]
    if labels is not None:
        found += [documents for documents, _ in read_documents(labels)]
    for document in (document for documents in found for document in documents):
        if isinstance(document, tuple):
            rows.setdefault(document[0], set()).add(document[1])
        elif document is not None:
            ids.add(str(document))
    return rows, ids


def _scored(
    of: Sources, scorer: _Scorer, known: tuple[Mapping[str, set[int]], set[str]], has_clusters: bool
) -> _Scored:
    known_rows, known_ids = known
    columns = ["id", "content_hash", *([_CLUSTER] if has_clusters else []), *scorer.reads]
    shards: list[str] = []
    parts: list[tuple[Int64Array, Float64Array]] = []
    clusters: list[pa.Array] = []
    is_labelled: list[bool] = []
    for shard, rows, batch in document_batches(of, columns):
        shards += [shard] * len(rows)
        parts.append((rows, scorer.scores(batch)))
        known_here, ids = known_rows.get(shard, ()), batch.annotations["id"].to_pylist()
        is_labelled += [row in known_here or id_ in known_ids for row, id_ in zip(rows.tolist(), ids, strict=True)]
        equal = batch.annotations["content_hash"].cast(pa.binary())
        clusters.append(pc.coalesce(batch.annotations[_CLUSTER].cast(pa.binary()), equal) if has_clusters else equal)
    rows, scores = (np.concatenate(values) for values in zip(*parts, strict=True))
    if len(bad := scores[(scores < 0) | (scores > 1)]):
        raise InputError(f"{of.run.folder}: scores: expected probabilities, found {bad[0]:g}; take another score")
    codes = pa.chunked_array(clusters).dictionary_encode().combine_chunks().indices.to_numpy()
    return _Scored(shards, rows, scores, codes.astype(np.int64), np.array(is_labelled, np.bool_))


def _chosen(scored: _Scored, count: int, queue: Queue) -> pa.Table:
    """`CHOSEN` of a round, in the order of shards and rows. Raises InputError where no document is left."""
    at = np.sort(nearest_to_half(scored.scores, scored.is_labelled, count, scored.clusters))
    if not len(at):
        raise InputError(f"{queue.folder}: no document with a score is left that has no label")
    columns = {
        "shard": [scored.shards[position] for position in at.tolist()],
        "row": scored.rows[at],
        "weight": np.zeros(len(at), np.int64),
        "why": [MARGIN] * len(at),
        "radius": pa.nulls(len(at), pa.float64()),
    }
    return pa.table(columns, CHOSEN)
