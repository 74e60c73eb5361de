"""How the documents of an archive were decoded, counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gneiss.extraction.tables import Document

_BY = " by "
_REPLACED_CHARACTERS, _DOCUMENTS_WITH_REPLACED = "replaced_characters", "documents_with_replaced_characters"


@dataclass
class Decoding:
    """Documents by charset and where it was found, and those with replaced characters.

    charsets: (charset, charset_from) → documents.
    """

    charsets: Counter[tuple[str, str]] = field(default_factory=Counter)
    documents_with_replaced_characters: int = 0
    replaced_characters: int = 0

    def add(self, document: Document) -> None:
        """Count a document."""
        self.charsets[document.charset, document.charset_from] += 1
        self.documents_with_replaced_characters += document.replaced_characters > 0
        self.replaced_characters += document.replaced_characters

    def counts(self) -> dict[str, int]:
        """As one level of names, which a receipt holds: `utf-8 by header`."""
        return {
            **{_BY.join(key): count for key, count in sorted(self.charsets.items())},
            _DOCUMENTS_WITH_REPLACED: self.documents_with_replaced_characters,
            _REPLACED_CHARACTERS: self.replaced_characters,
        }

    @classmethod
    def of(cls, counts: Mapping[str, int]) -> Decoding:
        """The inverse of `counts`, among other counts."""
        charsets: Counter[tuple[str, str]] = Counter()
        for key, count in counts.items():
            charset, by, charset_from = key.partition(_BY)
            if by:
                charsets[charset, charset_from] = count
        return cls(charsets, counts[_DOCUMENTS_WITH_REPLACED], counts[_REPLACED_CHARACTERS])

    @classmethod
    def total(cls, parts: Iterable[Decoding]) -> Decoding:
        """The sum of several."""
        whole = cls()
        for part in parts:
            whole.charsets += part.charsets
            whole.documents_with_replaced_characters += part.documents_with_replaced_characters
            whole.replaced_characters += part.replaced_characters
        return whole
