"""Expressions: values against plain Python, what is refused, and that no expression is unbounded in time or memory."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, TypeAlias

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.annotation import ColumnType
from gneiss.errors import RecipeError
from gneiss.recipe.expression import _CALLS, FUNCTIONS, MOST_DEPTH, MOST_PARTS
from gneiss.recipe.rule import FAILED, MOST_RULES, NOT_TRUE, TRUE, UNKNOWN, Rules, check, evaluate
from gneiss.recipe.rule import locked_connection as connect

COLUMNS: dict[str, ColumnType] = {"x": "float64", "n": "int64", "s": "string", "b": "bool"}
Row: TypeAlias = dict[str, Any]
Value: TypeAlias = Callable[[Row], float | int | None]


@pytest.fixture(scope="module")
def connection() -> Any:
    return connect()


def truth_of(connection: Any, condition: str, rows: list[Row]) -> list[int]:
    rules = Rules({"r": condition}, "r", {})
    check(rules, COLUMNS)
    types = {"x": pa.float64(), "n": pa.int64(), "s": pa.string(), "b": pa.bool_()}
    table = pa.table({name: pa.array([row.get(name) for row in rows], type_) for name, type_ in types.items()})
    return [int(verdict) for verdict in evaluate(connection, rules, table).truth[:, 0]]


def refused(condition: str) -> str:
    with pytest.raises(RecipeError, match=r"^rule 'r': ") as caught:
        check(Rules({"r": condition}, "r", {}), COLUMNS)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Values, against plain Python: what it cannot compute, and NaN, is missing.


def total(compute: Callable[..., float | int]) -> Callable[..., float | int | None]:
    def computed(*values: float | int | None) -> float | int | None:
        if any(value is None for value in values):
            return None
        try:
            found = compute(*values)
        except (ArithmeticError, ValueError):
            return None
        if isinstance(found, complex) or (isinstance(found, float) and math.isnan(found)):
            return None
        return None if isinstance(found, int) and not -(2**63) <= found < 2**63 else found

    return computed


def power(base: float, exponent: float) -> float:
    try:
        return math.pow(base, exponent)
    except OverflowError:
        return math.inf if base > 0 or exponent % 2 == 0 else -math.inf


def leaf(sql: str, value: Value) -> tuple[str, Value]:
    return sql, value


def made(sql: str, compute: Callable[..., Any], *parts: tuple[str, Value]) -> tuple[str, Value]:
    return sql.format(*(text for text, _ in parts)), lambda row: total(compute)(*(value(row) for _, value in parts))


def combined(parts: st.SearchStrategy[tuple[str, Value]]) -> st.SearchStrategy[tuple[str, Value]]:
    def binary(drawn: Any) -> tuple[str, Value]:
        (sql, compute), left, right = drawn
        return made(sql, compute, left, right)

    def unary(drawn: Any) -> tuple[str, Value]:
        (sql, compute), part = drawn
        return made(sql, compute, part)

    def default(drawn: Any) -> tuple[str, Value]:
        (left, first), (right, second) = drawn
        return f"coalesce({left}, {right})", lambda row: second(row) if first(row) is None else first(row)

    binaries = [
        ("({0} + {1})", lambda a, b: a + b),
        ("({0} - {1})", lambda a, b: a - b),
        ("({0} * {1})", lambda a, b: a * b),
        ("({0} / {1})", lambda a, b: a / b),
        ("pow({0}, {1})", power),
    ]
    unaries = [
        ("ln({0})", math.log),
        ("sqrt({0})", math.sqrt),
        ("abs({0})", abs),
        ("(- {0})", lambda a: -a),
    ]
    return (
        st.tuples(st.sampled_from(binaries), parts, parts).map(binary)
        | st.tuples(st.sampled_from(unaries), parts).map(unary)
        | st.tuples(parts, parts).map(default)
    )


NUMBERS = [
    leaf("x", lambda row: row["x"]),
    leaf("CAST(n AS DOUBLE)", lambda row: None if row["n"] is None else float(row["n"])),
    leaf("CAST(0.5 AS DOUBLE)", lambda row: 0.5),
    leaf("CAST(s AS DOUBLE)", lambda row: {"nan": None, "inf": math.inf, "2": 2.0}.get(row["s"])),
]


@given(
    st.recursive(st.sampled_from(NUMBERS), combined, max_leaves=6),
    st.lists(
        st.fixed_dictionaries(
            {
                "x": st.none() | st.sampled_from([0.0, -1.0, 0.25, 1e308, math.inf, -math.inf, math.nan]),
                "n": st.none() | st.sampled_from([0, -3, 7, 2**62]),
                "s": st.none() | st.sampled_from(["nan", "inf", "2", "two"]),
            }
        ),
        min_size=1,
        max_size=12,
    ),
)
@pytest.mark.slow
def test_a_value_that_cannot_be_computed_is_missing_wherever_it_arises(
    connection: Any, expression: tuple[str, Value], rows: list[Row]
) -> None:
    sql, value = expression
    rows = [{**row, "x": None if row["x"] is not None and math.isnan(row["x"]) else row["x"]} for row in rows]
    found = truth_of(connection, f"({sql}) > 1000000", rows)
    expected = [None if (v := value(row)) is None else v > 1_000_000 for row in rows]
    assert [None if verdict < 0 else bool(verdict) for verdict in found] == expected


@pytest.mark.parametrize(
    ("condition", "row", "expected"),
    [
        ("pow(x, 0.5) > 1", {"x": -8.0}, FAILED),  # NaN
        ("x - x >= 0", {"x": math.inf}, FAILED),
        ("x * 0 < 1", {"x": -math.inf}, FAILED),
        ("CAST(s AS DOUBLE) > 0", {"s": "nan"}, FAILED),
        ("CAST(s AS DOUBLE) > 0", {"s": "many"}, FAILED),
        ("TRY_CAST(s AS DOUBLE) > 0", {"s": "many"}, UNKNOWN),  # asked for
        ("n * 4 > 0", {"n": 2**62}, FAILED),
        ("n / 0 > 0", {"n": 1}, FAILED),
        ("CAST(x AS INTEGER) > 0", {"x": 1e300}, FAILED),
        ("sqrt(x) > 0", {"x": -1.0}, FAILED),
        ("sqrt(x) > 0", {"x": None}, UNKNOWN),
        ("sqrt(x) > 0", {"x": math.nan}, UNKNOWN),
        ("pow(x, 0.5) IS NULL", {"x": -8.0}, TRUE),
        ("greatest(pow(x, 0.5), 3) = 3", {"x": -8.0}, TRUE),
        ("CASE WHEN x > 0 THEN ln(x) ELSE 0 END = 0", {"x": 0.0}, TRUE),  # guarded
        ("x = 0 OR 1 / x > 2", {"x": 0.0}, TRUE),
        ("n >= 0 AND sqrt(n) < 2", {"n": -4}, NOT_TRUE),
        ("nullif(n, 4) > 1", {"n": 4}, UNKNOWN),
        ("n * 0.1 >= 0.3", {"n": 3}, TRUE),  # decimals as written
        ("n > 9007199254740992.5", {"n": 2**53 + 1}, TRUE),
        ("n >= 99999999999999999999", {"n": 2**62}, NOT_TRUE),
        ("n > 0.0000000000000000000000001", {"n": 2**62}, TRUE),
    ],
)
@pytest.mark.slow
def test_unknown_is_told_apart_from_failed(connection: Any, condition: str, row: Row, expected: int) -> None:
    assert truth_of(connection, condition, [row]) == [expected]


def test_a_failure_costs_its_own_document_only_and_is_found_in_every_slice(connection: Any) -> None:
    rows = [{"x": 0.0 if i % 10_000 == 7 else 1.0} for i in range(40_000)]
    found = truth_of(connection, "ln(x) >= 0", rows)
    assert [i for i, verdict in enumerate(found) if verdict != TRUE] == [7, 10_007, 20_007, 30_007]
    assert found[7] == FAILED


def likes(text: str, pattern: str, escape: str | None) -> bool:
    if not pattern:
        return not text
    if escape and pattern[0] == escape:
        return text[:1] == pattern[1] and likes(text[1:], pattern[2:], escape)
    if pattern[0] == "%":
        return likes(text, pattern[1:], escape) or bool(text and likes(text[1:], pattern, escape))
    return bool(text) and pattern[0] in ("_", text[0]) and likes(text[1:], pattern[1:], escape)


@given(
    st.lists(st.text("aé.\n*\\(", max_size=6), min_size=1, max_size=12),
    st.text("aé.*\\(%_\n!", max_size=6),
    st.booleans(),
)
@pytest.mark.slow
def test_like_matches_as_its_definition(connection: Any, texts: list[str], pattern: str, escaped: bool) -> None:
    pattern = re.sub(r"!+$", "", pattern)
    sql = f"s LIKE '{pattern}'" + (" ESCAPE '!'" if escaped else "")
    expected = [likes(text, pattern, "!" if escaped else None) for text in texts]
    rows: list[Row] = [{"s": text} for text in [*texts, None]]
    assert truth_of(connection, sql, rows) == [*(TRUE if holds else NOT_TRUE for holds in expected), UNKNOWN]
    assert truth_of(connection, f"NOT ({sql})", rows) == [*(NOT_TRUE if holds else TRUE for holds in expected), UNKNOWN]


def test_like_negated_and_without_case(connection: Any) -> None:
    for condition in ("s NOT LIKE 'b%'", "s ILIKE 'AÉ_'", "s NOT ILIKE 'B%'", "s NOT LIKE '!%' ESCAPE '!'"):
        assert truth_of(connection, condition, [{"s": "aéx"}]) == [TRUE]


# What is refused.


@pytest.mark.parametrize(
    ("call", "name"),
    [
        ("lpad(s, 1000000000, 'x') = ''", "lpad"),
        ("rpad(s, n, 'x') = ''", "rpad"),
        ("repeat(s, n) = ''", "repeat"),
        ("len(list_resize([1], 1000000000)) > 0", "list_resize"),
        ("printf('%1000000000d', n) = ''", "printf"),
        ("format('{:>1000000000}', n) = ''", "format"),
        ("levenshtein(s, s) > 1", "levenshtein"),
        ("damerau_levenshtein(s, s) > 1", "damerau_levenshtein"),
        ("jaro_winkler_similarity(s, s) > 1", "jaro_winkler_similarity"),
        ("len(range(100000000)) > 0", "range"),
        ("len(generate_series(n)) > 0", "generate_series"),
        ("replace(s, 'a', 'aaaaaaaaaa') = ''", "replace"),
        ("regexp_replace(s, '', 'aaaaaaa', 'g') = ''", "regexp_replace"),
        ("translate(s, 'a', 'bb') = ''", "translate"),
        ("bar(x, 0, 1, 100000000) = ''", "bar"),
        ("concat(s, s) = ''", "concat"),
        ("s || s = ''", "the operator ||"),
        ("array_to_string(string_split(s, ''), s) = ''", "array_to_string"),
        ("to_base(n, 2, 100000000) = ''", "to_base"),
        ("n! > 1", "factorial"),
        ("gamma(x) > 1", "gamma"),
        ("(1 << n) > 1", "the operator <<"),
        ("hash(s) > 1", "hash"),
        ("to_timestamp(n)::VARCHAR = ''", "to_timestamp"),
        ("random() > 1", "random"),
    ],
)
def test_a_function_that_is_not_on_the_list_is_refused_by_its_name(call: str, name: str) -> None:
    assert f"{name}() is unknown, or not allowed" in refused(call).replace("operator ||", "operator ||()").replace(
        "operator <<", "operator <<()"
    )


def test_a_refusal_names_what_is_meant() -> None:
    assert "did you mean 'length'?" in refused("lenght(s) > 1")
    assert "did you mean 'regexp_matches'?" in refused("regex_match(s, 'a')")
    assert "write x IS NULL" in refused("isnan(x)")
    assert "known: abs, cbrt" in refused("zzz(s) = 1")


@pytest.mark.parametrize(
    "condition",
    [
        "s = 3",
        "3 < s",
        "s IN (1, 2)",
        "s IN ('a', 2)",
        "n = '3'",
        "x BETWEEN '0' AND '1'",
        "b = 1",
        "b > s",
        "NOT n",
        "n AND b",
        "CASE WHEN n THEN true END",
        "CASE WHEN b THEN 1 ELSE 'one' END = 1",
        "coalesce(s, 0) = 0",
        "greatest(n, s) = 1",
        "if(b, s, n) = 1",
        "if(n, true, false)",
        "abs(s) > 1",
        "length(n) > 1",
        "upper(b) = 'TRUE'",
        "s + 1 > 2",
        "s LIKE n",
        "ln(b) > 1",
    ],
)
def test_kinds_are_checked_when_the_recipe_is_read(condition: str) -> None:
    message = refused(condition)
    assert any(kind in message for kind in ("a string", "a number", "a boolean"))


@pytest.mark.parametrize(
    "condition",
    [
        "abs(DISTINCT x) > 1",
        "abs(x ORDER BY n) > 1",
        "abs(x) FILTER (WHERE b) > 1",
        "abs(x := 1) > 1",
        "main.abs(x) > 1",
        "s COLLATE NOCASE = 'a'",
        "TRY(x > 1)",
        "CAST(s AS DATE) = DATE '2020-01-01'",
        "CAST(s AS BLOB) IS NULL",
        "CAST(x AS VARCHAR(3)) = 'a'",
        "s GLOB '*'",
        "regexp_matches(s, s)",
        "contains(s, s)",
        "s LIKE s",
        "regexp_matches(s, '(')",
        "regexp_matches(s, 'a', 'no option')",
        "s LIKE '!' ESCAPE '!'",
        "s = '\ud800'",
        "trim(s, s) = ''",
        "X'00' = s",
        "INTERVAL 1 DAY IS NULL",
    ],
)
def test_what_would_be_passed_over_or_is_unbounded_is_refused(condition: str) -> None:
    refused(condition)


# Size.


@pytest.mark.parametrize(
    ("condition", "told"),
    [
        ("+".join(["x"] * 900) + " > 1", f"more than {MOST_DEPTH} parts inside each other"),
        ("abs(" * 400 + "x" + ")" * 400 + " > 1", f"more than {MOST_DEPTH} parts inside each other"),
        ("NOT " * 4_000 + "b", f"more than {MOST_DEPTH} parts inside each other"),
        ("CASE WHEN b THEN " * 300 + "b" + " END" * 300, f"more than {MOST_DEPTH} parts inside each other"),
        (" OR ".join(["x > 1"] * 900), f"more than {MOST_PARTS:,} names"),
        (f"n IN ({', '.join(map(str, range(3000)))})", f"more than {MOST_PARTS:,} names"),
        (f"s = '{'a' * 30_000}'", "30,006 characters long"),
        ("(" * 1_500 + "b" + ")" * 1_500, f"more than {MOST_DEPTH} parts inside each other"),
    ],
    ids=lambda value: value[:20],
)
def test_an_expression_is_limited_in_size_and_depth(condition: str, told: str) -> None:
    message = refused(condition)
    assert told in message


@pytest.mark.slow
def test_long_conditions_within_the_limits_are_evaluated(connection: Any) -> None:
    anything = " OR ".join(f"n = {i}" for i in range(600))
    assert truth_of(connection, anything, [{"n": 599}, {"n": 600}]) == [TRUE, NOT_TRUE]
    assert truth_of(connection, "+".join(["n"] * 90) + " = 90", [{"n": 1}, {"n": 2}]) == [TRUE, NOT_TRUE]
    nested = "ln(coalesce(" * 40 + "x" + ", 0))" * 40 + " > 1"  # fails anew at every level
    assert truth_of(connection, nested, [{"x": 0.0}] * 3000) == [FAILED] * 3000


def test_a_phase_is_limited_in_rules() -> None:
    conditions = {f"r{i}": "b" for i in range(MOST_RULES + 1)}
    with pytest.raises(RecipeError, match=f"501 rules in a phase; at most {MOST_RULES}"):
        check(Rules(conditions, "r0", {}), COLUMNS)


def test_a_pattern_takes_linear_time(connection: Any) -> None:
    """DuckDB's LIKE would try 20,000²⁰ places."""
    pattern = "%a_" * 20 + "%b"
    assert truth_of(connection, f"s LIKE '{pattern}'", [{"s": "a" * 20_000}]) == [NOT_TRUE]
    assert truth_of(connection, "regexp_matches(s, '^(a*)*(a*)*(a*)*$')", [{"s": "a" * 20_000 + "b"}]) == [NOT_TRUE]


