"""The expressions of rules: SQL over the columns of one document, checked before it runs.

DuckDB parses an expression, and what is executed is written from its parse tree. So nothing runs that was not
understood: a fixed list of functions, whose results are no longer than their arguments and whose time is linear in
them, over numbers, strings and booleans of known kind. What cannot be computed for a document (a logarithm of zero, an
overflow, a failed cast, NaN) is missing for that document: each function call is a step that is computed by itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import xxhash

from gneiss.errors import RecipeError, did_you_mean, first_line

if TYPE_CHECKING:
    import duckdb

#: The largest expression: characters, parts (names, numbers, operators, calls), and parts inside each other.
MOST_CHARACTERS, MOST_PARTS, MOST_DEPTH = 20_000, 2_000, 100

NUMBER, STRING, BOOLEAN = "number", "string", "boolean"
_NULL = "null"

# Kinds of arguments: n a number, s a string, l a string that is written out (its length is that of the expression).
_CALLS: dict[str, tuple[str, str]] = {
    **dict.fromkeys(["+", "-"], ("nn?", NUMBER)),
    **dict.fromkeys(["*", "/", "//", "%", "^", "**", "pow", "power", "mod", "fmod", "fdiv"], ("nn", NUMBER)),
    **dict.fromkeys(["abs", "sign", "ceil", "ceiling", "floor", "trunc", "sqrt", "cbrt", "exp"], ("n", NUMBER)),
    **dict.fromkeys(["ln", "log2", "log10"], ("n", NUMBER)),
    **dict.fromkeys(["round", "log"], ("nn?", NUMBER)),
    **dict.fromkeys(["isinf", "isfinite"], ("n", BOOLEAN)),
    **dict.fromkeys(["lower", "upper"], ("s", STRING)),
    **dict.fromkeys(["trim", "ltrim", "rtrim"], ("sl?", STRING)),
    **dict.fromkeys(["left", "right"], ("sn", STRING)),
    **dict.fromkeys(["substring", "substr"], ("snn?", STRING)),
    "split_part": ("sln", STRING),
    **dict.fromkeys(["length", "len", "strlen"], ("s", NUMBER)),
    **dict.fromkeys(["position", "strpos", "instr"], ("sl", NUMBER)),
    **dict.fromkeys(["contains", "starts_with", "ends_with", "prefix", "suffix", "^@"], ("sl", BOOLEAN)),
    **dict.fromkeys(["regexp_matches", "regexp_full_match"], ("sll?", BOOLEAN)),
}
#: LIKE and its relatives: whether it is negated, and the options of the regular expression that stands for it.
_LIKE = {
    **dict.fromkeys(["~~", "like_escape"], (False, "s")),
    **dict.fromkeys(["!~~", "not_like_escape"], (True, "s")),
    **dict.fromkeys(["~~*", "ilike_escape"], (False, "si")),
    **dict.fromkeys(["!~~*", "not_ilike_escape"], (True, "si")),
}
#: Functions of values of one kind, whose result is one of them.
_CHOICES = ("greatest", "least", "nullif", "if")
#: The functions that a rule may call, operators aside.
FUNCTIONS = tuple(sorted({"coalesce", *_CHOICES, *(name for name in _CALLS if name.isidentifier())}))

_TYPES = {
    **dict.fromkeys(["TINYINT", "SMALLINT", "INT", "INTEGER", "BIGINT", "FLOAT", "REAL", "DOUBLE"], NUMBER),
    **dict.fromkeys(["VARCHAR", "TEXT", "STRING"], STRING),
    **dict.fromkeys(["BOOLEAN", "BOOL"], BOOLEAN),
}
_COMPARISONS = {
    "COMPARE_EQUAL": "=",
    "COMPARE_NOTEQUAL": "<>",
    "COMPARE_LESSTHAN": "<",
    "COMPARE_GREATERTHAN": ">",
    "COMPARE_LESSTHANOREQUALTO": "<=",
    "COMPARE_GREATERTHANOREQUALTO": ">=",
    "COMPARE_DISTINCT_FROM": "IS DISTINCT FROM",
    "COMPARE_NOT_DISTINCT_FROM": "IS NOT DISTINCT FROM",
}
_TESTS = {"OPERATOR_IS_NULL": "IS NULL", "OPERATOR_IS_NOT_NULL": "IS NOT NULL"}
_MEMBERSHIP = {"COMPARE_IN": "IN", "COMPARE_NOT_IN": "NOT IN"}
_RANGES = {"COMPARE_BETWEEN": "BETWEEN", "COMPARE_NOT_BETWEEN": "NOT BETWEEN"}
_CONJUNCTIONS = {"CONJUNCTION_AND": " AND ", "CONJUNCTION_OR": " OR "}

# What a node of the parse tree may consist of; anything more (DISTINCT, FILTER, a schema, …) would be passed over.
_ALWAYS = {"class", "type", "query_location", "query_location_length"}
_CALL_KEYS = {"function_name", "order_bys", "is_operator", "arguments", "qualified_name"}


@dataclass(frozen=True)
class Step:
    """A call that is computed by itself, over columns and the results of earlier steps.

    sql: the call; level: the steps of lower levels that it needs come first; failed: an SQL condition that its
    arguments are there, in which case a missing result is a failure; none for a call that may have no result.
    """

    sql: str
    level: int
    failed: str | None


@dataclass(frozen=True)
class Threshold:
    """A number that an expression compares a column with: its value, and where it stands in the text, in characters."""

    column: str
    value: float
    start: int
    stop: int


@dataclass(frozen=True)
class Expression:
    """An SQL expression over columns and the results of its steps, by name.

    kind: number, string or boolean; reads: the columns in it; thresholds: in the order of the text.
    """

    sql: str
    kind: str
    steps: Mapping[str, Step]
    reads: frozenset[str]
    thresholds: tuple[Threshold, ...] = ()


@dataclass(frozen=True)
class _Term:
    """A part of an expression: its SQL, its kind, the level of the steps in it, and its value if it is a literal."""

    sql: str
    kind: str
    level: int = 0
    literal: str | None = None


def parsed(connection: duckdb.DuckDBPyConnection, text: str, kinds: Mapping[str, str], noun: str) -> Expression:
    """The expression of a text over named columns; kinds: column → number, string or boolean.

    Parameters: `noun`: what a message calls a column. Raises RecipeError: what is wrong, without the name of the rule.
    """
    if not text.strip():
        raise RecipeError("expected a boolean SQL expression, found nothing")
    if len(text) > MOST_CHARACTERS:
        raise RecipeError(f"{len(text):,} characters long; at most {MOST_CHARACTERS:,} are allowed")
    query = f"{_BEFORE}{text}\n) FROM given"
    try:
        tree = json.loads(
            connection.execute(
                "SELECT json_serialize_sql(?::VARCHAR, skip_null := true, skip_empty := true, skip_default := true)",
                [query],
            ).fetchall()[0][0]
        )
    except RecursionError as error:
        raise RecipeError(_TOO_DEEP) from error
    if tree["error"]:
        reason = first_line(tree["error_message"])
        if "expression depth" in reason:
            raise RecipeError(_TOO_DEEP)
        raise RecipeError(f"expected a boolean SQL expression, found {text!r}: {reason}")
    nodes = [statement["node"] for statement in tree["statements"]]
    selected = nodes[0].get("select_list", [])
    if len(nodes) != 1 or len(selected) != 1 or nodes[0]["from_table"].get("table_name") != "given":
        raise RecipeError(f"expected a single boolean SQL expression, found {text!r}")
    reader = _Reader(query.encode(), {name.lower(): (name, kind) for name, kind in kinds.items()}, noun)
    term = reader.term(selected[0], 1)
    thresholds = tuple(sorted(reader.thresholds, key=lambda threshold: threshold.start))
    return Expression(term.sql, term.kind, reader.steps, frozenset(reader.reads), thresholds)


_BEFORE = "SELECT (\n"
_TOO_DEEP = f"more than {MOST_DEPTH} parts inside each other; compute the sum or the list in an annotator of your own"


@dataclass
class _Reader:
    """Writes the SQL of a parse tree, and collects its steps."""

    query: bytes
    columns: Mapping[str, tuple[str, str]]
    noun: str
    steps: dict[str, Step] = field(default_factory=dict)
    reads: set[str] = field(default_factory=set)
    thresholds: list[Threshold] = field(default_factory=list)
    parts: int = 0

    def term(self, node: Mapping[str, Any], depth: int) -> _Term:
        """A node of the parse tree, `depth` nodes below the root."""
        self.parts += 1
        if depth > MOST_DEPTH:
            raise RecipeError(_TOO_DEEP)
        if self.parts > MOST_PARTS:
            raise RecipeError(
                f"more than {MOST_PARTS:,} names, numbers and operators; split it into rules, or compute it in an"
                " annotator of your own"
            )
        written = _WRITERS.get(node["class"])
        if written is None:
            raise RecipeError(f"{node['class'].lower()} is not allowed; a rule compares the columns of one document")
        write, keys = written
        if more := set(node) - _ALWAYS - keys:
            raise RecipeError(f"{min(more)} is not allowed in {self.text(node)}")
        return write(self, node, depth)

    def terms(self, nodes: Sequence[Mapping[str, Any]], depth: int) -> list[_Term]:
        return [self.term(node, depth + 1) for node in nodes]

    def text(self, node: Mapping[str, Any]) -> str:
        """What the author of the rule wrote for a node."""
        start = node.get("query_location", 0)
        return self.query[start : start + node.get("query_location_length", 0)].decode(errors="replace") or "it"

    def one_kind(self, nodes: Sequence[Mapping[str, Any]], terms: Sequence[_Term]) -> str:
        """The kind that all terms share; a missing value is of any kind."""
        first: int | None = None
        for index, term in enumerate(terms):
            if first is None and term.kind != _NULL:
                first = index
            elif first is not None and term.kind not in (_NULL, terms[first].kind):
                raise RecipeError(
                    f"{self.text(nodes[first])} is a {terms[first].kind}, {self.text(nodes[index])} is a {term.kind};"
                    " a rule compares and combines values of one kind"
                )
        return _NULL if first is None else terms[first].kind

    def note_thresholds(self, compared: Sequence[Mapping[str, Any]]) -> None:
        """Note the numbers that a column is compared with, which may be the values of a CASE."""
        columns = [".".join(node["column_names"]).lower() for node in compared if node["class"] == "COLUMN_REF"]
        if len(columns) != 1:
            return
        for node in compared:
            of_case = [*(arm["then_expr"] for arm in node.get("case_checks", [])), node.get("else_expr")]
            for number in (constant for constant in (node, *of_case) if constant and constant["class"] == "CONSTANT"):
                if number["literal"]["kind"] in ("INTEGER", "NUMERIC"):
                    start = len(self.query[: number["query_location"]].decode()) - len(_BEFORE)
                    text = self.text(number)
                    name, _ = self.columns[columns[0]]
                    self.thresholds.append(Threshold(name, float(number["literal"]["text"]), start, start + len(text)))

    def boolean(self, node: Mapping[str, Any], term: _Term) -> _Term:
        """A term that is true, false or unknown."""
        if term.kind not in (BOOLEAN, _NULL):
            raise RecipeError(f"{self.text(node)} is a {term.kind}; expected a condition that is true or false")
        return term

    def step(self, sql: str, kind: str, terms: Sequence[_Term], may_fail: bool = True) -> _Term:
        """The result of a call as a column of its own; equal calls are one step."""
        level = 1 + max((term.level for term in terms), default=0)
        there = " AND ".join(f"{term.sql} IS NOT NULL" for term in terms)
        name = f"step {xxhash.xxh3_128_hexdigest(sql.encode())}"
        self.steps[name] = Step(sql, level, there if may_fail else None)
        return _Term(quoted(name), kind, level)

    def constant(self, node: Mapping[str, Any], depth: int) -> _Term:
        literal = node["literal"]
        text: str = literal.get("text", "")
        match literal["kind"]:
            case "INTEGER" | "NUMERIC" if re.fullmatch(r"-?[0-9_]*\.?[0-9_]*([eE][+-]?[0-9_]+)?", text):
                # 64-bit integers, decimals that can be compared with each of them, and floats.
                digits = len(re.sub(r"[^0-9]", "", text.lower().partition("e")[0]))
                return _Term(text if digits <= 18 or _is_int64(text) else f"{text}::DOUBLE", NUMBER)
            case "STRING":
                return _Term(_string(text), STRING, literal=text)
            case "BOOLEAN":
                return _Term(text, BOOLEAN)
            case "NULL_LITERAL":
                return _Term("NULL", _NULL)
        raise RecipeError(f"{self.text(node)} is not allowed; a rule compares numbers, strings, true and false")

    def column(self, node: Mapping[str, Any], depth: int) -> _Term:
        name = ".".join(node["column_names"])
        if name.lower() not in self.columns:
            names = [known for known, _ in self.columns.values()]
            raise RecipeError(f"no {self.noun} {name!r}{did_you_mean(name, names)}")
        own, kind = self.columns[name.lower()]
        self.reads.add(own)
        return _Term(quoted(own), kind)

    def comparison(self, node: Mapping[str, Any], depth: int) -> _Term:
        nodes = [node["left"], node["right"]]
        left, right = terms = self.terms(nodes, depth)
        self.one_kind(nodes, terms)
        self.note_thresholds(nodes)
        return _of(terms, f"({left.sql} {_known(_COMPARISONS, node)} {right.sql})", BOOLEAN)

    def between(self, node: Mapping[str, Any], depth: int) -> _Term:
        nodes = [node["input"], node["lower"], node["upper"]]
        value, lower, upper = terms = self.terms(nodes, depth)
        self.one_kind(nodes, terms)
        self.note_thresholds(nodes)
        return _of(terms, f"({value.sql} {_known(_RANGES, node)} {lower.sql} AND {upper.sql})", BOOLEAN)

    def conjunction(self, node: Mapping[str, Any], depth: int) -> _Term:
        terms = self.terms(node["children"], depth)
        parts = [self.boolean(child, term).sql for child, term in zip(node["children"], terms, strict=True)]
        return _of(terms, f"({_known(_CONJUNCTIONS, node).join(parts)})", BOOLEAN)

    def operator(self, node: Mapping[str, Any], depth: int) -> _Term:
        kind, nodes = node["type"], node["children"]
        terms = self.terms(nodes, depth)
        if kind == "OPERATOR_NOT":
            return _of(terms, f"(NOT {self.boolean(nodes[0], terms[0]).sql})", BOOLEAN)
        if kind in _TESTS:
            return _of(terms, f"({terms[0].sql} {_TESTS[kind]})", BOOLEAN)
        if kind == "OPERATOR_COALESCE":
            return _of(terms, f"coalesce({_listed(terms)})", self.one_kind(nodes, terms))
        self.one_kind(nodes, terms)
        return _of(terms, f"({terms[0].sql} {_known(_MEMBERSHIP, node)} ({_listed(terms[1:])}))", BOOLEAN)

    def case(self, node: Mapping[str, Any], depth: int) -> _Term:
        whens = [check["when_expr"] for check in node["case_checks"]]
        values = [*(check["then_expr"] for check in node["case_checks"]), node["else_expr"]]
        tests, results = self.terms(whens, depth), self.terms(values, depth)
        for when, test in zip(whens, tests, strict=True):
            self.boolean(when, test)
        arms = "".join(f" WHEN {test.sql} THEN {then.sql}" for test, then in zip(tests, results, strict=False))
        kind = self.one_kind(values, results)
        return _of([*tests, *results], f"(CASE{arms} ELSE {results[-1].sql} END)", kind)

    def cast(self, node: Mapping[str, Any], depth: int) -> _Term:
        term = self.term(node["child"], depth + 1)
        kind, name = node["type_expr"], node["type_expr"].get("type_name", "")
        digits = [child.get("literal", {}).get("text", "") for child in kind.get("children", [])]
        if name in ("DECIMAL", "NUMERIC") and all(number.isdecimal() for number in digits):
            type_, result = f"DECIMAL({', '.join(digits)})" if digits else "DECIMAL", NUMBER
        elif name in _TYPES and not digits:
            type_, result = name, _TYPES[name]
        else:
            raise RecipeError(f"a cast to {name or self.text(kind)} is not allowed{did_you_mean(name, _TYPES)}")
        if term.kind == result == BOOLEAN:  # `IS TRUE` is parsed as a cast
            return term
        return self.step(f"CAST({term.sql} AS {type_})", result, [term], may_fail=not node.get("try_cast"))

    def function(self, node: Mapping[str, Any], depth: int) -> _Term:
        name, arguments = node["function_name"], node.get("arguments", [])
        if set(node.get("order_bys", {})) > {"type"} or any(set(given) != {"expression"} for given in arguments):
            raise RecipeError(f"expected a call such as {name}(a, b), found {self.text(node)}")
        nodes = [given["expression"] for given in arguments]
        if name not in {*_CALLS, *_CHOICES, *_LIKE}:
            hint = "; NaN is missing here: write x IS NULL" if name == "isnan" else did_you_mean(name, FUNCTIONS)
            called = f"{name}()" if name.isidentifier() else f"the operator {name}"
            raise RecipeError(f"{called} is unknown, or not allowed in a rule{hint}")
        terms = self.terms(nodes, depth)
        if name in _LIKE:
            return self.like(node, terms)
        if name in _CHOICES:
            return self.choice(name, nodes, terms)
        pattern, result = _CALLS[name]
        if not re.fullmatch(pattern.replace("s", "[sl]"), "".join(_letter(term) for term in terms)):
            found = ", ".join(f"a {term.kind}" for term in terms) or "nothing"
            raise RecipeError(f"{name} takes {_described(pattern)}, found {found} in {self.text(node)}")
        if not node.get("is_operator"):
            sql = f"{'strpos' if name == 'position' else name}({_listed(terms)})"
        else:
            sql = f"({terms[0].sql} {name} {terms[1].sql})" if len(terms) == 2 else f"({name} {terms[0].sql})"
        return self.step(sql, result, terms)

    def choice(self, name: str, nodes: Sequence[Mapping[str, Any]], terms: Sequence[_Term]) -> _Term:
        first = 1 if name == "if" else 0
        if len(terms) < first + 1 or (name in ("if", "nullif") and len(terms) != first + 2):
            raise RecipeError(f"{name} takes {'a condition and ' * first}two values, found {len(terms)}")
        if name == "if":
            self.boolean(nodes[0], terms[0])
        kind = self.one_kind(nodes[first:], terms[first:])
        return self.step(f"{name}({_listed(terms)})", kind, terms, may_fail=False)

    def like(self, node: Mapping[str, Any], terms: Sequence[_Term]) -> _Term:
        """As a regular expression, which takes linear time; DuckDB's LIKE tries every place for every `%`."""
        if not re.fullmatch("[sl]ll?", "".join(_letter(term) for term in terms)):
            raise RecipeError(f"LIKE takes a string and a pattern that is written out, in {self.text(node)}")
        negated, options = _LIKE[node["function_name"]]
        pattern = _regex(terms[1].literal or "", terms[2].literal if len(terms) > 2 else None)
        matched = f"regexp_full_match({terms[0].sql}, {_string(pattern)}, {_string(options)})"
        return self.step(f"(NOT {matched})" if negated else matched, BOOLEAN, terms[:1])


