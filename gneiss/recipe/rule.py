"""Rules: named SQL conditions over annotations, and one `keep` expression over rule names.

The SQL is DuckDB's, in a locked connection: a rule can reach no file, network or setting. Logic is SQL's three-valued
logic: a condition over a missing value is unknown, and unknown is not true. NaN counts as missing.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gneiss.annotation import ColumnType, arrow_type
from gneiss.arrays import BoolArray, Int8Array
from gneiss.errors import RecipeError, first_line

if TYPE_CHECKING:
    import duckdb

NOT_TRUE, TRUE, UNKNOWN = 0, 1, -1

# The allowed parts of a condition; anything else in the grammar (subqueries, windows, stars, lambdas) is refused.
_ALLOWED = {
    "BETWEEN",
    "CASE",
    "CAST",
    "COLUMN_REF",
    "COMPARISON",
    "CONJUNCTION",
    "CONSTANT",
    "FUNCTION",
    "OPERATOR",
    "TYPE",
}
# Macros may hide other inputs, such as the time of day; these depend on their arguments only.
_MACROS = {"fdiv", "fmod", "if", "nullif", "split_part"}
# Functions of more than their arguments, although DuckDB's catalogue calls them consistent.
_ASK_THE_CLOCK = {"age", "current_localtime", "current_localtimestamp", "version"}


@dataclass(frozen=True)
class Rules:
    """The rules of a phase: conditions (name → SQL), the `keep` expression over their names, aliases of columns."""

    conditions: Mapping[str, str]
    keep: str
    aliases: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Verdicts:
    """The rules' verdicts on n documents.

    truth: int8 (n, rules), 1 true, 0 false, -1 unknown; keep: bool (n,);
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
    if not rules.conditions:
        if rules.keep != "true":
            raise RecipeError(f"keep: {rules.keep!r}, but there are no rules")
        return
    with locked_connection() as connection:
        known = _with_aliases(columns, rules.aliases)
        for name, condition in rules.conditions.items():
            if _is_reserved(connection, name):
                raise RecipeError(f"rule {name!r}: this is an SQL keyword; choose another name")
            _check_expression(connection, f"rule {name!r}", condition, known, "annotation")
        names: dict[str, ColumnType] = dict.fromkeys(rules.conditions, "bool")
        _check_expression(connection, "keep", rules.keep, names, "rule")


