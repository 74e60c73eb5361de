"""Labelled documents of a finished run, with the blocks of annotations that each has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gneiss.arrays import BoolArray, Float64Array
from gneiss.errors import InputError, ModelError
from gneiss.filters.fusion_model import Block, BlockColumn, check_blocks, encoded
from gneiss.model_training.document_features import names_in
from gneiss.model_training.labels import (
    MIN_DOCUMENTS,
    WHY,
    Rule,
    is_audited,
    is_positive,
    label_values,
    read_documents,
)
from gneiss.output.finished_run import FinishedRun


@dataclass(frozen=True, eq=False)
class LabelledRun:
    """Labelled documents in the order of the hashes of their texts, each text once.

    features: float64 (documents, features), not standardised; there: bool (documents, blocks); labels: float64
    (documents,), 0 or 1; labelled: labels that there were; unmatched: of no document of the run; contradictory: texts
    with both labels; without_blocks: documents that have none of the blocks. The last two are left out.
    """

    features: Float64Array
    there: BoolArray
    labels: Float64Array
    labelled: int
    unmatched: int
    contradictory: int
    without_blocks: int


def blocks_of(given: Any, where: str) -> tuple[Block, ...]:
    """Blocks from a mapping: name → annotations, each a name, or `{NAME: [VALUES]}` for one of strings.

    Raises InputError; `where` names the file.

    >>> blocks_of({"quality": ["dclm", {"science_label": ["science", "cc"]}]}, "blocks.yaml")[0].features
    3
    """
    if not isinstance(given, dict):
        raise InputError(f"{where}: expected names of blocks with lists of annotations, found {type(given).__name__}")
    blocks = tuple(Block(str(name), _columns(str(name), columns, where)) for name, columns in given.items())
    try:
        check_blocks(blocks)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error
    return blocks


def _columns(name: str, given: Any, where: str) -> tuple[BlockColumn, ...]:
    columns = []
    for column in given if isinstance(given, list) else [None]:
        if isinstance(column, str):
            columns.append(BlockColumn(column))
        elif isinstance(column, dict) and len(column) == 1 and isinstance(next(iter(column.values())), list):
            ((own, values),) = column.items()
            columns.append(BlockColumn(str(own), tuple(map(str, values))))
        else:
            raise InputError(
                f"{where}: {name}: expected a list of annotations, each NAME or {{NAME: [VALUES]}}, found {column!r}"
            )
    return tuple(columns)


def read_labelled_run(labels: Path, run: FinishedRun, blocks: Sequence[Block], rule: Rule) -> LabelledRun:
    """Read labels, and the annotations of the documents that they are of.

    Parameters: `labels`: Parquet with the column of the rule, and `shard` and `row`, or `id`, of each document. An
    annotation `layer.column` is of that layer. Raises InputError for columns that are not there, and too few documents.
    """
    verdicts = _verdicts(labels, rule)
    by_id = any(isinstance(document, str) for document in verdicts)
    names = list(dict.fromkeys(column.name for block in blocks for column in block.columns))
    layers = tuple(dict.fromkeys(name.split(".")[0] for name in names if "." in name))
    found: dict[bytes, tuple[bool | None, Float64Array, BoolArray]] = {}
    matched, seen = 0, set[Any]()
    for shard in run.shards:
        own = names_in(run, names, run.columns(shard, layers))
        for _, table in run.batches(shard, [*own.values(), "content_hash"], layers):
            keys = table["id"].to_pylist() if by_id else [(shard.id, row) for row in table["row"].to_pylist()]
            rows = [
                row
                for row, (key, hash_) in enumerate(zip(keys, table["content_hash"].to_pylist(), strict=True))
                if key in verdicts and key not in seen and hash_ is not None
            ]
            seen |= {keys[row] for row in rows}
            matched += len(rows)
            chosen = table.take(rows)
            arrays = [[chosen[own[column.name]].combine_chunks() for column in block.columns] for block in blocks]
            try:
                features, there = encoded(blocks, arrays, len(rows))
            except ModelError as error:
                raise InputError(f"{run.folder}: {error}") from error
            for at, hash_ in enumerate(chosen["content_hash"].to_pylist()):
                verdict = verdicts[keys[rows[at]]]
                before = found.setdefault(hash_, (verdict, features[at], there[at]))
                if before[0] is not verdict:
                    found[hash_] = (None, features[at], there[at])
    texts = [text for _, text in sorted(found.items())]
    usable = [text for text in texts if text[0] is not None and text[2].any()]
    _check(labels, usable)
    return LabelledRun(
        features=np.array([row[1] for row in usable]),
        there=np.array([row[2] for row in usable]),
        labels=np.array([float(bool(row[0])) for row in usable]),
        labelled=len(verdicts),
        unmatched=len(verdicts) - matched,
        contradictory=sum(text[0] is None for text in texts),
        without_blocks=sum(text[0] is not None and not text[2].any() for text in texts),
    )


def _verdicts(labels: Path, rule: Rule) -> dict[Any, bool]:
    """Document → whether it is positive, the first label of each; those of an audit are left out."""
    verdicts: dict[Any, bool] = {}
    for documents, table in read_documents(labels, rule.column, also=[WHY]):
        audited = is_audited(table)
        for document, label, is_audit in zip(
            documents, label_values(table[rule.column], rule, labels), audited, strict=True
        ):
            if label is not None and document is not None and not is_audit:
                verdicts.setdefault(document, is_positive(label, rule))
    return verdicts


def _check(labels: Path, usable: Sequence[tuple[bool | None, Float64Array, BoolArray]]) -> None:
    positives = sum(bool(row[0]) for row in usable)
    if min(positives, len(usable) - positives) < MIN_DOCUMENTS:
        raise InputError(
            f"{labels}: too few labelled documents with a block: {positives} positive and"
            f" {len(usable) - positives} other distinct texts of the run, {MIN_DOCUMENTS} of each are needed"
        )
