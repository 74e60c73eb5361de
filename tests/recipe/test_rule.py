"""Rules: against a plain-Python three-valued logic, the published criteria verbatim, and everything that is refused."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gneiss.annotation import ColumnType, arrow_type
from gneiss.errors import RecipeError, did_you_mean
from gneiss.recipe.recipe import Recipe
from gneiss.recipe.rule import FAILED, NOT_TRUE, TRUE, UNKNOWN, Rules, Verdicts, check, evaluate
from gneiss.recipe.rule import locked_connection as connect

COLUMNS: dict[str, ColumnType] = {
    "dclm": "float64",
    "cosmo": "float64",
    "words": "int64",
    "label": "string",
    "flag": "bool",
}
Row: TypeAlias = Mapping[str, Any]
Condition: TypeAlias = tuple[str, Callable[[Row], bool | None]]


@pytest.fixture(scope="module")
def connection() -> Any:
    return connect()


def table_of(rows: Sequence[Row], columns: Mapping[str, ColumnType] = COLUMNS) -> pa.Table:
    return pa.table({name: pa.array([row[name] for row in rows], arrow_type(type_)) for name, type_ in columns.items()})


def checked(rules: Rules, connection: Any, table: pa.Table) -> Verdicts:
    check(rules, COLUMNS)
    return evaluate(connection, rules, table)


# A plain-Python three-valued logic: None is unknown.


def value_of(row: Row, name: str) -> Any:
    value = row[name]
    return None if isinstance(value, float) and math.isnan(value) else value


def both(a: bool | None, b: bool | None) -> bool | None:
    if a is False or b is False:
        return False
    return None if a is None or b is None else True


def negated(a: bool | None) -> bool | None:
    return None if a is None else not a


def either(a: bool | None, b: bool | None) -> bool | None:
    return negated(both(negated(a), negated(b)))


def compared(name: str, test: Callable[[Any], bool]) -> Callable[[Row], bool | None]:
    def decide(row: Row) -> bool | None:
        value = value_of(row, name)
        return None if value is None else test(value)

    return decide


NUMBERS = [0.0, 0.002, math.nextafter(0.002, 1), 0.03, 0.5, -1.0, math.inf, -math.inf]


@st.composite
def atoms(draw: st.DrawFn) -> Condition:
    name = draw(st.sampled_from(["dclm", "cosmo", "words"]))
    bound, other = draw(st.sampled_from(["0.002", "0.03", "0", "3"])), draw(st.sampled_from(["0.5", "7"]))
    low, high = float(bound), float(other)
    return draw(
        st.sampled_from(
            [
                (f"{name} > {bound}", compared(name, lambda v: v > low)),
                (f"{name} >= {bound}", compared(name, lambda v: v >= low)),
                (f"{name} < {bound}", compared(name, lambda v: v < low)),
                (f"{name} = {bound}", compared(name, lambda v: v == low)),
                (f"{name} <> {bound}", compared(name, lambda v: v != low)),
                (f"{name} BETWEEN {bound} AND {other}", compared(name, lambda v: low <= v <= high)),
                (f"{name} IS NULL", lambda row: value_of(row, name) is None),
                (f"{name} IN ({bound}, {other})", compared(name, lambda v: v in (low, high))),
                ("label = 'science'", compared("label", lambda v: v == "science")),
                ("label IN ('cc', '')", compared("label", lambda v: v in ("cc", ""))),
                ("flag", compared("flag", bool)),
            ]
        )
    )


def combined(parts: st.SearchStrategy[Condition]) -> st.SearchStrategy[Condition]:
    def conjunction(pair: tuple[Condition, Condition]) -> Condition:
        (sql, left), (other_sql, right) = pair
        return f"({sql} AND {other_sql})", lambda row: both(left(row), right(row))

    def disjunction(pair: tuple[Condition, Condition]) -> Condition:
        (sql, left), (other_sql, right) = pair
        return f"({sql} OR {other_sql})", lambda row: either(left(row), right(row))

    def negation(part: Condition) -> Condition:
        sql, inner = part
        return f"(NOT {sql})", lambda row: negated(inner(row))

    def case(three: tuple[Condition, Condition, Condition]) -> Condition:
        (when, test), (then, yes), (otherwise, no) = three
        sql = f"(CASE WHEN {when} THEN {then} ELSE {otherwise} END)"
        return sql, lambda row: yes(row) if test(row) is True else no(row)

    return (
        st.tuples(parts, parts).map(conjunction)
        | st.tuples(parts, parts).map(disjunction)
        | parts.map(negation)
        | st.tuples(parts, parts, parts).map(case)
    )


conditions = st.recursive(atoms(), combined, max_leaves=6)
rows = st.fixed_dictionaries(
    {
        "dclm": st.none() | st.sampled_from([*NUMBERS, math.nan]),
        "cosmo": st.none() | st.sampled_from([*NUMBERS, math.nan]),
        "words": st.none() | st.sampled_from([-1, 0, 3, 7, 2**62]),
        "label": st.none() | st.sampled_from(["science", "cc", "", "SCIENCE", "'"]),
        "flag": st.none() | st.booleans(),
    }
)


@given(st.lists(conditions, min_size=1, max_size=3), st.lists(rows, max_size=6))
@pytest.mark.slow
def test_rules_decide_as_plain_three_valued_logic(
    connection: Any, given_conditions: list[Condition], given_rows: list[Row]
) -> None:
    rules = Rules({f"r{i}": sql for i, (sql, _) in enumerate(given_conditions)}, "r0", {})
    verdicts = checked(rules, connection, table_of(given_rows))
    truth = {True: TRUE, False: NOT_TRUE, None: UNKNOWN}
    expected = [[truth[decide(row)] for _, decide in given_conditions] for row in given_rows]
    assert verdicts.truth.tolist() == expected
    assert verdicts.keep.tolist() == [row[0] == TRUE for row in expected]


@st.composite
def keeps(draw: st.DrawFn, names: tuple[str, ...] = ("a", "b", "c")) -> Condition:
    def lookup(name: str) -> Condition:
        return name, lambda row: row[name]

    return draw(st.recursive(st.sampled_from([lookup(name) for name in names]), combined, max_leaves=5))


@given(keeps())
@pytest.mark.slow
def test_decisive_rules_are_those_whose_flip_alone_would_keep(connection: Any, keep: Condition) -> None:
    """Every combination of true, false and unknown of three rules, by brute force."""
    sql, decide = keep
    combinations = [
        dict(zip("abc", values, strict=True)) for values in itertools.product([True, False, None], repeat=3)
    ]
    rules = Rules({name: name for name in "abc"}, sql, {})
    columns: dict[str, ColumnType] = dict.fromkeys("abc", "bool")
    check(rules, columns)
    verdicts = evaluate(connection, rules, table_of(combinations, columns))
    for row, kept, decisive in zip(combinations, verdicts.keep, verdicts.decisive, strict=True):
        assert kept == (decide(row) is True)
        flipped = [decide({**row, name: row[name] is not True}) is True for name in "abc"]
        assert decisive.tolist() == [not kept and flip for flip in flipped]


# The criteria that the authors published, joined by OR, and what they mean.

ALIASES = {
    "dclm_fastText_score": "dclm",
    "cosmo_fastText_score": "cosmo",
    "mcalpine_eflaw_textstat": "eflaw",
    "tokens_per_doc_num_chars": "tokens_per_char",
    "science_label": "science_label",
    "technology_computing_label": "technology_label",
    "education_label": "education_label",
    "medical_label": "medical_label",
}
READABILITY = (
    '(("dclm_fastText_score" > 0.002 OR "cosmo_fastText_score" > 0.03)) AND (((mcalpine_eflaw_textstat < 70) AND '
    "(technology_computing_label IN ('technology') OR medical_label IN ('medical') OR education_label IN ('education') "
    "OR science_label IN ('science'))) OR ((mcalpine_eflaw_textstat < 30) AND (technology_computing_label IN ('cc') "
    "AND medical_label IN ('cc') AND education_label IN ('cc') AND science_label IN ('cc'))))"
)
EXTREME_TOKENIZED = READABILITY.replace(
    "mcalpine_eflaw_textstat < 70", "tokens_per_doc_num_chars BETWEEN 0.1 AND 0.5"
).replace("mcalpine_eflaw_textstat < 30", "tokens_per_doc_num_chars BETWEEN 0.22 AND 0.28")
PUBLISHED_COLUMNS: dict[str, ColumnType] = {
    "dclm": "float64",
    "cosmo": "float64",
    "eflaw": "float64",
    "tokens_per_char": "float64",
    "science_label": "string",
    "technology_label": "string",
    "education_label": "string",
    "medical_label": "string",
    "text_chars": "int64",  # which the packaged recipe asks for documents that dedup has emptied
}


def around(*thresholds: float) -> st.SearchStrategy[float]:
    near = [f(t) for t in thresholds for f in (lambda t: math.nextafter(t, -1), float, lambda t: math.nextafter(t, 99))]
    return st.sampled_from(near) | st.floats(0, 1.5 * max(thresholds))


annotated = st.fixed_dictionaries(
    {
        "dclm": around(0.002),
        "cosmo": around(0.03),
        "eflaw": around(29.9, 30.0, 69.9, 70.0),
        "tokens_per_char": around(0.1, 0.22, 0.28, 0.5),
        "science_label": st.sampled_from(["cc", "science"]),
        "technology_label": st.sampled_from(["cc", "technology"]),
        "education_label": st.sampled_from(["cc", "education"]),
        "medical_label": st.sampled_from(["cc", "medical"]),
    }
)


def is_kept_as_published(row: Row) -> bool:
    """F and (R or X)."""
    quality = row["dclm"] > 0.002 or row["cosmo"] > 0.03
    in_category = any(row[f"{name}_label"] == name for name in ("science", "technology", "education", "medical"))
    readable = row["eflaw"] < (70 if in_category else 30)
    low, high = (0.1, 0.5) if in_category else (0.22, 0.28)
    return quality and (readable or low <= row["tokens_per_char"] <= high)


def test_the_published_criteria_refer_to_tokens_per_character_too() -> None:
    assert EXTREME_TOKENIZED.count("tokens_per_doc_num_chars BETWEEN") == 2
    assert "mcalpine" not in EXTREME_TOKENIZED


@pytest.fixture(scope="module", params=["published", "packaged"])
def gneissweb(request: pytest.FixtureRequest) -> Rules:
    """The published criteria, verbatim, and the rules of the packaged recipe."""
    if request.param == "packaged":
        return Recipe.load("gneissweb-bytes").phases[0].decision
    rules = Rules({"published": f"({READABILITY}) OR ({EXTREME_TOKENIZED})"}, "published", ALIASES)
    check(rules, PUBLISHED_COLUMNS)
    return rules


@given(st.lists(annotated, min_size=1, max_size=10))
@settings(max_examples=40)
@pytest.mark.slow
def test_gneissweb_decides_by_quality_and_either_readability_or_tokens(
    connection: Any, gneissweb: Rules, given_rows: list[Row]
) -> None:
    verdicts = evaluate(
        connection, gneissweb, table_of([{**row, "text_chars": 1} for row in given_rows], PUBLISHED_COLUMNS)
    )
    assert verdicts.keep.tolist() == [is_kept_as_published(row) for row in given_rows]


def test_gneissweb_decides_right_at_every_combination_of_thresholds(connection: Any, gneissweb: Rules) -> None:
    def at(*thresholds: float) -> list[float]:
        return [value for t in thresholds for value in (math.nextafter(t, -1), t, math.nextafter(t, 99))]

    axes = {
        "dclm": at(0.002),
        "cosmo": at(0.03),
        "eflaw": at(30.0, 70.0),
        "tokens_per_char": at(0.1, 0.22, 0.28, 0.5),
        **{f"{name}_label": ["cc", name] for name in ("science", "technology", "education", "medical")},
    }
    grid = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    verdicts = evaluate(connection, gneissweb, table_of([{**row, "text_chars": 1} for row in grid], PUBLISHED_COLUMNS))
    wrong = [row for row, kept in zip(grid, verdicts.keep, strict=True) if kept != is_kept_as_published(row)]
    assert wrong == []
    assert 0 < verdicts.keep.sum() < len(grid) == 10_368


# Missing values.


@pytest.mark.parametrize("score", [None, math.nan])
def test_a_missing_score_passes_no_threshold(connection: Any, score: float | None) -> None:
    rules = Rules({"high": "dclm > 0.03", "low": "dclm < 0.03", "other": "NOT dclm > 0.03"}, "high OR low OR other", {})
    row = {"dclm": score, "cosmo": 0.0, "words": 0, "label": "cc", "flag": True}
    verdicts = checked(rules, connection, table_of([row]))
    assert verdicts.truth.tolist() == [[UNKNOWN, UNKNOWN, UNKNOWN]]
    assert verdicts.keep.tolist() == [False]
    assert verdicts.decisive.tolist() == [[True, True, True]]


def test_division_by_zero_is_a_missing_value(connection: Any) -> None:
    rules = Rules({"ratio": "dclm / cosmo > 0.5", "whole": "words % 0 = 0"}, "ratio", {})
    row = {"cosmo": 0.0, "words": 1, "label": "cc", "flag": True}
    verdicts = checked(rules, connection, table_of([{**row, "dclm": 0.0}, {**row, "dclm": 1.0}]))
    assert verdicts.truth.tolist() == [[FAILED, FAILED]] * 2


def test_without_rules_everything_is_kept(connection: Any) -> None:
    check(Rules({}, "true", {}), COLUMNS)
    verdicts = evaluate(connection, Rules({}, "true", {}), pa.table({"dclm": [1.0, None]}))
    assert verdicts.keep.tolist() == [True, True]
    assert verdicts.truth.shape == verdicts.decisive.shape == (2, 0)


def test_a_rule_that_fails_on_a_value_is_unknown_for_that_document_only(connection: Any) -> None:
    rules = Rules({"log": "ln(dclm) < 3", "guarded": "dclm > 0 AND ln(dclm) < 3"}, "log OR guarded", {})
    row = {"cosmo": 0.0, "words": 0, "label": "cc", "flag": True}
    verdicts = checked(rules, connection, table_of([{**row, "dclm": value} for value in (0.0, 1.0, -1.0, None)]))
    assert verdicts.truth.tolist() == [[FAILED, NOT_TRUE], [TRUE, TRUE], [FAILED, NOT_TRUE], [UNKNOWN, UNKNOWN]]
    assert verdicts.keep.tolist() == [False, True, False, False]
    assert verdicts.decisive.tolist() == [[True, True], [False, False], [True, True], [True, True]]


def test_evaluation_leaves_nothing_in_the_connection(connection: Any) -> None:
    row = {"dclm": 0.5, "cosmo": 0.0, "words": 0, "label": "cc", "flag": True}
    checked(Rules({"r": "dclm > 0"}, "r", {}), connection, table_of([row]))
    assert connection.execute("SELECT count(*) FROM duckdb_views() WHERE NOT internal").fetchall() == [(0,)]


# What a rule may be.


@pytest.mark.parametrize(
    "condition",
    [
        "dclm > 0.002 OR cosmo > 0.03",
        'DCLM > 0.1 and "cosmo" < 1',
        "label IN ('a', 'b') AND label NOT LIKE 'x%'",
        "words BETWEEN 3 AND 7",
        "CASE WHEN label = 'cc' THEN dclm < 30 ELSE dclm < 70 END",
        "coalesce(dclm, 0) > 0.5",
        "nullif(label, '') IS NOT NULL",
        "abs(dclm - cosmo) < 0.1 AND greatest(dclm, cosmo) > 0.1",
        "words::DOUBLE / 2 > 1.5",
        "regexp_matches(label, '^sci')",
        "flag",
        "NOT flag",
        "dclm > 0.1 -- a comment at the end",
        "dclm > 0.1 /* a comment */ AND flag",
    ],
)
def test_a_boolean_expression_over_the_columns_is_accepted(condition: str) -> None:
    check(Rules({"r": condition}, "r", {}), COLUMNS)


@pytest.mark.parametrize(
    "condition",
    [
        "read_text('/etc/passwd') IS NOT NULL",
        "(SELECT count(*) FROM read_text('/etc/passwd')) > 0",
        "(SELECT count(*) FROM read_csv('/etc/passwd')) > 0",
        "(SELECT count(*) FROM '/etc/passwd') > 0",
        "(SELECT count(*) FROM glob('/etc/*')) > 0",
        "getenv('HOME') IS NOT NULL",
        "current_setting('threads') = '1'",
        "getvariable('x') IS NULL",
        "EXISTS (SELECT 1)",
        "dclm IN (SELECT 1)",
        "dclm > ALL (SELECT 1)",
        "(FROM given)",
        "sum(dclm) > 1",
        "count(*) > 0",
        "bool_and(flag)",
        "any_value(flag)",
        "weighted_avg(dclm, cosmo) > 1",
        "max(dclm) OVER () > 1",
        "row_number() OVER (ORDER BY dclm) > 1",
        "lag(flag) OVER ()",
        "list_transform([dclm], x -> x + 1)[1] > 0",
        "list_filter([dclm], lambda x: x > 0) = []",
        "[x FOR x IN [1, 2]] = []",
        "*",
        "COLUMNS(*) > 1",
        "COLUMNS('d.*') > 1",
        "unnest([true])",
        "? > 1",
        "$1 > 1",
        "$name > 1",
        "random() > 0.5",
        "uuid() IS NULL",
        "gen_random_uuid() IS NULL",
        "nextval('s') > 1",
        "now() > '2020-01-01'",
        "today() > DATE '2020-01-01'",
        "current_date > DATE '2020-01-01'",
        "current_timestamp IS NULL",
        "current_localtimestamp() IS NULL",
        "ago(INTERVAL 1 DAY) IS NULL",
        "age(TIMESTAMP '2020-01-01') IS NULL",
        "pg_postmaster_start_time() IS NULL",
        "version() = 'v1'",
        "current_query() = ''",
        "current_user = 'me'",
        "error('x')",
        "write_log('x') IS NULL",
        "setseed(0.5) IS NULL",
        "given.dclm > 1",
        "rowid > 1",
        "default",
        "no_such_function(dclm)",
    ],
)
@pytest.mark.slow
def test_whatever_reaches_beyond_the_document_is_refused(condition: str) -> None:
    with pytest.raises(RecipeError, match=r"^rule 'r': ") as caught:
        check(Rules({"r": condition}, "r", {}), COLUMNS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "condition",
    [
        "",
        "  ",
        "dclm",
        "words",
        "label",
        "'t'",
        "1",
        "NULL",
        "dclm, cosmo",
        "flag, flag",
        "dclm > > 1",
        "dclm > 1)",
        "(dclm > 1",
        "dclm > 1; DROP TABLE given",
        "SELECT true",
        "COPY given TO 'x.csv'",
        "ATTACH 'x.db'",
        "SET threads = 4",
        "PRAGMA version",
        "true) FROM given WHERE (true",
        "true) UNION ALL SELECT (true",
        "true) IN (SELECT true",
        "true), (true",
        "true) AS a, (true",
        "dclm > 1 /*",
        "label = 'never closed",
        "dclm > label",
        "dclm > 'high'",
        "label > 3",
        "sqrt(label) > 3",
    ],
)
@pytest.mark.slow
def test_what_is_no_single_condition_is_refused(condition: str) -> None:
    with pytest.raises(RecipeError, match=r"^rule 'r': ") as caught:
        check(Rules({"r": condition}, "r", {}), COLUMNS)
    assert "\n" not in str(caught.value)


def test_an_unknown_column_is_met_with_the_nearest_one() -> None:
    with pytest.raises(RecipeError, match=r"rule 'r': no annotation 'dcml'; did you mean 'dclm'\?"):
        check(Rules({"r": "dcml > 0.1"}, "r", {}), COLUMNS)


def test_an_unknown_rule_in_keep_is_met_with_the_nearest_one() -> None:
    with pytest.raises(RecipeError, match=r"keep: no rule 'qualty'; did you mean 'quality'\?"):
        check(Rules({"quality": "dclm > 0.1"}, "qualty", {}), COLUMNS)


def test_keep_knows_rules_alone_not_columns() -> None:
    with pytest.raises(RecipeError, match="keep: no rule 'dclm'"):
        check(Rules({"quality": "dclm > 0.1"}, "quality AND dclm > 0.2", {}), COLUMNS)


@pytest.mark.parametrize("keep", ["1", "'quality'", "", "count(quality) > 0", "random() > 0.5", "quality, quality"])
def test_keep_is_a_condition_too(keep: str) -> None:
    with pytest.raises(RecipeError, match=r"^keep: "):
        check(Rules({"quality": "dclm > 0.1"}, keep, {}), COLUMNS)


def test_keep_without_rules_is_refused() -> None:
    with pytest.raises(RecipeError, match="keep: "):
        check(Rules({}, "false", {}), COLUMNS)


@pytest.mark.parametrize("name", ["true", "false", "null", "select", "case", "left", "like"])
def test_a_rule_is_not_named_as_a_word_of_sql(name: str) -> None:
    with pytest.raises(RecipeError, match=f"rule '{name}': .*SQL keyword"):
        check(Rules({name: "dclm > 0.1"}, name, {}), COLUMNS)


def test_an_alias_of_an_unknown_column_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"alias 'dclm_fastText_score': no annotation 'dcml'; did you mean 'dclm'\?"):
        check(Rules({"r": "dclm > 0.1"}, "r", {"dclm_fastText_score": "dcml"}), COLUMNS)


@pytest.mark.parametrize("alias", ["dclm", "DCLM"])
def test_an_alias_cannot_hide_another_annotation(alias: str) -> None:
    with pytest.raises(RecipeError, match=f"alias '{alias}': .*'dclm'"):
        check(Rules({"r": "dclm > 0.1"}, "r", {alias: "cosmo"}), COLUMNS)


def test_two_aliases_cannot_differ_in_case_alone() -> None:
    with pytest.raises(RecipeError, match="alias 'SCORE'"):
        check(Rules({"r": "score > 0.1"}, "r", {"score": "cosmo", "SCORE": "dclm"}), COLUMNS)


def test_the_connection_of_rules_reaches_no_file_and_cannot_be_unlocked(connection: Any) -> None:
    import duckdb

    for statement in (
        "SELECT * FROM read_text('/etc/hostname')",
        "COPY (SELECT 1) TO '/tmp/gneiss-rule.csv'",
        "ATTACH '/tmp/gneiss-rule.db'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "SET threads = 8",
    ):
        with pytest.raises(duckdb.Error):
            connection.execute(statement)
    assert connection.execute("SELECT current_setting('threads')").fetchall() == [(1,)]


def test_did_you_mean_lists_all_words_when_none_is_near() -> None:
    assert did_you_mean("xyz", ["b", "a"]) == "; known: a, b"
    assert did_you_mean("xyz", []) == "; known: none"
    assert did_you_mean("tokns", ["words", "tokens"]) == "; did you mean 'tokens'?"


def test_many_documents_keep_their_order(connection: Any) -> None:
    """More rows than one vector or one morsel of the engine."""
    scores = np.random.default_rng(1).random(300_000)
    verdicts = evaluate(connection, Rules({"r": "dclm > 0.25"}, "r", {}), pa.table({"dclm": scores}))
    assert np.array_equal(verdicts.keep, scores > 0.25)
