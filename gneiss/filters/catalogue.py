"""The catalogue: every packaged filter, from the file of each. A new filter is a file, named in `MODULES`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from gneiss.annotation import Annotator
from gneiss.edit import Editor
from gneiss.filters import (
    c4,
    contamination,
    encoder,
    evaluation_items,
    fasttext,
    fineweb,
    fusion,
    gopher,
    input_column,
    language,
    membership,
    perplexity,
    pii,
    pooled,
    readability,
    replaced_characters,
    route,
    tokens,
    urls,
)
from gneiss.filters.page import Page

Kind = TypeVar("Kind", Annotator, Editor)

#: In the order of the pages.
MODULES = (
    fasttext, readability, tokens, perplexity, membership, gopher, c4, fineweb, language, replaced_characters, urls,
    contamination, evaluation_items, pii, input_column, fusion, route, encoder, pooled,
)  # fmt: skip


def _of_kind(kind: type[Kind]) -> dict[str, type[Kind]]:
    """Key → class, of all modules' own classes of a kind."""
    found = (value for module in MODULES for value in vars(module).values() if isinstance(value, type))
    return {value.key: value for value in found if issubclass(value, kind) and value is not kind}


#: What may stand under `annotate:` and under `edit:` in a recipe, by key: frozen dataclasses.
ANNOTATORS: Mapping[str, type[Annotator]] = _of_kind(Annotator)
EDITORS: Mapping[str, type[Editor]] = _of_kind(Editor)
PAGES: tuple[Page, ...] = tuple(page for module in MODULES for page in module.PAGES)
#: What may stand under `filters:` in a recipe: an annotator with the rules published for it.
FILTERS: Mapping[str, Page] = {page.name: page for page in PAGES if not page.is_edit}
