"""What a recipe says of duplicates: repeated passages to cut, equal and near-equal documents to find."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gneiss.annotation import Column
from gneiss.dedup.minhash import criteria

DEDUP_COLUMNS = (
    Column("dedup_bytes", "int64", "bytes that substring dedup cut from the document"),
    Column("dedup_fraction", "float64", "cut bytes over the bytes before the cut; null for an empty text"),
    Column("dedup_repeated_bytes", "int64", "bytes cut elsewhere, in scope, as repeats of this document"),
)
EXACT_COLUMNS = (
    Column("exact_copies", "int64", "documents with the same text, itself included"),
    Column("exact_first", "bool", "no earlier document has the same text"),
)
NEAR_COLUMNS = (
    Column("near_cluster", "string", "shard:row of the first of its near-duplicates; null where it has none"),
    Column("near_cluster_size", "int64", "documents in its cluster of near-duplicates, itself included"),
    Column("near_first", "bool", "no earlier document is in its cluster"),
)


class Part(BaseModel):
    """A part of a recipe: strict and frozen, with no key but its own."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)


class Dedup(Part):
    """Exact substring dedup as an edit: what repeats for `min_length` units is cut from all but the first copy.

    unit: bytes of UTF-8, or tokens of `tokenizer` (`builtin:cl100k_base`, a local path or hf://); boundary: where a cut
    may begin and end; scope: `shard`, `group` (consecutive shards whose ids have the same value of the pattern
    `group_by`, its first group if it has one, at most `group_max_bytes` of text), or `corpus`.
    """

    min_length: int = Field(default=200, ge=2)
    unit: Literal["bytes", "tokens"] = "bytes"
    tokenizer: str | None = None
    policy: Literal["protect", "union", "all"] = "protect"
    engine: Literal["anchors", "suffix-array"] = "anchors"
    scope: Literal["shard", "group", "corpus"] = "shard"
    group_by: str | None = None
    group_max_bytes: int = Field(default=2_000_000_000, ge=1)
    boundary: Literal["char", "word", "line"] = "char"

    @model_validator(mode="after")
    def _fits_together(self) -> Dedup:
        if (self.unit == "tokens") != (self.tokenizer is not None):
            raise ValueError("`unit: tokens` goes with a `tokenizer`, and `unit: bytes` without one")
        if (self.scope == "group") != (self.group_by is not None):
            raise ValueError("`scope: group` goes with a pattern `group_by`, any other scope without one")
        try:
            re.compile(self.group_by or "")
        except re.error as error:
            raise ValueError(f"group_by: {self.group_by!r} is no regular expression: {error}") from error
        if self.scope == "corpus" and self.engine != "anchors":
            raise ValueError("`scope: corpus` needs `engine: anchors`")
        return self

    @property
    def sources(self) -> tuple[str, ...]:
        """The tokenizer's file; none for bytes or a builtin tokenizer."""
        return () if self.tokenizer is None or self.tokenizer.startswith("builtin:") else (self.tokenizer,)


@dataclass(frozen=True)
class ExactDuplicates(criteria.ExactDuplicates):
    """Documents with the same text, among those of a `scope`."""

    scope: Literal["shard", "corpus"] = "corpus"


@dataclass(frozen=True)
class NearDuplicates(criteria.NearDuplicates):
    """Documents that share many shingles of words, among those of a `scope`."""

    scope: Literal["shard", "corpus"] = "corpus"
