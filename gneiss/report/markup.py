"""HTML of a report: tables and texts in which nothing of a document acts, whatever it holds."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from html import escape
from typing import Any

import pyarrow as pa

from gneiss.errors import printable

#: The most characters of a cell.
_CELL_CHARACTERS = 500
_LONG_CHARACTERS = 40


def shown(text: object, keep: str = "") -> str:
    r"""A name, id or text as HTML: no markup, no control characters, nothing that reorders text.

    >>> shown("<b>\u202e")
    '&lt;b&gt;\\u202e'
    """
    return escape(printable(text, keep=keep))


def table(
    rows: pa.Table,
    *,
    headings: Mapping[str, str] | None = None,
    code: Collection[str] = (),
    signed: bool = False,
    most: int = 200,
) -> str:
    """A table; numbers have thousands separators, and what is missing is a dash.

    Parameters: `headings`: of columns that are called otherwise; `code`: columns that hold code; `signed`: numbers are
    changes; `most`: rows.
    """
    names, headings = rows.column_names, headings or {}
    if not rows.num_rows:
        return "<p>none</p>"
    kinds = {name: " class=number" if _is_number(rows.schema.field(name).type) else "" for name in names}
    head = "".join(
        f"<th scope=col{kinds[name]}>{shown(headings.get(name, name.replace('_', ' ')))}</th>" for name in names
    )
    ways = {name: ("<code>", "</code>") if name in code else ("", "") for name in names}
    sign = "+" if signed else ""
    cells = (
        "".join(
            f"<td{kinds[name] or _width(row[name])}>{ways[name][0]}{_cell(row[name], sign)}{ways[name][1]}</td>"
            for name in names
        )
        for row in rows.slice(0, most).to_pylist()
    )
    body = "".join(f"<tr>{row}</tr>" for row in cells)
    left_out = f"<p>{rows.num_rows - most:,} more rows are not shown.</p>" if rows.num_rows > most else ""
    return (
        f'<div class=scroll tabindex=0 role=region aria-label="table"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>{left_out}"
    )


def marked(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """A text with passages marked, [start, end) in characters, sorted and disjoint."""
    parts, at = [], 0
    for start, end in spans:
        parts += [shown(text[at:start], "\n\t"), "<mark>", shown(text[start:end], "\n\t"), "</mark>"]
        at = end
    return "".join([*parts, shown(text[at:], "\n\t")])


def _cell(value: Any, sign: str = "") -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:{sign if value else ''},}"
    if isinstance(value, float):
        return f"{value:{sign},.0f}" if 1000 <= abs(value) < float("inf") else f"{value:{sign}.4g}"
    text = (", ".join(map(str, value)) or "none") if isinstance(value, list) else str(value)
    return shown(text if len(text) <= _CELL_CHARACTERS else f"{text[:_CELL_CHARACTERS]}…", "\n\t")


def _width(value: Any) -> str:
    """The class of a cell that would have a word a line where the page is narrow."""
    return " class=long" if len(str(value)) > _LONG_CHARACTERS else ""


def _is_number(type_: pa.DataType) -> bool:
    return bool(pa.types.is_integer(type_) or pa.types.is_floating(type_))
