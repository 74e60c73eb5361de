"""Rules: named SQL conditions over annotations, and one `keep` expression over rule names.

The SQL is DuckDB's, in a locked connection: a rule can reach no file, network or setting. Logic is SQL's three-valued
logic: a condition over a missing value is unknown, and unknown is not true. NaN counts as missing, in a column and
wherever a rule computes it, and so does whatever cannot be computed for a document.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gneiss.annotation import ColumnType, arrow_type
from gneiss.arrays import BoolArray, Int8Array
from gneiss.errors import RecipeError, did_you_mean, first_line
from gneiss.recipe.expression import BOOLEAN, NUMBER, STRING, Expression, parsed

if TYPE_CHECKING:
    import duckdb

#: Verdicts: false, true, unknown for a missing value, unknown since it cannot be computed for the document.
NOT_TRUE, TRUE, UNKNOWN, FAILED = 0, 1, -1, -2
#: The most rules of a phase.
MOST_RULES = 500
# Rows that are evaluated together: bounds the memory for the results of all steps, or of conditions that have none.
_ROWS, _ROWS_WITHOUT_STEPS = 16_384, 262_144
#: Patterns of truth whose decision a worker remembers.
_MOST_DECISIONS = 10_000


@dataclass(frozen=True)
class Rules:
    """The rules of a phase: conditions (name → SQL), the `keep` expression over their names, aliases of columns."""

    conditions: Mapping[str, str]
    keep: str
    aliases: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Verdicts:
    """The rules' verdicts on n documents.

    truth: int8 (n, rules), 1 true, 0 false, -1 unknown, -2 unknown since it failed on the document; keep: bool (n,);
    decisive: bool (n, rules), whether flipping this rule by itself would have kept a document that is not kept.
    """

    truth: Int8Array
    keep: BoolArray
    decisive: BoolArray


def locked_connection(memory_limit_mb: int = 512) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection that reads only what it is passed: no files, no extensions, one thread."""
    import duckdb

    return duckdb.connect(
        ":memory:",
        config={
            "enable_external_access": "false",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "threads": "1",
            "memory_limit": f"{memory_limit_mb}MB",
            # Division by zero gives a missing value, not infinity or NaN, which would pass a threshold.
            "ieee_floating_point_ops": "false",
            "error_on_division_by_zero": "false",
            "lock_configuration": "true",
        },
    )


def check(rules: Rules, columns: Mapping[str, ColumnType]) -> None:
    """Refuse anything but a single boolean expression over known columns (conditions) or rule names (keep).

    Raises RecipeError naming the rule, what was expected and what was found.
    """
    if len(rules.conditions) > MOST_RULES:
        raise RecipeError(f"{len(rules.conditions):,} rules in a phase; at most {MOST_RULES} are allowed")
    if not rules.conditions:
        _refuse_unread(rules.aliases)
        if rules.keep != "true":
            raise RecipeError(f"keep: {rules.keep!r}, but there are no rules")
        return
    with locked_connection() as connection:
        known = _with_aliases(columns, rules.aliases)
        read: set[str] = set()
        for name, condition in rules.conditions.items():
            if _is_reserved(connection, name):
                raise RecipeError(f"rule {name!r}: this is an SQL keyword; choose another name")
            read |= _check_condition(connection, f"rule {name!r}", condition, known, "annotation")
        _refuse_unread(alias for alias in rules.aliases if alias not in read)
        names: dict[str, ColumnType] = dict.fromkeys(rules.conditions, "bool")
        _check_condition(connection, "keep", rules.keep, names, "rule")


def check_measure(what: str, measure: str, columns: Mapping[str, ColumnType]) -> None:
    """Refuse anything but a single expression over known columns that is a number or a flag. Raises RecipeError."""
    with locked_connection() as connection:
        expression = _evaluable(connection, what, measure, columns, "annotation of an earlier phase")
    if expression.kind not in (NUMBER, BOOLEAN):
        raise RecipeError(
            f"{what}: expected a {NUMBER} or {BOOLEAN} for each document, found a {expression.kind}: {measure!r}"
        )


