"""Annotations: typed columns computed for documents, and the annotators that compute them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeAlias, runtime_checkable

from gneiss.errors import ModelError

if TYPE_CHECKING:
    import pyarrow as pa

    from gneiss.batch import TextBatch, Texts

__all__ = ["STRICT_KEYS", "Annotate", "Annotator", "Column", "annotate"]

#: What `reads` has before the name of an input column.
OF_COLUMN = "column:"
#: For a dataclass's `__pydantic_config__`: an unknown key in a recipe is an error.
STRICT_KEYS: dict[str, str] = {"extra": "forbid"}
ColumnType: TypeAlias = Literal["float64", "int64", "string", "bool"]
#: A value for each document of a batch: an Arrow array, or a list with None for a missing value.
Values: TypeAlias = "pa.Array | Sequence[Any]"
#: Once per batch: values for each column, as many as there are documents.
Annotate: TypeAlias = "Callable[[TextBatch], Mapping[str, Values]]"


@dataclass(frozen=True)
class Column:
    """The name, type and meaning of one annotation."""

    name: str
    type: ColumnType
    meaning: str


@dataclass(frozen=True)
class Demand:
    """What a worker takes at most for a model file: memory, and whether a GPU, where there is one."""

    memory_bytes: int
    gpu: bool = False


class Annotator:
    """Computes annotations: fetches files once per run, loads them once per worker, runs once per batch.

    A subclass is a frozen dataclass whose fields are its parameters. It needs `columns` and either `compute`, or, if it
    has model files, `load`. It is pure: the same text gives the same annotations, whatever came before and whatever
    else is in the batch. One that `reads_annotations` is computed after what it reads, of which its text and these are
    all that it depends on.

    >>> @dataclass(frozen=True)
    ... class Shouting(Annotator):
    ...     mark: str = "!"
    ...     columns = (Column("shouting", "int64", "exclamation marks"),)
    ...     def compute(self, batch):
    ...         return {"shouting": [text.count(self.mark) for text in batch.texts()]}
    >>> annotate(Shouting(), ["Stop! Now!", None])["shouting"].to_pylist()
    [2, None]
    """

    __pydantic_config__: ClassVar[dict[str, str]] = STRICT_KEYS
    #: The short name of a packaged annotator in recipes; others are named by `module:Class`, or by an entry point.
    key: ClassVar[str] = ""
    #: Name → condition, as published for it: what `filters:` in a recipe brings along. Packaged ones have a page.
    rules: ClassVar[Mapping[str, str]] = {}
    #: Whether its model files are mapped, so that all workers of a machine share their memory.
    maps_files: ClassVar[bool] = False
    #: Memory that a worker takes, at most, for a byte of its model files, unless it maps them.
    loaded_bytes_per_byte: ClassVar[int] = 1

    @property
    def reads(self) -> str:
        """What its batches are: `text`, `id` or `url` of the documents, or OF_COLUMN and the name of a column."""
        return "text"

    @property
    def reads_annotations(self) -> tuple[str, ...]:
        """Annotations of its phase or of earlier ones that it reads, as `batch.annotations[name]`. By default none.

        As in rules, a column of a layer is `layer.column`.
        """
        return ()

    @property
    def columns(self) -> tuple[Column, ...]:
        """The annotations it computes, in order."""
        raise NotImplementedError(f"{type(self).__name__} does not define columns")

    @property
    def model_files(self) -> tuple[str, ...]:
        """Model and tokenizer files it needs: local paths or `hf://repo@revision/file`. By default none."""
        return ()

    @property
    def calls(self) -> tuple[str, ...]:
        """Modules besides that of its class whose code computes its annotations, by name. By default none."""
        return ()

    def demand(self, source: str, path: Path, size_bytes: int) -> Demand:
        """What a worker takes for one of its model files, which lies at `path`, unless it maps them."""
        return Demand(size_bytes * self.loaded_bytes_per_byte)

    def load(self, files: Mapping[str, Path]) -> Annotate:
        """Once per worker: open the model files (name → local path) and return the function that annotates a batch.

        Raises ModelError when a file is not what the annotator expects. By default it returns `compute`.
        """
        return self.compute

    def compute(self, batch: TextBatch) -> Mapping[str, Values]:
        """Values for each column, as many as there are documents in the batch."""
        raise NotImplementedError(f"{type(self).__name__} defines neither compute nor load")


@runtime_checkable
class Prepares(Protocol):
    """An annotator that converts its files before loading them."""

    def prepare(self, files: Mapping[str, Path], folder: Path) -> Mapping[str, Path]:
        """Once per run and node: convert files (name → local path) into `folder`; return the files for `load`.

        A converted file is named by its inputs, and reused. Raises ModelError.
        """


@runtime_checkable
class Completes(Protocol):
    """An annotator of which a recipe may leave out what its model files say."""

    def completed(self, files: Mapping[str, Path]) -> Annotator:
        """Once per plan: the annotator with all its parameters; files: name → local path. Raises ModelError."""


@runtime_checkable
class Reports(Protocol):
    """An annotator that has something to say on the card of an output."""

    def report(self, counts: Mapping[str, Mapping[str, int]]) -> str:
        """A paragraph of plain text; counts: how often each value of a text or bool column of its own occurs."""


def files_of(folder: Path) -> dict[str, Path]:
    """The files in a folder and in its folders, by name relative to it, sorted; without those named `.…` or `_…`.

    Raises ModelError where there is none.
    """
    names = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    files = {name.as_posix(): path for name, path in names.items() if not any(p[0] in "._" for p in name.parts)}
    if not files:
        raise ModelError(f"{folder}: expected files in this folder, found none")
    return dict(sorted(files.items()))


def annotate(
    annotator: Annotator,
    texts: Texts,
    files: Mapping[str, Path] | None = None,
    annotations: Mapping[str, Values] | None = None,
) -> pa.Table:
    """Annotate a list of strings or an Arrow array outside any run; a null text has null annotations.

    Parameters: `annotator`; `texts`: (documents,) strings; `files`: local paths of model files given by address;
    `annotations`: those that it reads, (documents,) values by name. Returns a table of the annotator's columns,
    (documents,) rows.

    >>> from gneiss.filters.readability import Readability
    >>> annotate(Readability(), ["One two three four.", None])["eflaw"].to_pylist()
    [6.0, None]
    """
    import pyarrow as pa

    array = texts if isinstance(texts, pa.Array | pa.ChunkedArray) else pa.array(texts, pa.large_string())
    compute = annotator.load(files if files is not None else {file: Path(file) for file in annotator.model_files})
    read = {name: pa.array(values) for name, values in (annotations or {}).items()}
    return pa.table(annotate_present(annotator, compute, array, read))


def annotate_present(
    annotator: Annotator,
    compute: Annotate,
    texts: pa.Array | pa.ChunkedArray,
    annotations: Mapping[str, pa.Array] = MappingProxyType({}),
) -> dict[str, pa.Array]:
    """The columns of a loaded annotator over an array with nulls, (documents,): null where the text is."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from gneiss.batch import TextBatch

    valid = texts.is_valid()
    batch = TextBatch.of(texts.drop_null()).annotated(
        {name: annotation.filter(valid) for name, annotation in annotations.items()}
    )
    columns = checked(annotator.columns, compute(batch), len(batch))
    positions = pc.if_else(valid, pc.subtract(pc.cumulative_sum(valid.cast(pa.int64())), 1), None)
    return {name: values.take(positions) for name, values in columns.items()}


