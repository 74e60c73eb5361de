"""Columns of the input, keys of its folders and fields of structs are annotations, for rules and categories."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import gneiss
from gneiss.annotation import annotate
from gneiss.errors import InputError, RecipeError
from gneiss.filters.input_column import InputColumn
from gneiss.layers.weights import write_weights
from tests import runs
from tests.support import recipe_of, write_documents

PHASES = """
- name: only
  dedup: {min_length: 20}
  annotate:
    - input_column: {name: lang}
    - input_column: {name: meta.score, type: float64}
    - input_column: {name: text, column: raw}
  rules: {english: lang = 'en', good: score > 0.5}
"""


@pytest.mark.parametrize(
    ("type_", "values", "expected"),
    [
        ("int64", ["1", None, "-7"], [1, None, -7]),
        ("float64", ["0.1", "nan", None], ["0.1", "nan", "None"]),
        ("bool", ["true", "false"], [True, False]),
        ("string", ["a", None, ""], ["a", None, ""]),
    ],
)
def test_values_are_read_in_a_type(type_: str, values: list[str | None], expected: list[object]) -> None:
    found = annotate(InputColumn("a.b", type_), values)["b"].to_pylist()  # type: ignore[arg-type]
    assert (list(map(str, found)) if type_ == "float64" else found) == expected


def test_a_value_that_does_not_fit_names_the_column() -> None:
    with pytest.raises(InputError, match=r"column 'meta\.year': expected int64: .*'x'"):
        annotate(InputColumn("meta.year", "int64"), ["1", "x"])
    with pytest.raises(RecipeError, match="expected the name of a column"):
        InputColumn("")


def test_rules_and_categories_read_columns(tmp_path: Path) -> None:
    """Of every kind of column: the file's, a struct's field, and a folder's key."""
    meta = pa.array([{"score": 0.9}, {"score": 0.1}, {"score": None}, None], pa.struct([("score", pa.float64())]))
    for lang in ("en", "fr"):
        write_documents(tmp_path / f"in/lang={lang}/x.parquet", [f"{lang} {row}" for row in range(4)], meta=meta)
    gneiss.run(recipe_of(PHASES), tmp_path / "in", tmp_path / "out", backend=runs.InThisProcess())
    annotations = pq.read_table(tmp_path / "out/annotations/base/lang=en/x.parquet", partitioning=None)
    assert annotations["lang"].to_pylist() == ["en"] * 4
    assert annotations["score"].to_pylist() == [0.9, 0.1, None, None]
    assert annotations["raw"].to_pylist() == [f"en {row}" for row in range(4)]
    assert annotations["status"].to_pylist() == ["kept", "dropped", "dropped", "dropped"]
    write_weights(tmp_path / "out", category="lang")
    weights = pq.read_table(tmp_path / "out/annotations/weights/lang=en/x.parquet", partitioning=None)
    assert weights["category"].to_pylist() == ["en", None, None, None]


def test_a_column_that_is_not_there_is_said_before_the_run(tmp_path: Path) -> None:
    path = write_documents(tmp_path / "x.parquet", ["one"])
    with pytest.raises(InputError, match="expected a column 'lang', found id, text"):
        gneiss.run(recipe_of(PHASES), path, tmp_path / "out", backend=runs.InThisProcess())
    phases = PHASES.replace("meta.score", "meta")
    path = write_documents(tmp_path / "lang=en/x.parquet", ["one"], lang=["en"], meta=[{"a": 1}])
    with pytest.raises(InputError, match="column 'meta': expected strings or numbers, found struct<a: int64>"):
        gneiss.run(recipe_of(phases.replace("score >", "meta >")), path, tmp_path / "out", backend=runs.InThisProcess())