def measured(measure: str, annotations: pa.Table) -> pa.Array:
    """The values of a checked measure, float64 (rows,); null where it is missing or cannot be computed."""
    table = as_read(annotations, {})
    with locked_connection() as connection:
        expression = parsed(connection, measure, _kinds(table.schema), "annotation of an earlier phase")
        parts = [
            _plain(_computed(connection, table.slice(start, _ROWS), [expression])[0][0])
            for start in range(0, table.num_rows, _ROWS)
        ]
    chunks = [chunk.cast(pa.int8()) if expression.kind == BOOLEAN else chunk for part in parts for chunk in part.chunks]
    return pa.concat_arrays([pa.array([], pa.float64()), *(chunk.cast(pa.float64(), safe=False) for chunk in chunks)])


def reads(rules: Rules, columns: Mapping[str, ColumnType]) -> dict[str, frozenset[str]]:
    """Checked rules → the columns that each reads, under their own names."""
    known = _with_aliases(columns, rules.aliases)
    kinds = _kinds(pa.schema([(name, arrow_type(type_)) for name, type_ in known.items()]))
    with locked_connection() as connection:
        found = {
            name: parsed(connection, condition, kinds, "annotation").reads
            for name, condition in rules.conditions.items()
        }
    return {name: frozenset(rules.aliases.get(column, column) for column in read) for name, read in found.items()}


def evaluate(connection: duckdb.DuckDBPyConnection, rules: Rules, annotations: pa.Table) -> Verdicts:
    """Evaluate checked rules for every row of `annotations` (rows, columns)."""
    names = list(rules.conditions)
    if not names:
        nothing = np.zeros((annotations.num_rows, 0), np.int8)
        return Verdicts(nothing, np.ones(annotations.num_rows, np.bool_), nothing.astype(np.bool_))
    table = as_read(annotations, rules.aliases)
    kinds = _kinds(table.schema)
    known = _known(tuple(rules.conditions.items()), rules.keep, tuple(kinds.items()))
    if not known.expressions:
        known.expressions.extend(parsed(connection, rules.conditions[name], kinds, "annotation") for name in names)
    truth = truths(connection, table, known.expressions)
    # The decision depends only on the pattern of truth values, and there are few patterns: decide each once.
    patterns, pattern_of = np.unique(np.maximum(truth, UNKNOWN), axis=0, return_inverse=True)
    if len(known.decisions) > _MOST_DECISIONS:
        known.decisions.clear()
    new = patterns[np.array([pattern.tobytes() not in known.decisions for pattern in patterns], np.bool_)]
    if len(new):
        for pattern, *decision in zip(new, *_decided(connection, rules.keep, names, new), strict=True):
            known.decisions[pattern.tobytes()] = decision
    decisions = [known.decisions[pattern.tobytes()] for pattern in patterns]
    kept = np.array([is_kept for is_kept, _ in decisions], np.bool_)
    decisive = np.array([alone for _, alone in decisions], np.bool_).reshape(patterns.shape)
    return Verdicts(truth, kept[pattern_of.ravel()], decisive[pattern_of.ravel()])


def as_read(annotations: pa.Table, aliases: Mapping[str, str]) -> pa.Table:
    """Annotations as rules read them: NaN is missing, and aliases are columns."""
    table = pa.table({name: _nan_to_null(annotations[name]) for name in annotations.column_names})
    for alias, column in aliases.items():
        table = table if alias == column else table.append_column(alias, table[column])
    return table


def expressions(rules: Rules, columns: Mapping[str, ColumnType]) -> dict[str, Expression]:
    """What each of the checked rules is: what it reads, by the names of columns, and its thresholds."""
    known = _with_aliases(columns, rules.aliases)
    kinds = _kinds(pa.schema([(name, arrow_type(type_)) for name, type_ in known.items()]))
    with locked_connection() as connection:
        found = {
            name: parsed(connection, condition, kinds, "annotation") for name, condition in rules.conditions.items()
        }
    named = rules.aliases
    return {
        rule: replace(expression, reads=frozenset(named.get(name, name) for name in expression.reads))
        for rule, expression in found.items()
    }


