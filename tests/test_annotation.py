"""Annotating outside a run: nulls, order, and files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from gneiss.annotation import Annotate, Column, annotate
from gneiss.batch import TextBatch


@dataclass(frozen=True)
class Sizes:
    """Bytes of each text; remembers which files it was given."""

    sources: tuple[str, ...] = ()
    columns: tuple[Column, ...] = (Column("size", "int64", "bytes"), Column("first", "string", "first character"))

    def load(self, files: Mapping[str, Path]) -> Annotate:
        names = ",".join(f"{source}={path}" for source, path in files.items())

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


def test_sources_are_local_paths_unless_files_are_given() -> None:
    assert annotate(Sizes(("a/model.bin",)), ["x"])["first"].to_pylist() == ["xa/model.bin=a/model.bin"]
    assert annotate(Sizes(("hf://o/n/f",)), ["x"], {"hf://o/n/f": Path("here")})["first"].to_pylist() == [
        "xhf://o/n/f=here"
    ]
