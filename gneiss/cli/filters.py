"""`gneiss filters`: the list of filters, and the page of each."""

from __future__ import annotations

from typing import Annotated

import typer

from gneiss.cli.terminal import console, say, table
from gneiss.errors import RecipeError


def filters(
    code: Annotated[str | None, typer.Argument(help="Code of a filter, such as GW01. Default: list all.")] = None,
) -> None:
    """List the filters, or print the page of one.

    Example: gneiss filters GW03
    """
    from gneiss.errors import did_you_mean
    from gneiss.filters.catalogue import PAGES
    from gneiss.filters.page import markdown

    out = console()
    if code is None:
        rows = table("code", "filter", "what", "rules")
        for page in PAGES:
            rows.add_row(page.code, page.name, page.summary, ", ".join(page.rules))
        out.print(rows)
        return
    by_code = {page.code: page for page in PAGES}
    if code.upper() not in by_code:
        raise RecipeError(f"no filter {code!r}{did_you_mean(code.upper(), by_code)}")
    text = markdown(by_code[code.upper()])
    if out.is_terminal:
        from rich.markdown import Markdown

        out.print(Markdown(text))
    else:
        say(text, end="")
