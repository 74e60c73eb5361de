"""Annotations: typed columns computed for documents, and the annotators that compute them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    import pyarrow as pa

    from gneiss.batch import TextBatch, Texts

__all__ = ["STRICT_KEYS", "Annotate", "Annotator", "Column", "annotate"]

#: For an annotator's `__pydantic_config__`: an unknown key in a recipe is an error.
STRICT_KEYS: dict[str, str] = {"extra": "forbid"}
ColumnType: TypeAlias = Literal["float64", "int64", "string", "bool"]
#: Once per batch: one Arrow array per column, as long as the batch.
Annotate: TypeAlias = "Callable[[TextBatch], Mapping[str, pa.Array]]"


@dataclass(frozen=True)
class Column:
    """The name, type and meaning of one annotation."""

    name: str
    type: ColumnType
    meaning: str


class Annotator(Protocol):
    """Computes annotations: fetches files once per run, loads them once per worker, runs once per batch.

    An annotator is a frozen value (its parameters) and pure: the same text gives the same annotations, whatever came
    before and whatever else is in the batch.
    """

    @property
    def columns(self) -> tuple[Column, ...]:
        """The annotations it computes, in order."""

    @property
    def sources(self) -> tuple[str, ...]:
        """Model and tokenizer files it needs: local paths or `hf://repo@revision/file`."""

    def load(self, files: Mapping[str, Path]) -> Annotate:
        """Once per worker: open the files (source → local path) and return the function that annotates a batch.

        Raises ModelError when a file is not what the annotator expects.
        """


@runtime_checkable
class Prepares(Protocol):
    """An annotator that converts its files before loading them."""

    def prepare(self, files: Mapping[str, Path], folder: Path) -> Mapping[str, Path]:
        """Once per run and node: convert files (source → local path) into `folder`; return the files for `load`.

        A converted file is named by its inputs, and reused. Raises ModelError.
        """


def annotate(annotator: Annotator, texts: Texts, files: Mapping[str, Path] | None = None) -> pa.Table:
    """Annotate a list of strings or an Arrow array outside any run; a null text has null annotations.

    Parameters: `annotator`; `texts`: (documents,) strings; `files`: local paths for sources that are not local paths.
    Returns a table of the annotator's columns, (documents,) rows.

    >>> from gneiss.filters.readability import Readability
    >>> annotate(Readability(), ["One two three four.", None])["eflaw"].to_pylist()
    [6.0, None]
    """
    import pyarrow as pa

    array = texts if isinstance(texts, pa.Array | pa.ChunkedArray) else pa.array(texts, pa.large_string())
    compute = annotator.load(files if files is not None else {source: Path(source) for source in annotator.sources})
    return pa.table(annotate_present(annotator, compute, array))


def annotate_present(annotator: Annotator, compute: Annotate, texts: pa.Array | pa.ChunkedArray) -> dict[str, pa.Array]:
    """The columns of a loaded annotator over an array with nulls, (documents,); null for null texts."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from gneiss.batch import TextBatch

    columns = compute(TextBatch.of(texts.drop_null()))
    valid = texts.is_valid()
    positions = pc.if_else(valid, pc.subtract(pc.cumulative_sum(valid.cast(pa.int64())), 1), None)
    return {column.name: columns[column.name].take(positions) for column in annotator.columns}


def input_of(annotator: Annotator) -> str:
    """The input of an annotator's batches: `text`, or the class attribute `reads`, `"id"` or `"url"`."""
    return getattr(annotator, "reads", "text")
