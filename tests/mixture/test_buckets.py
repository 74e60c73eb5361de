"""`gneiss buckets`: against DuckDB over the annotation files, the layer, and what is refused or said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from gneiss import run
from gneiss.cli.main import app
from gneiss.errors import InputError, OutputError
from gneiss.mixture.buckets import find_buckets, write_buckets
from gneiss.mixture.examples import examples_of
from gneiss.output.finished_run import open_run
from tests import runs
from tests.support import recipe_of, with_columns

Copy = Callable[[Path], Path]

#: As the definition has it: a bucket is where the middle of the tokens of all documents with a score lies.
BY_DUCKDB = """
WITH kept AS (
  SELECT {category} AS category, {score} AS score, {tokens}::HUGEINT AS tokens
  FROM '{output}/annotations/base/**/*.parquet'
  WHERE status = 'kept'
), scored AS (
  SELECT category, score, sum(tokens) AS own, count(*) AS documents FROM kept WHERE isfinite(score) GROUP BY ALL
), placed AS (
  SELECT *, sum(own) OVER (PARTITION BY category ORDER BY score) - own AS before,
    sum(own) OVER (PARTITION BY category) AS total
  FROM scored
)
SELECT category, least({quantiles} * (2 * before + own) // greatest(2 * total, 1), {quantiles} - 1) + 1 AS quantile,
  sum(documents)::BIGINT AS documents, sum(own)::BIGINT AS tokens, min(score) AS low, max(score) AS high
FROM placed GROUP BY ALL
"""


def by_duckdb(output: Path, score: str, category: str, quantiles: int, tokens: str) -> dict[tuple[str, int], Any]:
    query = BY_DUCKDB.format(output=output, score=score, category=category, quantiles=quantiles, tokens=tokens)
    return {(category, int(at)): tuple(rest) for category, at, *rest in duckdb.connect().execute(query).fetchall()}


@pytest.mark.parametrize("quantiles", [2, 7, 20, 1000])
@pytest.mark.parametrize("tokens", ["tokens", "text_bytes"])
def test_the_table_is_that_of_duckdb(curated: Path, quantiles: int, tokens: str) -> None:
    found = find_buckets(curated, ["prose"], quantiles=quantiles, tokens=tokens)
    expected = by_duckdb(curated, "prose", "''", quantiles, tokens)
    table = {(b.category, b.quantile): (b.documents, b.tokens, b.low, b.high) for b in found.table if b.documents}
    assert table == expected
    assert len(found.table) == quantiles
    assert sum(bucket.documents for bucket in found.table) == open_run(curated).documents


def test_the_largest_of_several_scores_by_several_columns(curated: Path, copy_of: Copy) -> None:
    output = copy_of(curated)
    draw = np.random.default_rng(1)
    values = draw.normal(size=(2, 200)).round(1)
    values[0, ::9], values[1, ::18] = np.nan, np.nan
    topics = ["a/b", "a", "(none)", None, "%2F"]
    columns = {
        "first": lambda row: float(values[0, row]),
        "second": lambda row: None if row % 5 == 1 else float(values[1, row]),
        "topic": lambda row: topics[row % 5],
        "level": lambda row: row % 2,
    }
    with_columns(
        output, columns, {"first": pa.float32(), "second": pa.float64(), "topic": pa.string(), "level": pa.int8()}
    )
    found = find_buckets(output, ["first", "second"], by=["topic", "level"], quantiles=3)
    nan_is_null = "nullif({0}::DOUBLE, 'nan'::DOUBLE)"
    score = f"greatest({nan_is_null.format('first')}, {nan_is_null.format('second')})"
    escaped = "coalesce(replace(replace(replace(topic, '%', '%25'), '/', '%2F'), '(', '%28'), '(none)') || '/' || level"
    expected = by_duckdb(output, score, escaped, 3, "tokens")
    scored = [bucket for bucket in found.table if bucket.quantile]
    assert {(b.category, b.quantile): (b.documents, b.tokens, b.low, b.high) for b in scored if b.documents} == expected
    assert {b.category for b in scored} == {
        f"{topic}/{level}" for topic in ("a%2Fb", "a", "%28none)", "(none)", "%252F") for level in (0, 1)
    }
    assert sum(b.documents for b in found.table if b.name.endswith("/unscored")) == sum(
        of[1] for of in found.unscored.values()
    )
    assert sum(bucket.documents for bucket in found.table) == 132
    assert len({bucket.name for bucket in found.table}) == len(found.table)


def test_the_layer_says_of_each_document_what_the_table_counts(curated: Path, copy_of: Copy) -> None:
    output = copy_of(curated)
    found = find_buckets(output, ["prose"], by=["prose_label"], quantiles=5)
    written = write_buckets(found)
    table = open_run(output).annotations(["buckets"], columns=["tokens", "prose", "bucket", "quantile", "score"])
    of_kept = table.filter(pa.compute.equal(table["status"], "kept"))
    assert of_kept["score"].to_pylist() == of_kept["prose"].to_pylist()
    counted: dict[str, list[int]] = {}
    for name, tokens in zip(of_kept["bucket"].to_pylist(), of_kept["tokens"].to_pylist(), strict=True):
        own = counted.setdefault(name, [0, 0])
        own[0], own[1] = own[0] + 1, own[1] + tokens
    assert counted == {bucket.name: [bucket.documents, bucket.tokens] for bucket in found.table if bucket.documents}
    assert written.metadata["summary"]["buckets"].keys() == {bucket.name for bucket in found.table}
    others = table.filter(pa.compute.not_equal(table["status"], "kept"))
    assert others.num_rows
    assert all(others[name].null_count == others.num_rows for name in ("bucket", "quantile", "score"))
    cuts = json.loads((output / "_gneiss/layers/buckets.json").read_text())["parameters"]["cuts"]
    assert cuts == found.buckets.cuts
    again = write_buckets(find_buckets(output, ["prose"], by=["prose_label"], quantiles=5))
    assert again.was_there
    with pytest.raises(OutputError, match=r"another quantiles, cuts.*another layer name"):
        write_buckets(find_buckets(output, ["prose"], by=["prose_label"], quantiles=4))


def test_a_layers_column_may_be_the_score(released: Path) -> None:
    found = find_buckets(released, ["log_prior"], layers=["weights"], quantiles=4)
    assert sum(bucket.documents for bucket in found.table) == 132
    assert found.buckets.layers == ("weights",)


def test_a_constant_score_is_one_bucket_and_said(curated: Path, copy_of: Copy) -> None:
    output = copy_of(curated)
    with_columns(
        output, {"flat": lambda _: 0.5, "none": lambda _: float("nan")}, {"flat": pa.float64(), "none": pa.float64()}
    )
    found = find_buckets(output, ["flat"], quantiles=4)
    assert [bucket.documents for bucket in found.table] == [0, 0, 132, 0]
    assert found.constant == [""]
    shown = CliRunner().invoke(app, ["buckets", str(output), "--score", "flat", "--quantiles", "4"])
    assert "warning: all documents have one score" in shown.output
    empty = find_buckets(output, ["none"], quantiles=4)
    assert [(bucket.name, bucket.documents) for bucket in empty.table] == [("unscored", 132)]
    write_buckets(empty)
    assert set(open_run(output).annotations(["buckets"], ["quantile"])["quantile"].to_pylist()) == {None}


def test_examples_are_documents_of_their_bucket(curated: Path, copy_of: Copy) -> None:
    output = copy_of(curated)
    found = find_buckets(output, ["prose"], quantiles=4)
    write_buckets(found)
    table = open_run(output).annotations(["buckets"], ["bucket"], kept=True)
    bucket_of = dict(zip(table["id"].to_pylist(), table["bucket"].to_pylist(), strict=True))
    texts = {
        id_: text
        for path in (output / "data").rglob("*.parquet")
        for id_, text in zip(*(pq.read_table(path)[name].to_pylist() for name in ("id", "text")), strict=True)
    }
    examples = examples_of(found, 3)
    assert {name: len(of) for name, of in examples.items()} == {
        b.name: min(3, b.documents) for b in found.table if b.documents
    }
    for name, of_bucket in examples.items():
        for example in of_bucket:
            assert example.id is not None
            assert bucket_of[example.id] == name
            assert example.text == texts[example.id][:1500]


def test_what_documents_hold_does_not_reach_the_terminal(curated: Path, copy_of: Copy) -> None:
    output = copy_of(curated)
    with_columns(output, {"topic": lambda _: "\x1b[31m[red]"}, {"topic": pa.string()})
    arguments = ["buckets", str(output), "--score", "prose", "--by", "topic", "--quantiles", "2"]
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0
    assert "\x1b" not in shown.output
    assert r"\u001b[31m[red]/q1" in shown.output


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"scores": ["pros"]}, "no annotation 'pros'; did you mean 'prose'"),
        ({"scores": ["prose_label"]}, "'prose_label': expected a number, found a column of string"),
        ({"by": ["prose"]}, "'prose': expected a string, a whole number or a flag, found a column of double"),
        ({"tokens": "prose"}, "'prose': expected a whole number"),
        ({"scores": []}, "no score"),
        ({"quantiles": 1}, "quantiles 1: expected 2 to 1000"),
        ({"layers": ["weights"]}, "no whole layer 'weights'"),
    ],
)
def test_what_cannot_be_cut_is_refused(curated: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_buckets(curated, **{"scores": ["prose"], **given})


def test_too_many_categories_are_refused(curated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gneiss.mixture.buckets.MOST_CATEGORIES", 20)
    with pytest.raises(InputError, match="id: more than 20 categories"):
        find_buckets(curated, ["prose"], by=["id"])


def test_equal_for_any_cut_into_shards(curated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = find_buckets(curated, ["prose"], by=["prose_label"], quantiles=4)
    monkeypatch.setattr("gneiss.output.annotation_tables.BATCH_ROWS", 3)
    monkeypatch.setattr("gneiss.quantiles._WAITING", 5)
    assert find_buckets(curated, ["prose"], by=["prose_label"], quantiles=4).table == whole.table


def test_a_recipe_without_tokens_needs_a_column(material: runs.Material, tmp_path: Path) -> None:
    recipe = recipe_of("  - {name: only, annotate: [readability]}", budgets={"documents": 0.5})
    finished = run(recipe, material.input, tmp_path / "curated", backend=runs.InThisProcess())
    with pytest.raises(InputError, match="the recipe counts no tokens; name the column that weighs"):
        find_buckets(finished, ["ari"])
    assert sum(bucket.documents for bucket in find_buckets(finished, ["ari"], tokens="text_bytes").table) == 176
