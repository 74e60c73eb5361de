"""How far a run agrees with a layer: its scores with those of others, and what it kept with a boolean of theirs.

All documents count, in any number: DuckDB ranks them, on disk where they do not fit into its memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from gneiss.curate.statistics import KEPT, QUARANTINED
from gneiss.errors import InputError, did_you_mean
from gneiss.output.finished_run import FinishedRun
from gneiss.recipe.expression import quoted
from gneiss.recipe.rule import reads
from gneiss.report.documents import open_documents

if TYPE_CHECKING:
    import duckdb

#: A document is in a category whose score is above this, as for Common Crawl's GneissWeb annotations.
IN_CATEGORY = 0.5
#: The most values of a column that documents are counted by.
MOST_VALUES = 50
SCORES = pa.schema(
    [
        ("score", pa.string()),
        ("other", pa.string()),
        ("documents", pa.int64()),
        ("pearson", pa.float64()),
        ("spearman", pa.float64()),
        ("same_tenth", pa.float64()),
        ("top_tenth", pa.float64()),
    ]
)
DECISIONS = pa.schema(
    [
        ("other", pa.string()),
        ("by", pa.string()),
        ("value", pa.string()),
        *((name, pa.int64()) for name in ("documents", "both", "kept_only", "other_only", "neither")),
        *((name, pa.float64()) for name in ("agreement", "precision", "recall", "kappa")),
    ]
)


@dataclass(frozen=True)
class Comparison:
    """What `compare` finds: tables with the columns `SCORES` and `DECISIONS`."""

    scores: pa.Table
    decisions: pa.Table


def compare(
    run: FinishedRun,
    layer: str,
    *,
    scores: Sequence[tuple[str, str]] | None = None,
    by: Sequence[str] | None = None,
) -> Comparison:
    """Compare a run with a layer, over the documents that both have a value for.

    Parameters: `scores`: pairs of an annotation and a column of the layer that are numbers, by default each score that
    rules read with each number of the layer; `by`: columns by whose values decisions are counted too, by default the
    labels that rules read, and the numbers of a layer that has `in_gneissweb`. A number is in a category (above 0.5) or
    not; of other values those with most documents are shown, 50 at most.
    `same_tenth` is how many documents are in the same tenth by both scores; `top_tenth` how many of the layer's highest
    tenth are in the run's. `precision` is how many of the kept documents the layer has as true, `recall` the reverse.
    Raises InputError.

    >>> compare(gneiss.open_run("curated"), "gneissweb").decisions  # doctest: +SKIP
    """
    with open_documents(run, [layer], threads=1) as connection:  # sums of floats in one order
        columns = _Columns.of(run, layer, connection)
        pairs = columns.pairs() if scores is None else [columns.pair(*score) for score in scores]
        if scores is None and by is None and not pairs and not columns.booleans:
            raise InputError(f"layer {layer!r}: nothing to compare: no numbers, and no booleans")
        found = [_scores(connection, *pair) for pair in pairs]
        groups = columns.groups() if by is None else [columns.known(name) for name in by]
        decisions = [
            row
            for name in columns.booleans
            for group in (None, *groups)
            if group != name
            for row in _decisions(connection, name, group, columns)
        ]
    return Comparison(pa.Table.from_pylist(found, SCORES), pa.Table.from_pylist(decisions, DECISIONS))


@dataclass(frozen=True)
class _Columns:
    """The columns of a run and a layer by name → type in DuckDB; read: those of the run that rules read."""

    layer: str
    own: Mapping[str, str]
    others: Mapping[str, str]
    read: Sequence[str]

    @classmethod
    def of(cls, run: FinishedRun, layer: str, connection: duckdb.DuckDBPyConnection) -> _Columns:
        rows = connection.sql("DESCRIBE documents").fetchall()
        types = {str(row[0]): str(row[1]) for row in rows}
        holders = {name: holder for name, (holder, _) in run.columns(run.shards[0], [layer]).items()}
        known = {column.name: column.type for column in run.recipe.columns}
        read = {
            name for phase in run.recipe.phases for names in reads(phase.decision, known).values() for name in names
        }
        own = {name: type_ for name, type_ in types.items() if holders.get(name) != layer}
        others = {name: type_ for name, type_ in types.items() if holders.get(name) == layer}
        return cls(layer, own, others, [name for name in own if name in read])

    @property
    def booleans(self) -> list[str]:
        return [name for name, type_ in self.others.items() if type_ == "BOOLEAN"]

    def pairs(self) -> list[tuple[str, str]]:
        numbers = [name for name, type_ in self.others.items() if _is_number(type_)]
        return [(name, other) for name in self.read if _is_number(self.own[name]) for other in numbers]

    def pair(self, score: str, other: str) -> tuple[str, str]:
        """Raises InputError for what is not there, or no number."""
        if (renamed := f"{self.layer}.{other}") in self.others:
            other = renamed
        for name, known in ((score, self.own), (other, self.others)):
            if name not in known:
                raise InputError(f"no score {name!r}{did_you_mean(name, known)}")
            if not _is_number(known[name]):
                raise InputError(f"score {name!r}: expected numbers, found {known[name]}")
        return score, other

    def groups(self) -> list[str]:
        labels = [name for name in self.read if self.own[name] == "VARCHAR"]
        is_published = any(name.endswith("in_gneissweb") for name in self.booleans)
        categories = [name for name, type_ in self.others.items() if _is_number(type_)] if is_published else []
        return [*labels, *categories]

    def known(self, name: str) -> str:
        """Raises InputError for a column that is not there, or has lists."""
        types = {**self.own, **self.others}
        if name not in types:
            raise InputError(f"by: no column {name!r}{did_you_mean(name, types)}")
        if not (_is_number(types[name]) or types[name] in ("VARCHAR", "BOOLEAN")):
            raise InputError(f"by: column {name!r}: expected strings, numbers or booleans, found {types[name]}")
        return name

    def value(self, name: str) -> str:
        """The SQL of the value that documents are counted by."""
        column = quoted(name)
        if not _is_number({**self.own, **self.others}[name]):
            return f"{column}::VARCHAR"
        return f"CASE WHEN NOT isnan({column}::DOUBLE) THEN if({column} > {IN_CATEGORY}, 'in', 'not in') END"


def _is_number(type_: str) -> bool:
    return type_ in ("DOUBLE", "FLOAT") or type_.endswith(("INT", "INTEGER"))


def _scores(connection: duckdb.DuckDBPyConnection, score: str, other: str) -> dict[str, object]:
    """How two scores agree over the documents that have both, finite."""
    a, b = (f"{quoted(name)}::DOUBLE" for name in (score, other))
    # twice the mean rank of equal values, which is an integer
    twice = "2 * rank() OVER (ORDER BY {0}) + count(*) OVER (PARTITION BY {0}) - 1"
    n, pearson, products, squares_a, squares_b, same, top, both_top = connection.execute(
        f"WITH pairs AS (SELECT {a} AS a, {b} AS b FROM documents WHERE isfinite({a}) AND isfinite({b})),"
        f" ranked AS (SELECT a, b, {twice.format('a')} AS ra, {twice.format('b')} AS rb,"
        " count(*) OVER () AS n FROM pairs),"
        " placed AS (SELECT *, (ra - 1) * 10 // (2 * n) AS ta, (rb - 1) * 10 // (2 * n) AS tb FROM ranked)"
        " SELECT count(*), if(min(a) < max(a) AND min(b) < max(b), corr(a, b), NULL), sum(ra::HUGEINT * rb),"
        " sum(ra::HUGEINT * ra), sum(rb::HUGEINT * rb), count(*) FILTER (WHERE ta = tb),"
        " count(*) FILTER (WHERE tb = 9), count(*) FILTER (WHERE ta = 9 AND tb = 9) FROM placed"
    ).fetchall()[0]
    row = {"score": score, "other": other, "documents": n, "pearson": pearson}
    if not n:
        return row
    mean = n * (n + 1) ** 2
    spread = (int(squares_a) - mean) * (int(squares_b) - mean)
    spearman = (int(products) - mean) / math.sqrt(spread) if spread else None
    return {**row, "spearman": spearman, "same_tenth": same / n, "top_tenth": both_top / top if top else None}


def _decisions(
    connection: duckdb.DuckDBPyConnection, other: str, by: str | None, columns: _Columns
) -> Iterator[dict[str, object]]:
    """How what was kept agrees with a boolean, for all documents that have one, or by the values of a column."""
    value = "NULL" if by is None else columns.value(by)
    rows = connection.execute(
        f"WITH pairs AS (SELECT status = '{KEPT}' AS kept, {quoted(other)} AS other, {value} AS value FROM documents"
        f" WHERE status <> '{QUARANTINED}' AND {quoted(other)} IS NOT NULL)"
        " SELECT value, count(*) AS documents, count(*) FILTER (WHERE kept AND other), count(*) FILTER (WHERE kept AND"
        " NOT other), count(*) FILTER (WHERE other AND NOT kept), count(*) FILTER (WHERE NOT kept AND NOT other)"
        f" FROM pairs GROUP BY value ORDER BY documents DESC, value LIMIT {MOST_VALUES}"
    ).fetchall()
    for shown, documents, both, kept_only, other_only, neither in rows:
        yield {
            "other": other, "by": by, "value": shown, "documents": documents, "both": both, "kept_only": kept_only,
            "other_only": other_only, "neither": neither, "agreement": (both + neither) / documents,
            "precision": _share(both, both + kept_only), "recall": _share(both, both + other_only),
            "kappa": _kappa(both, kept_only, other_only, neither),
        }  # fmt: skip


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _kappa(both: int, kept_only: int, other_only: int, neither: int) -> float | None:
    """Cohen's kappa: how far agreement exceeds what chance would give; None where either never differs.

    >>> _kappa(20, 5, 10, 15)
    0.4
    """
    n = both + kept_only + other_only + neither
    by_chance = (both + kept_only) * (both + other_only) + (other_only + neither) * (kept_only + neither)
    return (n * (both + neither) - by_chance) / (n * n - by_chance) if n * n > by_chance else None