def understood(connection: duckdb.DuckDBPyConnection, condition: str, table: pa.Table) -> Expression:
    """A condition over a table of `as_read`. Raises RecipeError."""
    return parsed(connection, condition, _kinds(table.schema), "annotation")


@dataclass(frozen=True)
class _Known:
    """What a worker knows of rules from one shard to the next; decisions: pattern of truth → kept, decisive (rules)."""

    expressions: list[Expression] = field(default_factory=list)
    decisions: dict[bytes, Any] = field(default_factory=dict)


@lru_cache(maxsize=64)
def _known(conditions: tuple[tuple[str, str], ...], keep: str, kinds: tuple[tuple[str, str], ...]) -> _Known:
    return _Known()


def _decided(
    connection: duckdb.DuckDBPyConnection, keep: str, names: list[str], patterns: Int8Array
) -> tuple[BoolArray, BoolArray]:
    """What is kept of patterns of truth (patterns, rules), bool (patterns,), and which rules are decisive, the same."""
    expression = parsed(connection, keep, dict.fromkeys(names, BOOLEAN), "rule")
    kept = _keep(connection, expression, names, patterns)
    decisive = np.zeros(patterns.shape, np.bool_)
    for index in range(len(names)):
        flipped = patterns.copy()
        flipped[:, index] = np.where(patterns[:, index] == TRUE, NOT_TRUE, TRUE)
        decisive[:, index] = ~kept & _keep(connection, expression, names, flipped)
    return kept, decisive


def kept_patterns(
    connection: duckdb.DuckDBPyConnection, keep: str, names: Sequence[str], patterns: Int8Array
) -> BoolArray:
    """Which patterns of truth (patterns, rules) are kept by a `keep` expression, bool (patterns,)."""
    if not names:
        return np.ones(len(patterns), np.bool_)
    return _keep(connection, parsed(connection, keep, dict.fromkeys(names, BOOLEAN), "rule"), names, patterns)


def _keep(connection: duckdb.DuckDBPyConnection, keep: Expression, names: Sequence[str], truth: Int8Array) -> BoolArray:
    """Which rows of truth values (rows, names) are kept, bool (rows,)."""
    columns = {name: pa.array(truth[:, i] == TRUE, mask=truth[:, i] == UNKNOWN) for i, name in enumerate(names)}
    kept: BoolArray = truths(connection, pa.table(columns), [keep])[:, 0] == TRUE
    return kept


def truths(connection: duckdb.DuckDBPyConnection, table: pa.Table, conditions: Sequence[Expression]) -> Int8Array:
    """The truth of conditions for every row of a table of `as_read`, (rows, conditions)."""
    truth = np.full((table.num_rows, len(conditions)), UNKNOWN, np.int8, order="F")
    rows = _ROWS if any(condition.steps for condition in conditions) else _ROWS_WITHOUT_STEPS
    for start in range(0, table.num_rows, rows):
        columns, failures = _computed(connection, table.slice(start, rows), conditions)
        for i, (column, condition) in enumerate(zip(columns, conditions, strict=True)):
            part = truth[start : start + rows, i]
            part[:] = pc.fill_null(column.cast(pa.int8()), UNKNOWN).to_numpy()
            for step in condition.steps:
                part[(part == UNKNOWN) & failures[step]] = FAILED
    return truth


def _computed(
    connection: duckdb.DuckDBPyConnection, table: pa.Table, expressions: Sequence[Expression]
) -> tuple[list[pa.ChunkedArray], dict[str, BoolArray]]:
    """The values of expressions for every row of a table, and step → bool (rows,), where it failed.

    Each level of steps is one query over the results of those before, so that no step is computed twice.
    """
    steps = {name: step for expression in expressions for name, step in expression.steps.items()}
    failures: dict[str, BoolArray] = {}
    for level in range(1, 1 + max((step.level for step in steps.values()), default=0)):
        here = {name: step for name, step in steps.items() if step.level == level}
        tried = [f"TRY({step.sql})" for step in here.values()]
        answer = _select(connection, table, [*tried, *(step.failed or "false" for step in here.values())])
        for i, name in enumerate(here):
            column = _plain(answer.column(i))
            failures[name] = np.asarray(pc.and_(column.is_null(), answer.column(len(here) + i)))
            table = table.append_column(name, column)
    answer = _select(connection, table, [expression.sql for expression in expressions])
    return answer.columns, failures


