"""How loud a text is, and a text made quieter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gneiss.annotation import Annotator, Column
from gneiss.batch import TextBatch
from gneiss.edit import Edited, Editor, Edits


@dataclass(frozen=True)
class Shouting(Annotator):
    """How often a mark occurs."""

    rules = {"calm": "shouting < 3", "no_capitals": "NOT capitals"}  # noqa: RUF012

    mark: str = "!"

    @property
    def columns(self) -> tuple[Column, ...]:
        """See Annotator."""
        return (
            Column("shouting", "int64", f"how often {self.mark} occurs"),
            Column("capitals", "bool", "no letter is small"),
        )

    def compute(self, batch: TextBatch) -> Mapping[str, Any]:
        """See Annotator."""
        texts = batch.texts()
        return {"shouting": [text.count(self.mark) for text in texts], "capitals": [text.isupper() for text in texts]}


@dataclass(frozen=True)
class Calm(Editor):
    """Cuts exclamation marks at the end of a text."""

    columns = (Column("calmed_bytes", "int64", "bytes cut from the end"),)

    def edit(self, batch: TextBatch) -> Edited:
        """See Editor."""
        cut = np.array([len(text) - len(text.rstrip("!")) for text in batch.texts()], np.int64)
        size = np.diff(batch.offsets)
        (touched,) = np.nonzero(cut)
        return Edited(Edits(touched, (size - cut)[touched], size[touched]), {"calmed_bytes": cut.tolist()})