def called(name: str, pattern: str, with_optional: bool) -> str:
    """A call of a function of the list, on columns."""
    arguments = {"n": "2", "s": "s", "l": "'s'"}
    letters = [c for c, optional in re.findall(r"([nsl])(\??)", pattern) if with_optional or not optional]
    values = [arguments[letter] for letter in letters]
    if name.startswith("regexp"):
        values[2:] = ["'i'"] * len(values[2:])
    if name == "position":
        return "position('s' IN s)"
    if name.isidentifier():
        return f"{name}({', '.join(values)})"
    return f"({values[0]} {name} {values[1]})" if len(values) == 2 else f"({name} {values[0]})"


@pytest.mark.parametrize("name", _CALLS)
@pytest.mark.parametrize("with_optional", [False, True])
@pytest.mark.slow
def test_every_function_of_the_list_can_be_called_and_its_result_is_no_longer_than_its_arguments(
    connection: Any, name: str, with_optional: bool
) -> None:
    import duckdb

    pattern, kind = _CALLS[name]
    call = called(name, pattern, with_optional)
    row = {"x": 2.0, "s": "ßİsfall ŉ" * 20}
    assert truth_of(connection, f"{call} IS NULL", [row])[0] in (TRUE, NOT_TRUE)
    if kind == "string":
        query = f"SELECT strlen({call}) FROM (SELECT 2 AS x, ?::VARCHAR AS s)"
        (longest,) = duckdb.connect().execute(query, [row["s"]]).fetchall()[0]
        assert longest <= 1.5 * len(str(row["s"]).encode())


def test_the_list_of_functions_is_what_a_message_shows() -> None:
    assert {"coalesce", "if", "ln", "regexp_matches"} <= set(FUNCTIONS)
    assert all(name.isidentifier() for name in FUNCTIONS)
