"""The files of `data/`: the one place that knows in which format the documents of an output are."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from gneiss.output import jsonl, parquet
from gneiss.output.layout import data_path
from gneiss.output.parquet import WrittenFile, open_parquet, read_footer, write_parquet
from gneiss.recipe.files import OutputFiles
from gneiss.store.place import Place

#: Where the footer of an annotation shard holds the columns of a data file that has no footer of its own.
SCHEMA_KEY = "gneiss.documents"
#: Rows of a Parquet file that are decoded at a time.
_READ_ROWS = 256


@dataclass(frozen=True)
class DataFiles:
    """How an output's documents are written and read. format: what the names of their files end with."""

    format: str = "parquet"
    compression: str = "zstd"
    level: int | None = 3

    @classmethod
    def of(cls, files: OutputFiles) -> DataFiles:
        """The files that a recipe asks for."""
        return cls(files.format, files.compression, files.level)

    @classmethod
    def of_recipe(cls, recipe: Mapping[str, Any]) -> DataFiles:
        """The files that a canonical recipe, as plain values, asks for."""
        return cls.of(OutputFiles(**recipe.get("output", {})))

    @property
    def is_parquet(self) -> bool:
        """Whether a file says by itself which columns and how many rows it has."""
        return self.format == "parquet"

    def path(self, shard_id: str) -> str:
        """The documents of a shard."""
        return data_path(shard_id, self.format)

    def refusal(self, schema: pa.Schema) -> str | None:
        """Why columns cannot be written in this format, or to quarantine, which is Parquet, if they cannot."""
        return (None if self.is_parquet else jsonl.refusal(schema)) or parquet.refusal(schema)

    def written(self, schema: pa.Schema) -> pa.Schema:
        """The columns as this format holds them. Raises InputError for a column that it cannot hold."""
        return schema if self.is_parquet else jsonl.json_schema(schema)

    def write(self, tables: Iterable[pa.Table], schema: pa.Schema, root: Place, shard_id: str) -> WrittenFile:
        """Write the documents of a shard. Raises OutputError; InputError for a column that the format cannot hold."""
        path = self.path(shard_id)
        if self.is_parquet:
            return write_parquet(tables, schema, root, path, compression=self.compression, level=self.level)
        return jsonl.write_jsonl(tables, schema, root, path, self.compression, self.level or 0)

    def noted(self, schema: pa.Schema) -> dict[str, str]:
        """What the footer of the annotation shard says of the documents beside it: nothing of Parquet files."""
        if self.is_parquet:
            return {}
        return {SCHEMA_KEY: base64.b64encode(self.written(schema).serialize().to_pybytes()).decode()}

    def schema(self, file: Place, annotations: Place) -> pa.Schema:
        """The columns of a shard's documents. Raises OSError, ArrowException, KeyError, ValueError."""
        if self.is_parquet:
            return read_footer(file).schema.to_arrow_schema()
        noted = (read_footer(annotations).metadata or {})[SCHEMA_KEY.encode()]
        return pa.ipc.open_stream(base64.b64decode(noted)).schema

    def rows(self, file: Place) -> int | None:
        """How many documents a file has, if it says so before they are read. Raises OSError and ArrowException."""
        return int(read_footer(file).num_rows) if self.is_parquet else None

    def read(self, file: Place, schema: pa.Schema, columns: Sequence[str], start: int = 0) -> Iterator[pa.Table]:
        """Columns of documents from row `start` on, a few hundred rows at a time. Raises as `schema` does."""
        if not self.is_parquet:
            yield from jsonl.read_jsonl(file, schema, self.compression, columns, start)
            return
        with open_parquet(file) as data:
            at, groups = 0, list[int]()
            for group in range(data.num_row_groups):
                size = data.metadata.row_group(group).num_rows
                if groups or at + size > start:
                    groups.append(group)
                else:
                    at += size
            for batch in data.iter_batches(_READ_ROWS, row_groups=groups, columns=list(columns), use_threads=False):
                skipped = max(start - at, 0)
                if skipped < batch.num_rows:
                    yield pa.Table.from_batches([batch]).slice(skipped)
                at += batch.num_rows
