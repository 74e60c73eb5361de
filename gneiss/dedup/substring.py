"""Exact substring deduplication: duplicate spans of a corpus."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

import numpy as np
import pyarrow as pa

from gneiss.arrays import UInt64Array
from gneiss.batch import TextBatch, Texts
from gneiss.dedup.preference import order_of
from gneiss.dedup.repeats import POLICIES, Policy, Repeats, cuts
from gneiss.dedup.spans import Spans, compact
from gneiss.dedup.units import Tokenizer, Units
from gneiss.errors import InputError

Engine: TypeAlias = Literal["anchors", "suffix-array"]
Unit: TypeAlias = Literal["bytes", "tokens"]


def duplicate_spans(
    texts: Texts,
    *,
    min_length: int = 200,
    unit: Unit = "bytes",
    tokenizer: Tokenizer | None = None,
    engine: Engine = "anchors",
    policy: Policy = "protect",
    fill_gaps: float = 1.0,
    first_by: Sequence[float | None] | pa.Array | None = None,
) -> Spans:
    """Every span of `min_length` units or more that also occurs earlier in the texts.

    Parameters:
      texts: (documents,) strings, a list or an Arrow array; nulls are ignored. Their order is that of the corpus.
      min_length: units of a window; 200 bytes, or 50 tokens for GneissWeb's threshold.
      unit: `bytes` of UTF-8, or `tokens` of `tokenizer`.
      engine: `anchors` (fast) or `suffix-array` (the reference); the answer is the same.
      policy: `protect` cuts repeats but no unit of a first copy; `union` cuts all repeats; `all` cuts first copies too.
      fill_gaps: also cut the text between cuts that cover at least this share of a stretch, such as 0.95; 1: never.
        Under `protect`, gaps with a unit of a first copy are kept.
      first_by: (documents,) numbers or flags that order the documents: largest first, missing last, ties by position;
        by default the order of the texts.
    Raises InputError for an unknown unit, engine or policy, a `min_length` below 1, an invalid share, tokens without
    a tokenizer, and a `first_by` of another length.
    Source: Lee et al. 2022, Deduplicating Training Data Makes Language Models Better, section 4.1 (`all`).

    >>> from gneiss.dedup import duplicate_spans
    >>> texts = ["Terms of use apply. First text.", "Second text. Terms of use apply."]
    >>> spans = duplicate_spans(texts, min_length=12)
    >>> spans.table.to_pylist()
    [{'document': 1, 'start': 13, 'end': 32, 'source_document': 0, 'source_start': 0}]
    >>> spans.cut(texts).to_pylist()
    ['Terms of use apply. First text.', 'Second text. ']
    """
    batch, positions = compact(texts)
    order = None
    if first_by is not None:
        measure = first_by if isinstance(first_by, pa.Array) else pa.array(first_by)
        if len(measure) != len(texts):
            raise InputError(f"first_by: expected one for each of {len(texts)} texts, found {len(measure)}")
        order = order_of(measure)[positions]
    spans = find_spans(
        batch,
        min_length=min_length,
        unit=unit,
        tokenizer=tokenizer,
        engine=engine,
        policy=policy,
        fill_gaps=fill_gaps,
        order=order,
    )
    return spans.renumbered(positions)


def find_spans(
    batch: TextBatch,
    *,
    min_length: int = 200,
    unit: Unit = "bytes",
    tokenizer: Tokenizer | None = None,
    engine: Engine = "anchors",
    policy: Policy = "protect",
    fill_gaps: float = 1.0,
    order: UInt64Array | None = None,
) -> Spans:
    """The duplicate spans of a batch that holds the whole scope; parameters and errors as for `duplicate_spans`.

    order: uint64 (documents,), from `order_of`: documents come in this order, then as they are.
    """
    _one_of("unit", unit, get_args(Unit))
    _one_of("engine", engine, get_args(Engine))
    _one_of("policy", policy, POLICIES)
    if min_length < 1:
        raise InputError(f"min_length: expected 1 or more, found {min_length}")
    if not 0 < fill_gaps <= 1:
        raise InputError(f"fill_gaps: expected a share above 0, up to 1, found {fill_gaps}")
    if order is not None:
        ranked = np.argsort(order, kind="stable")
        batch = TextBatch.of(batch.to_arrow().take(pa.array(ranked)))
    units = _units(batch, unit, tokenizer)
    found = cuts(_repeats(units, min_length, engine), units.bounds, min_length, policy, fill_gaps=fill_gaps)
    start, end = units.byte_offsets(found.document, found.start), units.byte_offsets(found.document, found.end)
    source_start = units.byte_offsets(found.source_document, found.source_start)
    holds_bytes = start < end  # a token may be empty
    columns = (found.document, start, end, found.source_document, source_start)
    spans = Spans.of_arrays(*(column[holds_bytes] for column in columns))
    return spans if order is None else spans.renumbered(ranked)


def _units(batch: TextBatch, unit: Unit, tokenizer: Tokenizer | None) -> Units:
    if unit == "bytes":
        return Units.of_bytes(batch)
    if tokenizer is None:
        raise InputError("tokenizer: the unit `tokens` needs one")
    return Units.of_tokens(batch, tokenizer.tokens(batch))


def _repeats(units: Units, min_length: int, engine: Engine) -> Repeats:
    from gneiss.dedup import suffix_array
    from gneiss.dedup.anchors import engine as anchors

    find = anchors.find_repeats if engine == "anchors" else suffix_array.find_repeats
    return find(units.values, units.bounds, min_length)


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InputError(f"{name}: expected one of {', '.join(allowed)}, found {value!r}")