_WRITERS: dict[str, tuple[Callable[[_Reader, Mapping[str, Any], int], _Term], set[str]]] = {
    "BETWEEN": (_Reader.between, {"input", "lower", "upper"}),
    "CASE": (_Reader.case, {"case_checks", "else_expr"}),
    "CAST": (_Reader.cast, {"child", "type_expr", "try_cast"}),
    "COLUMN_REF": (_Reader.column, {"column_names"}),
    "COMPARISON": (_Reader.comparison, {"left", "right"}),
    "CONJUNCTION": (_Reader.conjunction, {"children"}),
    "CONSTANT": (_Reader.constant, {"literal"}),
    "FUNCTION": (_Reader.function, _CALL_KEYS),
    "OPERATOR": (_Reader.operator, {"children"}),
}


def _of(terms: Sequence[_Term], sql: str, kind: str) -> _Term:
    """A term made of others, which cannot fail."""
    return _Term(sql, kind, max((term.level for term in terms), default=0))


def _known(names: Mapping[str, str], node: Mapping[str, Any]) -> str:
    if node["type"] not in names:
        operator = node["type"].removeprefix("OPERATOR_").removeprefix("COMPARE_").replace("_", " ").lower()
        raise RecipeError(f"{operator} is not allowed; a rule compares the columns of one document")
    return names[node["type"]]


