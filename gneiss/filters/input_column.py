"""A column of the input as an annotation, so that rules, weights and statistics can read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gneiss.annotation import OF_COLUMN, Annotator, Column, ColumnType, arrow_type
from gneiss.errors import InputError, RecipeError, first_line
from gneiss.filters.page import Page

if TYPE_CHECKING:
    import pyarrow as pa

    from gneiss.batch import TextBatch

PAGES: tuple[Page, ...] = ()


@dataclass(frozen=True)
class InputColumn(Annotator):
    """The values of a column that came with the documents.

    name: of the column, a field of structs by path (`metadata.lang`), or a key of the folders' names; type: of the
    annotation; column: its name, by default the last part of the path.

    >>> InputColumn("metadata.year", "int64").columns[0].name
    'year'
    """

    key = "input_column"

    name: str
    type: ColumnType = "string"
    column: str | None = None

    def __post_init__(self) -> None:
        if not self.name:
            raise RecipeError("input_column: expected the name of a column of the input, found an empty one")

    @property
    def reads(self) -> str:
        """The column."""
        return OF_COLUMN + self.name

    @property
    def columns(self) -> tuple[Column, ...]:
        """The annotation."""
        return (Column(self.column or self.name.rpartition(".")[2], self.type, f"the column {self.name} of the input"),)

    def compute(self, values: TextBatch) -> Mapping[str, pa.Array]:
        """The values, which come as strings, in the annotation's type. Raises InputError where one does not fit."""
        import pyarrow as pa

        try:
            array = values.to_arrow().cast(pa.string()).cast(arrow_type(self.type))
        except pa.ArrowException as error:
            raise InputError(f"column {self.name!r}: expected {self.type}: {first_line(error)}") from error
        return {self.columns[0].name: array}
