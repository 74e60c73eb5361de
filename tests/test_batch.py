"""Text batches: the same documents whatever Arrow array they come in, and views computed once."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.batch import TextBatch
from gneiss.errors import InputError

documents = st.lists(st.text(max_size=12), max_size=8)


@given(documents, st.sampled_from([pa.string(), pa.large_string(), pa.string_view()]))
def test_a_batch_holds_the_strings_of_any_arrow_string_type(texts: list[str], arrow_type: pa.DataType) -> None:
    batch = TextBatch.of(pa.array(texts, arrow_type))
    assert batch.texts() == texts
    assert len(batch) == len(texts)
    assert batch.size_bytes == sum(len(text.encode()) for text in texts)
    assert batch.to_arrow().to_pylist() == texts


@given(documents, st.integers(0, 8), st.integers(0, 8), st.sampled_from([pa.string(), pa.large_string()]))
def test_a_sliced_array_gives_its_own_documents(
    texts: list[str], start: int, length: int, arrow_type: pa.DataType
) -> None:
    batch = TextBatch.of(pa.array(texts, arrow_type).slice(min(start, len(texts)), length))
    assert batch.texts() == texts[start : start + length]
    assert batch.to_arrow().to_pylist() == batch.texts()


@given(st.lists(documents, max_size=4))
def test_a_chunked_array_is_its_chunks_one_after_another(chunks: list[list[str]]) -> None:
    chunked = pa.chunked_array([pa.array(chunk, pa.string()) for chunk in chunks], pa.string())
    assert TextBatch.of(chunked).texts() == [text for chunk in chunks for text in chunk]


@given(documents, st.data())
def test_a_slice_shares_the_bytes_and_holds_its_documents(texts: list[str], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(texts)))
    stop = data.draw(st.integers(start, len(texts)))
    batch = TextBatch.of(texts)
    part = batch.slice(start, stop)
    assert part.texts() == texts[start:stop]
    assert part.size_bytes == sum(len(text.encode()) for text in texts[start:stop])
    assert part.data is batch.data
    assert TextBatch.of(part.to_arrow()).texts() == texts[start:stop]


def test_the_text_of_a_large_string_array_is_not_copied() -> None:
    array = pa.array(["some", "text"], pa.large_string())
    assert TextBatch.of(array).data.ctypes.data == array.buffers()[2].address


def test_nulls_are_refused_with_their_number() -> None:
    with pytest.raises(InputError, match="2 of 3 are null"):
        TextBatch.of(["a", None, None])


@pytest.mark.parametrize("array", [pa.array([1, 2]), pa.array([b"a"]), pa.array([["a"]]), pa.nulls(2)])
def test_what_is_not_a_string_is_refused_with_its_type(array: pa.Array) -> None:
    with pytest.raises(InputError, match="expected an array of strings, found"):
        TextBatch.of(array)


def test_an_array_whose_nulls_were_sliced_away_is_accepted() -> None:
    assert TextBatch.of(pa.array([None, "a", "b", None], pa.string()).slice(1, 2)).texts() == ["a", "b"]


def test_a_view_is_computed_once_for_each_batch() -> None:
    computed: list[int] = []

    def lengths(batch: TextBatch) -> list[int]:
        computed.append(len(batch))
        return np.diff(batch.offsets).tolist()

    batch = TextBatch.of(["a", "bcd", ""])
    assert batch.view(lengths) is batch.view(lengths)
    assert batch.view(lengths) == [1, 3, 0]
    assert batch.slice(1, 3).view(lengths) == [3, 0], "a slice has views of its own"
    assert computed == [3, 2]


def test_two_batches_share_no_view() -> None:
    def texts(batch: TextBatch) -> list[str]:
        return batch.texts()

    assert (TextBatch.of(["a"]).view(texts), TextBatch.of(["b"]).view(texts)) == (["a"], ["b"])
