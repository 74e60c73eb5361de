"""CCNet's normalization for language models: lower case, no accents, digits as 0, ASCII punctuation, no controls.

CCNet's own models read the SentencePiece pieces of such text; models that `gneiss train perplexity` makes, its words.
From the paper (arXiv 1911.00359, section 4.2) and the public code's tables, per line. Unlike the rest of gneiss it asks
Python's `unicodedata`: characters that Unicode added after 14.0 may normalize differently on another Python.
"""

from __future__ import annotations

import unicodedata
from functools import cache

_PUNCTUATION = {
    **dict(zip("，、„”“«»」「《》´’∶：–━►", ',,"""""""""\'\'::---', strict=True)),
    **dict(zip("。？！（）；～〈〉【】％", ".?!();~<>[]%", strict=True)),
    "—": " - ",
    "．": ". ",
    "…": "...",
}
#: The mapping of ASCII, which has no accents and no other punctuation.
_ASCII = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ123456789", b"abcdefghijklmnopqrstuvwxyz000000000")
_ASCII_CONTROLS = bytes((*range(0x20), 0x7F))


def normalize(line: str) -> str:
    r"""One line, normalized as for CCNet's models.

    >>> normalize(" Déjà vu —\t1,234 “Times”… ")
    'deja vu  - 0,000 "times"...'
    """
    line = line.strip()
    if line.isascii():
        return line.encode().translate(_ASCII, _ASCII_CONTROLS).decode()
    return unicodedata.normalize("NFD", line.lower()).translate(_table())


@cache
def _table() -> dict[int, str | None]:
    """The mapping of the canonical decomposition's characters: marks (Mn) and controls removed, digits (Nd) to 0."""
    kinds = {"Mn": None, "Cc": None, "Nd": "0"}
    categories = ((point, unicodedata.category(chr(point))) for point in range(0x110000))
    table = {point: kinds[category] for point, category in categories if category in kinds}
    return table | {ord(character): plain for character, plain in _PUNCTUATION.items()}