def _letter(term: _Term) -> str:
    return "l" if term.literal is not None else term.kind[0] if term.kind != _NULL else "?"


def _described(pattern: str) -> str:
    words = {"n": "a number", "s": "a string", "l": "a string that is written out"}
    parts = re.findall(r"([nsl])(\??)", pattern)
    return ", ".join(f"({words[letter]})" if optional else words[letter] for letter, optional in parts)


def _listed(terms: Sequence[_Term]) -> str:
    return ", ".join(term.sql for term in terms)


def quoted(name: str) -> str:
    """A name in SQL, whatever it holds."""
    return '"' + name.replace('"', '""') + '"'


def _string(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _is_int64(text: str) -> bool:
    return re.fullmatch(r"-?[0-9_]+", text) is not None and -(2**63) <= int(text.replace("_", "")) < 2**63


def _regex(pattern: str, escape: str | None) -> str:
    """The regular expression of a LIKE pattern."""
    parts: list[str] = []
    characters = iter(pattern)
    for character in characters:
        if escape and character == escape:
            character = next(characters, "")
            if not character:
                raise RecipeError(f"the LIKE pattern {pattern!r} ends with its escape character")
            parts.append(re.escape(character))
        else:
            parts.append({"%": ".*", "_": "."}.get(character) or re.escape(character))
    return "".join(parts)
