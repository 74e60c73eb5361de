"""Annotators inside a policy: packaged models that a router runs by itself, on the documents only that need them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gneiss.annotation import Annotator
from gneiss.errors import ModelError, did_you_mean
from gneiss.filters.encoder import Encoder
from gneiss.filters.fasttext import FastText
from gneiss.filters.perplexity import Perplexity
from gneiss.filters.pooled import Pooled
from gneiss.routing.policy import Scorer

#: Those that a policy may name; whatever else computes a score is an annotator of the recipe, whose column it names.
_KINDS: Mapping[str, type[Annotator]] = {kind.key: kind for kind in (FastText, Perplexity, Encoder, Pooled)}


def annotator_of(scorer: Scorer) -> Annotator | None:
    """The annotator of a scorer; None where the recipe has it. Raises ModelError for what is none, or lacks the column.

    >>> annotator_of(Scorer("perplexity", 500.0, "below", {"perplexity": {"model": "en.bin"}})).model_files
    ('en.bin',)
    """
    from pydantic import TypeAdapter, ValidationError

    if scorer.annotator is None:
        return None
    if len(scorer.annotator) != 1:
        raise ModelError(f"{scorer.column}: annotator: expected one NAME: {{parameters}}")
    ((name, parameters),) = scorer.annotator.items()
    if name not in _KINDS:
        raise ModelError(
            f"{scorer.column}: annotator: a router can run {', '.join(_KINDS)}{did_you_mean(name, _KINDS)}; others"
            " belong under `annotate:` of the recipe, and their columns here without annotator"
        )
    try:
        found: Annotator = TypeAdapter[Any](_KINDS[name]).validate_python(parameters)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        raise ModelError(f"{scorer.column}: annotator: {name}: {where}: {fault['msg']}") from error
    columns = {column.name: column.type for column in found.columns}
    if columns.get(scorer.column, "string") == "string":
        raise ModelError(
            f"{scorer.column}: {name} computes no number of this name{did_you_mean(scorer.column, columns)}"
        )
    return found