def _select(connection: duckdb.DuckDBPyConnection, table: pa.Table, expressions: Sequence[str]) -> pa.Table:
    connection.register("given", table)
    try:
        listed = ", ".join(f"{expression} AS c{i}" for i, expression in enumerate(expressions))
        return connection.sql(f"SELECT {listed} FROM given").to_arrow_table()
    finally:
        connection.unregister("given")


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A result as a later step may compare it: no NaN, and floats for decimals, whose comparison could overflow."""
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    return _nan_to_null(column)


def _kinds(schema: pa.Schema) -> dict[str, str]:
    """The kinds of the columns that a rule can read."""
    kinds = {
        BOOLEAN: (pa.types.is_boolean,),
        NUMBER: (pa.types.is_integer, pa.types.is_floating),
        STRING: (pa.types.is_string, pa.types.is_large_string),
    }
    return {f.name: kind for f in schema for kind, tests in kinds.items() if any(is_kind(f.type) for is_kind in tests)}


def _refuse_unread(aliases: Iterable[str]) -> None:
    for alias in aliases:
        raise RecipeError(f"alias {alias!r}: no rule reads it; remove it, or use it in a rule")


def _with_aliases(columns: Mapping[str, ColumnType], aliases: Mapping[str, str]) -> dict[str, ColumnType]:
    known = dict(columns)
    for alias, column in aliases.items():
        if column not in columns:
            raise RecipeError(f"alias {alias!r}: no annotation {column!r}{did_you_mean(column, columns)}")
        for hidden in known:  # column names are case-insensitive
            if alias.lower() == hidden.lower() and alias != column:
                raise RecipeError(f"alias {alias!r}: there is already a column {hidden!r}; choose another name")
        known[alias] = columns[column]
    return known


def _is_reserved(connection: duckdb.DuckDBPyConnection, name: str) -> bool:
    found = connection.execute(
        "SELECT count(*) FROM duckdb_keywords()"
        " WHERE keyword_name = ? AND keyword_category IN ('reserved', 'type_function')",
        [name],
    )
    return bool(found.fetchall()[0][0])


def _nan_to_null(column: pa.ChunkedArray) -> pa.ChunkedArray:
    # DuckDB orders NaN above every number, so a NaN score would pass a threshold.
    if pa.types.is_floating(column.type):
        return pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    return column


def _check_condition(
    connection: duckdb.DuckDBPyConnection, what: str, text: str, columns: Mapping[str, ColumnType], noun: str
) -> frozenset[str]:
    """The columns that a condition reads; refused are those that cannot be evaluated, or are no condition."""
    expression = _evaluable(connection, what, text, columns, noun)
    if expression.kind != BOOLEAN:
        raise RecipeError(
            f"{what}: expected a condition that is true or false for each document, found a {expression.kind}: {text!r}"
        )
    return expression.reads


def _evaluable(
    connection: duckdb.DuckDBPyConnection, what: str, text: str, columns: Mapping[str, ColumnType], noun: str
) -> Expression:
    """The expression of a text over these columns. Raises RecipeError where it cannot be evaluated."""
    import duckdb

    nulls = pa.table({name: pa.nulls(1, arrow_type(type_)) for name, type_ in columns.items()})
    try:
        expression = parsed(connection, text, _kinds(nulls.schema), noun)
        # One row of nulls, so that DuckDB finds now what it would refuse later, such as a pattern.
        _computed(connection, nulls, [expression])
    except RecipeError as error:
        raise RecipeError(f"{what}: {error}") from error
    except duckdb.Error as error:
        raise RecipeError(f"{what}: {text!r} is no expression over these columns: {first_line(error)}") from error
    return expression
