"""Editors: what changes texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from gneiss.annotation import STRICT_KEYS, Column, Values
from gneiss.batch import TextBatch
from gneiss.edit.edits import Edits


class Editor:
    """Changes texts. A subclass is a frozen dataclass whose fields are its parameters, and pure; it needs only `edit`.

    It sees the texts as they enter the phase. A phase applies the edits of all its editors at once, then annotates;
    where two overlap, the earlier in the recipe takes precedence.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = STRICT_KEYS
    #: The short name of a packaged editor in recipes; others are named by `module:Class`, or by an entry point.
    key: ClassVar[str] = ""

    @property
    def columns(self) -> tuple[Column, ...]:
        """Annotations about its edits, in order. By default none."""
        return ()

    def edit(self, batch: TextBatch) -> Edited:
        """The edits of a batch, and the annotations of its documents."""
        raise NotImplementedError(f"{type(self).__name__} does not define edit")


@dataclass(frozen=True, eq=False)
class Edited:
    """An editor's edits of a batch, and values, one a document, for each of its columns."""

    edits: Edits
    annotations: Mapping[str, Values] = field(default_factory=dict)
