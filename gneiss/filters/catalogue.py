"""The catalogue: recipe key → annotator or editor, and every filter's page. A new filter is a file, named here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gneiss.annotation import Annotator
from gneiss.filters import (
    c4,
    contamination,
    fasttext,
    fineweb,
    gopher,
    language,
    membership,
    perplexity,
    pii,
    readability,
    tokens,
    urls,
)
from gneiss.filters.page import Page

if TYPE_CHECKING:
    from gneiss.edit import Editor

#: What may stand under `annotate:` in a recipe. The values are frozen dataclasses; their fields are the parameters.
ANNOTATORS: dict[str, type[Annotator]] = {
    "c4": c4.C4,
    "contamination": contamination.Contamination,
    "fasttext": fasttext.FastText,
    "fineweb": fineweb.FineWeb,
    "gopher_quality": gopher.GopherQuality,
    "gopher_repetition": gopher.GopherRepetition,
    "language": language.Language,
    "membership": membership.Membership,
    "perplexity": perplexity.Perplexity,
    "readability": readability.Readability,
    "tokens": tokens.Tokens,
    "urls": urls.Urls,
}

#: What may stand under `edit:` in a recipe.
EDITORS: dict[str, type[Editor]] = {
    "c4_lines": c4.C4Lines,
    "pii": pii.Pii,
}

PAGES: tuple[Page, ...] = (
    *fasttext.PAGES,
    *readability.PAGES,
    *tokens.PAGES,
    *perplexity.PAGES,
    *membership.PAGES,
    *gopher.PAGES,
    *c4.PAGES,
    *fineweb.PAGES,
    *language.PAGES,
    *urls.PAGES,
    *contamination.PAGES,
    *pii.PAGES,
)
