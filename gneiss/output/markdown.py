r"""Markdown that shows names and texts as they are, whatever they hold."""

from __future__ import annotations

import re

from gneiss.errors import printable


def code(text: object, in_table: bool = False) -> str:
    """A text as a code span.

    >>> code("a`b`")
    '`` a`b` ``'
    """
    shown = printable(text)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    blank = " " if not shown or "`" in (shown[0], shown[-1]) else ""
    span = f"{fence}{blank}{shown}{blank}{fence}"
    return span.replace("|", "\\|") if in_table else span


def plain(text: object) -> str:
    r"""A text as prose: none of its characters are markup.

    >>> print(plain("<b>no</b> *list*"))
    \<b\>no\</b\> \*list\*
    """
    return re.sub(r"[\\`*_\[\]<>&|~#]|^[-+=]|(?<=^\d)[.)]", r"\\\g<0>", printable(text))
