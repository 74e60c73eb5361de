"""What a recipe says of files: the columns of the input, the files of the output, and their dataset card."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from gneiss.recipe.part import Part

#: Compression → its default level, and the highest one.
_LEVELS = {"zstd": (3, 22), "gzip": (6, 9)}
#: Formats of JSON lines → their compression.
_JSONL = {"jsonl.zst": "zstd", "jsonl.gz": "gzip", "jsonl": "none"}
#: The id column by default; ids are made for files that lack it.
ID = "id"
#: The types of keys in names of folders, as Arrow names them.
KeyType: TypeAlias = Literal["string", "int64", "float64", "bool", "date32"]


class InputColumns(Part):
    """The input's columns; `derived_from_text` names those that an edit makes stale.

    A stale value is replaced by the annotation named for it, or null: `derived_from_text: {token_count: tokens}`. The
    column `url` is needed only if an annotator reads it. Ids are made for files without a column `id`, and for all with
    `id: null`. Columns are names, or paths of fields: `metadata.url`. `hive`: types of the keys in names of folders
    (`dump=CC-2024/`), which are columns too, strings if not named here; null: they are not.
    """

    text: str = "text"
    id: str | None = ID
    url: str = "url"
    derived_from_text: dict[str, str | None] = Field(default_factory=dict)
    hive: dict[str, KeyType] | None = Field(default_factory=dict)


class OutputFiles(Part):
    """The files of `data/`: `format` is what their names end with; `compression` is chosen for Parquet only.

    level: of zstd, 1 to 22, by default 3, or of gzip, 1 to 9, by default 6; shard_bytes: at the end of a run its
    documents are laid into new shards, whose files have about this size; shuffle_seed: of their order, else as it was.
    """

    format: Literal["parquet", "jsonl.zst", "jsonl.gz", "jsonl"] = "parquet"
    compression: Literal["zstd", "snappy", "gzip", "none"] = "zstd"
    level: int | None = 3
    shard_bytes: int | None = Field(default=None, ge=1)
    shuffle_seed: int | None = Field(default=None, ge=0, lt=1 << 63)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.shuffle_seed is not None and self.shard_bytes is None:
            raise ValueError("shuffle_seed: it orders the documents of new shards; give shard_bytes too")
        return self

    @model_validator(mode="before")
    @classmethod
    def _with_defaults(cls, given: Any) -> Any:
        """What follows from the other keys is written out, so that equal outputs have equal recipes."""
        if not isinstance(given, dict):
            return given
        own = _JSONL.get(str(given.get("format", "parquet")))
        compression = given.get("compression", own or "zstd")
        if own and compression != own:
            raise ValueError(f"compression: {given['format']} has {own}; leave the key out")
        default, most = _LEVELS.get(str(compression), (None, 0))
        level = given.get("level", default)
        if level is not None and not most:
            raise ValueError(f"level: the compression {compression} has none; leave the key out")
        if most and not (type(level) is int and 1 <= level <= most):
            raise ValueError(f"level: expected 1 to {most} for {compression}")
        return {**given, "compression": compression, "level": level}

    def stated(self) -> dict[str, Any]:
        """The keys that do not follow from others, so that others can change."""
        of_format = OutputFiles(format=self.format)
        of_compression = OutputFiles(format=self.format, compression=self.compression)
        implied = {"compression": of_format.compression, "level": of_compression.level}
        return {name: value for name, value in self if name not in implied or implied[name] != value}


class Budgets(Part):
    """How much may be quarantined before the run ends with exit code 3: a share of documents, a number of shards."""

    documents: float = Field(default=0.001, ge=0, le=1)
    shards: int = Field(default=0, ge=0)


class Card(Part):
    """What the dataset card says that no run can know: identifiers of a license and of languages, as the hub has them.

    Where they are not given, they are those of the card of an input on the hub, or missing.
    """

    license: str | None = Field(default=None, pattern=r"^[a-z0-9][a-z0-9.-]*$")
    language: list[Annotated[str, Field(pattern=r"^[a-z]{2,}(-[A-Za-z0-9]+)*$")]] = Field(default_factory=list)
