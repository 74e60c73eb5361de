"""Curating written out slowly, one document after another: what `curate` is held to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import xxhash

from tests.dedup import oracle as dedup_oracle

MIN_LENGTH = 5
RECIPE = """
- name: first
  rules:
    long: text_chars > 2
    plain: text_bytes = text_chars
  keep: long OR plain
- name: second
  dedup: {{min_length: 5, policy: {policy}}}
  rules:
    enough: text_bytes >= 4
    fresh: dedup_fraction < 0.5
    calm: dedup_repeated_bytes < 12
  keep: enough AND (fresh OR calm)
"""
Row = dict[str, Any]


@dataclass(frozen=True)
class Expected:
    """Rows of the annotation shard, the kept texts by row, and the counts."""

    rows: list[Row]
    kept: dict[int, bytes]
    edited: dict[int, bool]
    counts: dict[str, int]


def curated(texts: Sequence[bytes | None], policy: str) -> Expected:
    """Take texts (None: null) through RECIPE."""
    rows: list[Row] = [
        {
            "row": i,
            "status": "kept",
            "reason": _reason(text),
            "dropped_in": None,
            "failed": [],
            "decisive": [],
            "content_hash": None,
            "text_bytes": None,
            "text_chars": None,
            "dedup_bytes": None,
            "dedup_fraction": None,
            "dedup_repeated_bytes": None,
            "dedup_cuts": None,
        }
        for i, text in enumerate(texts)
    ]
    usable: dict[int, bytes] = {}
    for row, text in zip(rows, texts, strict=True):
        if row["reason"]:
            row["status"] = "quarantined"
        elif text is not None:
            usable[row["row"]] = text

    for i, text in usable.items():
        _measure(rows[i], text)
        long, plain = rows[i]["text_chars"] > 2, rows[i]["text_bytes"] == rows[i]["text_chars"]
        _decide(rows[i], "first", {"long": long, "plain": plain}, lambda t: t["long"] or t["plain"])

    entering = [i for i in usable if rows[i]["dropped_in"] is None]
    cuts = cuts_of([usable[i] for i in entering], policy)
    for position, i in enumerate(entering):
        own = [cut for cut in cuts if cut[0] == position]
        removed = sum(end - start for _, start, end, _, _ in own)
        text = usable[i]
        rows[i] |= {
            "dedup_bytes": removed,
            "dedup_fraction": removed / len(text) if text else None,
            "dedup_repeated_bytes": sum(end - start for _, start, end, source, _ in cuts if source == position),
            "dedup_cuts": [
                {"start": a, "end": b, "source_shard": None, "source_row": entering[source], "source_start": at}
                for _, a, b, source, at in own
            ],
        }
        for _, start, end, _, _ in reversed(own):
            text = text[:start] + text[end:]
        usable[i] = text
        _measure(rows[i], text)
        fraction = rows[i]["dedup_fraction"]
        truths = {
            "enough": len(text) >= 4,
            "fresh": None if fraction is None else fraction < 0.5,
            "calm": rows[i]["dedup_repeated_bytes"] < 12,
        }
        _decide(rows[i], "second", truths, lambda t: t["enough"] and (t["fresh"] is True or t["calm"]))

    kept = {row["row"]: usable[row["row"]] for row in rows if row["status"] == "kept"}
    lost = [end - start for p, start, end, s, _ in cuts if entering[p] in kept and entering[s] not in kept]
    statuses = [row["status"] for row in rows]
    counts = {
        "rows": len(rows),
        **{status: statuses.count(status) for status in ("kept", "dropped", "quarantined")},
        "repeated_ids": 0,
        "input_text_bytes": sum(len(text or b"") for text in texts),
        "kept_text_bytes": sum(map(len, kept.values())),
        "dedup_bytes": sum(end - start for _, start, end, _, _ in cuts),
        "orphaned_bytes": sum(lost),
    }
    return Expected(rows, kept, {i: kept[i] != texts[i] for i in kept}, counts)


def cuts_of(texts: list[bytes], policy: str) -> list[dedup_oracle.Row]:
    """The cuts by definition, those that touch moved inwards together to whole characters."""
    cuts: list[dedup_oracle.Row] = []
    numbered = list(enumerate(dedup_oracle.rows(texts, MIN_LENGTH, policy)))
    ends = {(cut[0], cut[2]): i for i, cut in numbered}
    group_of: dict[int, int] = {}
    for i, cut in numbered:
        before = ends.get((cut[0], cut[1]))
        group_of[i] = i if before is None else group_of[before]
    for _, members in groupby(numbered, key=lambda numbered_cut: group_of[numbered_cut[0]]):
        group = [cut for _, cut in members]
        text, start, end = texts[group[0][0]], group[0][1], group[-1][2]
        while start < end and _inside_character(text, start):
            start += 1
        while start < end and _inside_character(text, end):
            end -= 1
        for document, a, b, source, at in group:
            low, high = max(a, start), min(b, end)
            if low < high:
                cuts.append((document, low, high, source, at + low - a))
    return cuts


def _inside_character(text: bytes, at: int) -> bool:
    return at < len(text) and text[at] & 0xC0 == 0x80


def _reason(text: bytes | None) -> str | None:
    if text is None:
        return "null text"
    try:
        text.decode()
    except UnicodeDecodeError:
        return "invalid UTF-8"
    return None


def _measure(row: Row, text: bytes) -> None:
    row |= {
        "text_bytes": len(text),
        "text_chars": len(text.decode()),
        "content_hash": xxhash.xxh3_128_digest(text),
    }


def _decide(row: Row, phase: str, truths: dict[str, bool | None], keep: Any) -> None:
    kept = keep(truths) is True
    row["failed"] = row["failed"] + [name for name, truth in truths.items() if truth is not True]
    for name, truth in truths.items():
        if not kept and keep({**truths, name: truth is not True}) is True:
            row["decisive"] = [*row["decisive"], name]
    if not kept:
        row["dropped_in"], row["status"] = phase, "dropped"