def evaluate(connection: duckdb.DuckDBPyConnection, rules: Rules, annotations: pa.Table) -> Verdicts:
    """Evaluate checked rules for every row of `annotations` (rows, columns)."""
    names = list(rules.conditions)
    if not names:
        nothing = np.zeros((annotations.num_rows, 0), np.int8)
        return Verdicts(nothing, np.ones(annotations.num_rows, np.bool_), nothing.astype(np.bool_))
    table = pa.table({name: _nan_to_null(annotations[name]) for name in annotations.column_names})
    for alias, column in rules.aliases.items():
        table = table if alias == column else table.append_column(alias, table[column])
    truth = _select(connection, "annotations", table, [rules.conditions[name] for name in names])
    keep = _keep(connection, rules.keep, names, truth)
    decisive = np.zeros(truth.shape, np.bool_)
    for index in range(len(names)):
        flipped = truth.copy()
        flipped[:, index] = np.where(truth[:, index] == TRUE, NOT_TRUE, TRUE)
        decisive[:, index] = ~keep & _keep(connection, rules.keep, names, flipped)
    return Verdicts(truth, keep, decisive)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A suffix for an error message: the nearest known word, or all of them."""
    known = list(known)
    near = difflib.get_close_matches(word, known, 1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(known)) or 'none'}"


def _keep(connection: duckdb.DuckDBPyConnection, keep: str, names: list[str], truth: Int8Array) -> BoolArray:
    # The decision depends only on the pattern of truth values, and there are few patterns: decide each once.
    patterns, where = np.unique(truth, axis=0, return_inverse=True)
    columns = {name: pa.array(patterns[:, i] == TRUE, mask=patterns[:, i] == UNKNOWN) for i, name in enumerate(names)}
    kept: BoolArray = (_select(connection, "rules", pa.table(columns), [keep])[:, 0] == TRUE)[where.ravel()]
    return kept


def _select(connection: duckdb.DuckDBPyConnection, name: str, table: pa.Table, expressions: list[str]) -> Int8Array:
    import duckdb

    connection.register(name, table)
    try:
        listed = ", ".join(f"(\n{expression}\n) AS c{i}" for i, expression in enumerate(expressions))
        answer = connection.sql(f"SELECT {listed} FROM {name}").to_arrow_table()
    except duckdb.Error as error:
        raise RecipeError(f"a rule failed on the annotations of a document: {first_line(error)}") from error
    finally:
        connection.unregister(name)
    truth = np.empty((answer.num_rows, len(expressions)), np.int8)
    for i in range(len(expressions)):
        truth[:, i] = pc.fill_null(answer.column(i).cast(pa.int8()), UNKNOWN).to_numpy()
    return truth


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


def _check_expression(
    connection: duckdb.DuckDBPyConnection, what: str, expression: str, columns: Mapping[str, ColumnType], noun: str
) -> None:
    import duckdb

    if not expression.strip():
        raise RecipeError(f"{what}: expected a boolean SQL expression, found nothing")
    query = f"SELECT (\n{expression}\n) FROM given"
    tree = json.loads(connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [query]).fetchall()[0][0])
    if tree["error"]:
        reason = first_line(tree["error_message"])
        raise RecipeError(f"{what}: expected a boolean SQL expression, found {expression!r}: {reason}")
    nodes = [statement["node"] for statement in tree["statements"]]
    selected = nodes[0].get("select_list", [])
    if len(nodes) != 1 or len(selected) != 1 or nodes[0]["from_table"].get("table_name") != "given":
        raise RecipeError(f"{what}: expected a single boolean SQL expression, found {expression!r}")
    for node in _nodes(selected):
        _check_node(connection, what, node, columns, noun)
    # One row of nulls, so that a constant of the wrong type is found now.
    nulls = pa.table({name: pa.nulls(1, arrow_type(type_)) for name, type_ in columns.items()})
    connection.register("given", nulls)
    try:
        answer = connection.sql(query).to_arrow_table()
    except duckdb.Error as error:
        raise RecipeError(
            f"{what}: {expression!r} is not a condition over these columns: {first_line(error)}"
        ) from error
    finally:
        connection.unregister("given")
    found = answer.schema.field(0).type
    if not pa.types.is_boolean(found):
        raise RecipeError(
            f"{what}: expected a condition that is true or false for each document, found {found}: {expression!r}"
        )


def _nodes(tree: Any) -> Iterable[dict[str, Any]]:
    if isinstance(tree, dict):
        if "class" in tree:
            yield tree
        for value in tree.values():
            yield from _nodes(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _nodes(value)


def _check_node(
    connection: duckdb.DuckDBPyConnection, what: str, node: dict[str, Any], columns: Mapping[str, ColumnType], noun: str
) -> None:
    if node["class"] not in _ALLOWED:
        raise RecipeError(
            f"{what}: {node['class'].lower()} is not allowed; a rule compares the columns of one document"
        )
    if node["class"] == "COLUMN_REF":
        name = ".".join(node["column_names"])
        if name.lower() not in {column.lower() for column in columns}:
            raise RecipeError(f"{what}: no {noun} {name!r}{did_you_mean(name, columns)}")
    if node["class"] == "FUNCTION":
        name = node["function_name"]
        stable = connection.execute(
            "SELECT bool_and(stability = 'CONSISTENT') FROM duckdb_functions()"
            " WHERE function_name = ? AND function_type = 'scalar'",
            [name],
        ).fetchall()[0][0]
        if name in _ASK_THE_CLOCK or not (stable or name in _MACROS):
            raise RecipeError(f"{what}: {name}() is unknown, or not a function of its arguments only")
