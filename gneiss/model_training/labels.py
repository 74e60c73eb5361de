"""Labelled documents: each distinct text once, with one of two labels, trained on or held out."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from gneiss.errors import InputError, first_line
from gneiss.input.files import find_files
from gneiss.input.formats import input_names, is_input
from gneiss.model_training.distinct import DistinctTexts, split
from gneiss.model_training.source import Skipped, is_string, read_rows
from gneiss.output.parquet import open_parquet
from gneiss.store.place import Address

#: The labels of a quality model: good text, and other text (Common Crawl), which every classifier has.
QUALITY, NEGATIVE = "hq", "cc"
#: Below this, a fifth of a label is too few documents to evaluate a model.
MIN_DOCUMENTS = 20
_LABELS_IN_A_MESSAGE = 8
#: Columns of a queue: why a document is in it, and how many documents it stands for; see `labelling.queue`.
WHY, WEIGHT = "why", "weight"
#: Why a document is queued: to stand for others, as one of those about which a model is least sure, or to tell without
#: bias how good a model is.
CORESET, MARGIN, AUDIT = "coreset", "margin", "audit"
#: What names a document in a file of labels: the shard and row of a run, or its id.
_AT, _ID = ("shard", "row"), "id"


@dataclass(frozen=True)
class Rule:
    """Which rows are positive: those whose label is one of `values`, or, if it is a number, is at least `at_least`."""

    column: str
    values: tuple[str, ...] = ()
    at_least: float | None = None

    def __str__(self) -> str:
        """As a rule of a recipe would write it."""
        if self.at_least is not None:
            return f"{self.column} >= {self.at_least:g}"
        return f"{self.column} IN ({', '.join(map(repr, self.values))})"


def rule_of(label: str, positive: str | Sequence[str] | None, score_threshold: float | None, default: str) -> Rule:
    """The rule that is asked for: labels, by default one, or scores of a column. Raises InputError for both."""
    if score_threshold is None:
        values = (positive,) if isinstance(positive, str) else tuple(positive or (default,))
        return Rule(label, values)
    if positive:
        raise InputError("positive labels and a score threshold exclude each other; give only one")
    return Rule(label, at_least=score_threshold)


@dataclass(frozen=True)
class Document:
    """A text on one line, and its label; weight: how many documents of a corpus it stands for, 0 if that is unknown."""

    line: str
    is_positive: bool
    weight: int = 0


@dataclass(frozen=True)
class Labelled:
    """Distinct documents in the order of their hashes: a shuffle without random numbers.

    found: label → its rows, for a column of strings; rows: all rows, used or not; audit: documents only to judge a
    model by, as often as they were drawn; their texts are not among `documents`.
    """

    documents: tuple[Document, ...]
    rows: int
    skipped: Skipped
    found: Mapping[str, int]
    audit: tuple[Document, ...] = ()

    def split(self, share: float) -> tuple[Labelled, Labelled]:
        """(trained, held out): the same share of each label is held out, the texts with the lowest hashes."""
        trained, held_out = split(self.documents, share, lambda document: document.is_positive)
        return replace(self, documents=trained), replace(self, documents=held_out)

    @property
    def positives(self) -> int:
        """Number of documents with the positive label."""
        return sum(document.is_positive for document in self.documents)


def sha256_of(documents: Sequence[Document], positive: str, negative: str) -> str:
    """sha256 of documents with the names of their labels, in order, in hexadecimal."""
    digest = hashlib.sha256()
    for document in documents:
        digest.update(f"{positive if document.is_positive else negative} {document.line}\n".encode())
    return digest.hexdigest()


def is_positive(label: str | float, rule: Rule) -> bool:
    """Whether a rule takes a label for positive."""
    return label in rule.values if isinstance(label, str) else label >= (rule.at_least or 0.0)


def read_labelled(source: Path, text: str, rule: Rule) -> Labelled:
    """Read labelled documents of which a model can be trained into memory; see `labelled_documents`.

    Raises InputError also for a label that never occurs, or too few documents.
    """
    labelled = labelled_documents(source, text, rule)
    _check(labelled, source, rule)
    return labelled


def labelled_documents(source: Address, text: str, rule: Rule) -> Labelled:
    """Read labelled documents into memory, few or many, of one label or both.

    A text counts once, or not at all if its rows disagree. Where rows have the column `why` of a queue, those of an
    audit are set apart, and `weight` is read of those of a coreset.
    Raises InputError for a missing or mistyped column.
    """
    texts = DistinctTexts[bool]()
    found: Counter[str] = Counter()
    times_audited: Counter[bytes] = Counter()
    weights: Counter[bytes] = Counter()
    for table in read_rows(source, text, rule.column, also=[WHY, WEIGHT]):
        given, audited = label_values(table[rule.column], rule, source), is_audited(table)
        for raw, label, is_audit, weight in zip(table[text], given, audited, _weights(table, source), strict=True):
            key = texts.add(raw, None if label is None else is_positive(label, rule))
            if key is None:
                continue
            if isinstance(label, str):
                found[label] += 1
            times_audited[key] += is_audit
            weights[key] += weight
    documents = [(Document(line, verdict, weights[key]), times_audited[key]) for key, line, verdict in texts.agreed()]
    trained = tuple(document for document, times in documents if not times)
    audit = tuple(document for document, times in documents for _ in range(times))
    return Labelled(trained, texts.rows, texts.skipped, found, audit)


def read_documents(labels: Path, *columns: str, also: Sequence[str] = ()) -> Iterator[tuple[list[Any], pa.Table]]:
    """What labels are of, and columns, a file at a time: `(shard, row)` of a run, or an id where there is neither.

    Parameters: `labels`: Parquet; `also`: columns that need not be there. Raises InputError.
    """
    root, files = find_files(labels, is_input, input_names())
    for path in (root / file.name for file in files):
        try:
            with open_parquet(path) as file:
                names = file.schema_arrow.names
                keys = [*_AT] if set(_AT) <= set(names) else [_ID]
                if lacking := [name for name in (*keys, *columns) if name not in names]:
                    wanted = ", and ".join([*columns, "shard and row, or id, of the documents of the run"])
                    raise InputError(f"{path}: no column {lacking[0]!r}; expected {wanted}; found {', '.join(names)}")
                read = dict.fromkeys([*keys, *columns, *(name for name in also if name in names)])
                table = file.read(columns=list(read), use_threads=False)
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{path}: cannot read: {first_line(error)}") from error
        found = [table[name].to_pylist() for name in keys]
        yield found[0] if len(found) == 1 else list(zip(*found, strict=True)), table


def is_audited(table: pa.Table) -> list[bool]:
    """Which rows of labels are of an audit, by the column `why` of a queue; none where there is no such column."""
    if WHY not in table.column_names:
        return [False] * table.num_rows
    return [why == AUDIT for why in table[WHY].to_pylist()]


def _weights(table: pa.Table, source: Address) -> list[int]:
    """How many documents each row of labels stands for: those of a coreset, by the columns of a queue."""
    reasons = table[WHY].to_pylist() if WHY in table.column_names else []
    if CORESET not in reasons or WEIGHT not in table.column_names:
        return [0] * table.num_rows
    try:
        weights = table[WEIGHT].cast(pa.int64()).to_pylist()
    except pa.ArrowException as error:
        raise InputError(
            f"{source}: column {WEIGHT!r}: expected whole numbers, as `label choose` writes them"
        ) from error
    return [max(weight or 0, 0) if why == CORESET else 0 for why, weight in zip(reasons, weights, strict=True)]


def label_values(column: pa.ChunkedArray, rule: Rule, source: Address) -> Iterator[str | float | None]:
    """The labels of a column, as a rule takes them: strings, or numbers; None for none. Raises InputError."""
    type_ = column.type
    is_number = pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_decimal(type_)
    if rule.at_least is not None:
        if not is_number:
            raise InputError(
                f"{source}: column {rule.column!r}: a score threshold needs numbers, found {type_}; leave it out, and"
                " name the positive labels (of a boolean column: true)"
            )
        for score in column.to_pylist():
            yield None if score is None or score != score else float(score)  # NaN is no score
    elif pa.types.is_boolean(type_):
        yield from ({True: "true", False: "false"}.get(label) for label in column.to_pylist())
    elif is_string(type_):
        yield from column.to_pylist()
    else:
        advice = "give a score threshold" if is_number else "convert the column to strings or numbers"
        raise InputError(f"{source}: column {rule.column!r}: expected strings or booleans, found {type_}; {advice}")


def require_two_labels(tables: Iterable[pa.Table], rule: Rule, source: Address) -> None:
    """Raise InputError where rows have only one of the two labels of a rule, or none that it can take."""
    found = Counter(
        label for table in tables for label in label_values(table[rule.column], rule, source) if label is not None
    )
    _require_named({label: rows for label, rows in found.items() if isinstance(label, str)}, source, rule)
    positives = sum(rows for label, rows in found.items() if is_positive(label, rule))
    if positives in {0, found.total()}:
        what = "all are" if positives else "none is"
        raise InputError(
            f"{source}: a model needs two labels; of {found.total():,} labelled rows {what} positive ({rule})"
        )


def _require_named(found: Mapping[str, int], source: Address, rule: Rule) -> None:
    missing = [value for value in rule.values if value not in found]
    if missing and rule.at_least is None:
        common = ", ".join(f"{name!r} ({rows})" for name, rows in _most_common(found))
        raise InputError(f"{source}: no row has the label {missing[0]!r}; found {common or 'none'}")


def _check(labelled: Labelled, source: Path, rule: Rule) -> None:
    _require_named(labelled.found, source, rule)
    positives = labelled.positives
    negatives = len(labelled.documents) - positives
    if not positives or not negatives:
        what = "none is" if not positives else "all are"
        raise InputError(
            f"{source}: a model needs two labels; of {len(labelled.documents)} distinct texts {what} positive ({rule})"
        )
    if min(positives, negatives) < MIN_DOCUMENTS:
        raise InputError(
            f"{source}: too few documents: {positives} positive ({rule}) and {negatives} other distinct texts,"
            f" {MIN_DOCUMENTS} of each are needed"
        )


def _most_common(found: Mapping[str, int]) -> Collection[tuple[str, int]]:
    return sorted(found.items(), key=lambda item: (-item[1], item[0]))[:_LABELS_IN_A_MESSAGE]
