"""What scores say of each other, and of nothing: rank correlation, shards that differ, scores that never change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gneiss.arrays import Float64Array
from gneiss.curate.statistics import KEPT, QUARANTINED, ColumnStatistics
from gneiss.output.finished_run import FinishedRun
from gneiss.recipe.expression import quoted
from gneiss.report.counting import Outcomes
from gneiss.report.documents import open_documents
from gneiss.report.tables import marginal

#: From how many documents ranks are taken; of more a sample is, the same one each time.
SAMPLE = 200_000
#: A score is near-constant where so large a share of the documents have one value, within about 1 %.
_CONSTANT = 0.999


def numeric_annotations(run: FinishedRun) -> list[str]:
    """The annotations of the recipe that are numbers, and of which any document has one."""
    return [name for name, column in run.statistics.columns.items() if column.bins]


def correlations(run: FinishedRun, annotations: Sequence[str] | None = None) -> pa.Table:
    """Spearman's rank correlation of each two scores: `one`, `other`, `correlation`, and from how many `documents`.

    Parameters: `annotations`: by default all numeric ones. Null where a score does not change. Where a run has more
    than 200,000 documents, they are a sample: `documents` says how many have both scores. Raises InputError.
    """
    names = numeric_annotations(run) if annotations is None else list(annotations)
    share = min(1.0, SAMPLE / max(run.counts["rows"], 1))
    with open_documents(run) as connection:
        rows = connection.sql(
            f"SELECT {', '.join(['NULL', *(f'{quoted(name)}::DOUBLE AS {quoted(name)}' for name in names)])}"
            f" FROM documents WHERE status <> '{QUARANTINED}'"
            f" AND (row * 2654435761) % 4294967296 < {int(share * 4294967296)}"
        ).to_arrow_table()
    values = {name: _numbers(rows[name]) for name in names}
    ranks = {name: _ranks(numbers) for name, numbers in values.items() if not np.isnan(numbers).any()}
    found = [
        {"one": one, "other": other, **_spearman(one, other, values, ranks)}
        for at, one in enumerate(names)
        for other in names[at + 1 :]
    ]
    schema = {"one": pa.string(), "other": pa.string(), "correlation": pa.float64(), "documents": pa.int64()}
    return pa.Table.from_pylist(found, pa.schema(schema))


def drift(run: FinishedRun, annotations: Sequence[str] | None = None) -> pa.Table:
    """How shards differ: `shard`, `documents`, `kept`, and for each score how far its mean is from that of all shards.

    Distances are in standard deviations of all documents; null where a score does not change. Raises InputError.
    """
    names = numeric_annotations(run) if annotations is None else list(annotations)
    listed = [quoted(name) for name in names]
    finite = "".join(f", if(isfinite({column}::DOUBLE), {column}::DOUBLE, NULL) AS {column}" for column in listed)
    moments = "".join(f", count({column}), avg({column}), var_pop({column})" for column in listed)
    with open_documents(run) as connection:
        rows = connection.sql(
            f"SELECT shard, count(*), count(*) FILTER (WHERE status = '{KEPT}'){moments}"
            f" FROM (SELECT shard, status{finite} FROM documents) GROUP BY shard"
        ).fetchall()
    order = {shard.id: number for number, shard in enumerate(run.shards)}
    rows.sort(key=lambda row: order[row[0]])
    columns: dict[str, object] = {
        "shard": pa.array([row[0] for row in rows], pa.string()),
        "documents": pa.array([row[1] for row in rows], pa.int64()),
        "kept": pa.array([row[2] for row in rows], pa.int64()),
    }
    for at, name in enumerate(names):
        count, mean, variance = (np.array([row[3 + 3 * at + i] for row in rows], np.float64) for i in range(3))
        columns[name] = pa.array(_distances(count, mean, variance), from_pandas=True)
    return pa.table(columns)


def warnings(outcomes: Outcomes) -> pa.Table:
    """Parts of a recipe that seem to have no effect: `what` (an annotation or a rule) and `why`."""
    found = []
    for name, column in outcomes.statistics.columns.items():
        if why := _emptiness(column):
            found.append({"what": name, "why": why})
    effects = {row["name"]: row for row in marginal(outcomes).to_pylist() if row["kind"] == "rule"}
    for phase in outcomes.recipe.phases:
        for rule, rule_count in outcomes.statistics.rule_counts(phase.name, phase.rules).items():
            documents = rule_count["true"] + rule_count["false"] + rule_count["unknown"]
            if not documents:
                continue
            if rule_count["true"] == documents:
                found.append({"what": rule, "why": f"true for all {documents:,} documents: it has no effect"})
            elif rule_count["unknown"] == documents:
                found.append(
                    {"what": rule, "why": f"unknown for all {documents:,} documents: a value that it reads is missing"}
                )
            elif not rule_count["true"]:
                found.append({"what": rule, "why": f"true for none of {documents:,} documents"})
            elif effects[rule]["documents"] == 0 and rule_count["decisive"] == 0:
                found.append(
                    {"what": rule, "why": "without it, the same documents are kept: other rules drop them too"}
                )
    return pa.Table.from_pylist(found, pa.schema([("what", pa.string()), ("why", pa.string())]))


def _emptiness(column: ColumnStatistics) -> str | None:
    """Why an annotation says nothing, if it does not."""
    counts = column.bins or column.values
    documents, missing = column.documents, column.missing + column.nan
    if not documents:
        return "missing for all documents" if missing else None
    most = max(counts.values())
    if documents > 1 and most >= _CONSTANT * documents and column.bins:
        return f"near-constant: {most:,} of {documents:,} documents have the same value, within about 1 %"
    if documents > 1 and most == documents:
        return f"all {documents:,} documents have the same value"
    return None


def _numbers(column: pa.ChunkedArray) -> Float64Array:
    """A column as floats, NaN where it is missing."""
    numbers: Float64Array = pc.fill_null(column, np.nan).to_numpy()
    return numbers


def _spearman(
    one: str, other: str, values: Mapping[str, Float64Array], ranks: Mapping[str, Float64Array]
) -> dict[str, float | int | None]:
    """Of two scores; ranks: of those that no document lacks, which are the same whatever the other score."""
    if one in ranks and other in ranks:
        first, second = ranks[one], ranks[other]
    else:
        both = ~(np.isnan(values[one]) | np.isnan(values[other]))
        first, second = _ranks(values[one][both]), _ranks(values[other][both])
    documents = len(first)
    if documents < 2 or first.std() == 0 or second.std() == 0:
        return {"correlation": None, "documents": documents}
    return {"correlation": float(np.corrcoef(first, second)[0, 1]), "documents": documents}


def _ranks(values: Float64Array) -> Float64Array:
    """The rank of each value, equal ones the mean of theirs."""
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    means: Float64Array = (ends - (counts - 1) / 2)[where]
    return means


def _distances(count: Float64Array, mean: Float64Array, variance: Float64Array) -> Float64Array:
    """Of the mean of each shard from that of all, in standard deviations of all; NaN where nothing is known."""
    there = count > 0
    if not there.any():
        return np.full(len(count), np.nan)
    total = count[there].sum()
    middle = float((count[there] * mean[there]).sum() / total)
    spread = float((count[there] * (variance[there] + (mean[there] - middle) ** 2)).sum() / total) ** 0.5
    return (mean - middle) / spread if spread > 0 else np.full(len(count), np.nan)