def checked(columns: Sequence[Column], computed: Mapping[str, Values], documents: int) -> dict[str, pa.Array]:
    """What was computed for some documents, as Arrow arrays of the columns' types.

    Raises ValueError for a missing column, another number of values, or values of another type.
    """
    import pyarrow as pa

    arrays = {}
    for column in columns:
        if column.name not in computed:
            raise ValueError(f"{column.name}: expected values for this column, found only {', '.join(computed)}")
        values = computed[column.name]
        if len(values) != documents:
            raise ValueError(f"{column.name}: expected {documents} values, found {len(values)}")
        try:
            array = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)
            if _holds_text(array.type) is (column.type != "string"):  # a cast would read numbers in texts
                raise pa.ArrowTypeError(f"found {array.type}")
            array = array.cast(arrow_type(column.type))
        except pa.ArrowException as error:
            raise ValueError(f"{column.name}: expected {column.type} values: {error}") from error
        arrays[column.name] = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    return arrays


def _holds_text(type: pa.DataType) -> bool | None:
    """Whether values of an Arrow type are texts; None where all are missing."""
    import pyarrow as pa

    if pa.types.is_null(type):
        return None
    of_values = type.value_type if pa.types.is_dictionary(type) else type
    return bool(pa.types.is_string(of_values) or pa.types.is_large_string(of_values))


def arrow_type(type: ColumnType) -> pa.DataType:
    """The Arrow type of an annotation."""
    import pyarrow as pa

    types = {"float64": pa.float64(), "int64": pa.int64(), "string": pa.string(), "bool": pa.bool_()}
    return types[type]
