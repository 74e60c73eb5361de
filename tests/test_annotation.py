"""Annotating outside a run: nulls, order, and files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.annotation import Annotate, Annotator, Column, annotate
from gneiss.batch import TextBatch


@dataclass(frozen=True)
class Sizes(Annotator):
    """Bytes of each text; remembers which files it was given."""

    model_files: tuple[str, ...] = ()
    columns: tuple[Column, ...] = (Column("size", "int64", "bytes"), Column("first", "string", "first character"))

    def load(self, files: Mapping[str, Path]) -> Annotate:
        names = ",".join(f"{name}={path}" for name, path in files.items())

        def compute(batch: TextBatch) -> Mapping[str, pa.Array]:
            first = [text[:1] + names for text in batch.texts()]
            return {"size": pa.array(np.diff(batch.offsets)), "first": pa.array(first, pa.string())}

        return compute


@given(st.lists(st.none() | st.text(max_size=5), max_size=8), st.sampled_from([pa.string(), pa.large_string()]))
def test_a_null_text_has_null_annotations_and_the_others_their_own(
    texts: list[str | None], arrow_type: pa.DataType
) -> None:
    table = annotate(Sizes(), pa.array(texts, arrow_type))
    assert table.column_names == ["size", "first"]
    assert table["size"].to_pylist() == [None if text is None else len(text.encode()) for text in texts]
    assert table["first"].to_pylist() == [None if text is None else text[:1] for text in texts]


@given(st.lists(st.lists(st.none() | st.text(max_size=3), max_size=4), max_size=4))
def test_a_chunked_array_is_annotated_as_a_whole(chunks: list[list[str | None]]) -> None:
    chunked = pa.chunked_array([pa.array(chunk, pa.string()) for chunk in chunks], pa.string())
    flat = [text for chunk in chunks for text in chunk]
    assert annotate(Sizes(), chunked)["size"].to_pylist() == annotate(Sizes(), flat)["size"].to_pylist()


def test_model_files_are_local_paths_unless_files_are_given() -> None:
    assert annotate(Sizes(("a/model.bin",)), ["x"])["first"].to_pylist() == ["xa/model.bin=a/model.bin"]
    assert annotate(Sizes(("hf://o/n/f",)), ["x"], {"hf://o/n/f": Path("here")})["first"].to_pylist() == [
        "xhf://o/n/f=here"
    ]


@dataclass(frozen=True)
class Plain(Annotator):
    """The least that one needs, with values that the test chooses."""

    values: tuple[object, ...] = ()
    columns = (Column("plain", "int64", "what is given"),)

    def compute(self, batch: TextBatch) -> Mapping[str, object]:
        return {"plain": self.values} if self.values else {"other": []}


def test_a_list_is_as_good_as_an_array_and_none_is_null() -> None:
    table = annotate(Plain((1, None)), ["a", "b", None])
    assert table["plain"].to_pylist() == [1, None, None]
    assert table["plain"].type == pa.int64()
    assert annotate(Plain((None, None)), ["a", "b"])["plain"].null_count == 2


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ((), "plain: expected values for this column, found only other"),
        ((1, 2, 3), "plain: expected 2 values, found 3"),
        ((1, "x"), "plain: expected int64 values: "),
        ((1, 2.5), "plain: expected int64 values: "),
        (("1", "2"), "plain: expected int64 values: found string"),
    ],
)
def test_values_that_are_not_what_the_columns_say_are_refused(values: tuple[object, ...], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        annotate(Plain(values), ["a", "b"])
