"""Names of columns that every recipe has, or that no annotation may have."""

from __future__ import annotations

from gneiss.annotation import Column

#: Annotations of every document, computed by `curate` itself.
BASE_COLUMNS = (
    Column("text_bytes", "int64", "UTF-8 bytes of the text after the edits of the phase"),
    Column("text_chars", "int64", "code points of the text after the edits of the phase"),
)
#: Columns of an annotation shard that are not annotations.
RESERVED = ("row", "id", "status", "reason", "dropped_in", "failed", "decisive", "content_hash")
#: Those that say of a row in a new shard in which shard of the run it was, and which row there.
ORIGIN = ("gneiss_shard", "gneiss_row")
