"""`gneiss sweep`: what a finished run would keep under other thresholds."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from gneiss.cli.options import Changes, RecipeArgument, load_recipe
from gneiss.cli.terminal import console, say, table
from gneiss.errors import InputError, printable

if TYPE_CHECKING:
    from gneiss.report.decisions import Amount
    from gneiss.report.sweeping import Swept, Unit

#: The most values of a range.
_MOST_VALUES = 1000


def sweep(
    recipe: RecipeArgument,
    input: Annotated[str, typer.Option("--input", "-i", help="Output folder of a finished run.")],
    vary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RULE.ANNOTATION=VALUES",
            help="Threshold values, as 0.1,0.2 or FROM:TO:STEP. Repeat for combinations. Default: each by itself.",
        ),
    ] = None,
    keep_tokens: Annotated[
        float | None, typer.Option(min=0, max=1, help="Find the threshold that keeps this share of tokens.")
    ] = None,
    keep_documents: Annotated[
        float | None, typer.Option(min=0, max=1, help="Find the threshold that keeps this share of documents.")
    ] = None,
    tokens: Annotated[str | None, typer.Option(help="Annotation that counts tokens.")] = None,
    by: Annotated[str | None, typer.Option(help="Group the counts by this annotation, such as a category.")] = None,
    changes: Changes = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
) -> None:
    """Count exactly what other thresholds would keep of a finished run, from its stored annotations.

    Example: gneiss sweep demo/demo.yaml --input demo/curated --vary quality.prose=0.05:0.4:0.05
    """
    from gneiss.output.finished_run import open_run
    from gneiss.report import sweep as sweep_all
    from gneiss.report.sweeping import assumed

    run, loaded = open_run(input), load_recipe(recipe, changes, input)
    targets: dict[Unit, float | None] = {"tokens": keep_tokens, "documents": keep_documents}
    given = {unit: share for unit, share in targets.items() if share is not None}
    if given:
        swept = [_picked(run, loaded, vary or [], given, tokens, by)]
    else:
        values = dict(map(_varied, vary)) if vary else None
        swept = sweep_all(run, loaded, values, tokens=tokens, by=by)
    if as_json:
        say(json.dumps([_as_json(setting) for setting in swept], indent=1, ensure_ascii=False))
        return
    _print(swept)
    for step in assumed(run, loaded):
        say(f"warning: {step} found repeats among the documents of the run; by these rules it would see others")


def _picked(
    run: Any, recipe: Any, vary: Sequence[str], given: Mapping[Unit, float], tokens: str | None, by: str | None
) -> Swept:
    from gneiss.report import pick

    if len(vary) != 1 or "=" in vary[0] or len(given) != 1:
        raise InputError("to pick a threshold, name it (--vary RULE.ANNOTATION, without values) and one target")
    ((unit, share),) = given.items()
    return pick(run, recipe, vary[0], share, unit, tokens=tokens, by=by)


def _varied(given: str) -> tuple[str, list[float]]:
    """A threshold and its values, from `RULE.ANNOTATION=VALUES`. Raises InputError."""
    name, _, listed = given.partition("=")
    number = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?"
    if re.fullmatch(rf"{number}(?:,{number})*", listed, re.IGNORECASE):
        return name, [float(number) for number in listed.split(",")]
    if found := re.fullmatch(rf"({number}):({number}):({number})", listed, re.IGNORECASE):
        start, stop, step = map(float, found.groups())
        if step > 0 and 0 <= (count := (stop - start) / step + 1e-9) < _MOST_VALUES:
            return name, [round(start + step * number, 12) for number in range(int(count) + 1)]
    raise InputError(
        f"--vary {given}: expected RULE.ANNOTATION=VALUES, at most {_MOST_VALUES:,} values as 0.1,0.2 or FROM:TO:STEP"
    )


def _print(swept: Sequence[Swept]) -> None:
    """A table for each combination of thresholds that are varied together."""
    from gneiss.report.decisions import total

    out = console()
    together: dict[tuple[str, ...], list[Swept]] = {}
    for setting in swept:
        together.setdefault(tuple(setting.values), []).append(setting)
    for names, group in together.items():
        groups = sorted({name for setting in group for name in setting.decided.kept}, key=str)
        by_group = groups if groups != [None] else []
        whole, has_unknown = group[0].decided.all, any(setting.decided.unknown for setting in group)
        has_tokens = whole.tokens > 0
        rows = table(
            *(printable(name) for name in names), "documents", "share", "bytes", *(["tokens"] if has_tokens else []),
            *(["unknown"] if has_unknown else []), *(escape(printable(name)) for name in by_group),
        )  # fmt: skip
        for setting in group:
            kept = total(setting.decided.kept)
            rows.add_row(
                *(f"{value:.6g}" for value in setting.values.values()),
                f"{kept.documents:,}",
                _share(kept.documents, whole.documents),
                _share(kept.text_bytes, whole.text_bytes),
                *([_share(kept.tokens, whole.tokens)] if has_tokens else []),
                *([f"{total(setting.decided.unknown).documents:,}"] if has_unknown else []),
                *(
                    f"{setting.decided.kept[name].documents:,}" if name in setting.decided.kept else "0"
                    for name in by_group
                ),
            )
        out.print()
        out.print(rows)


def _share(part: int, whole: int) -> str:
    return f"{part / max(whole, 1):.2%}"


def _as_json(swept: Swept) -> dict[str, Any]:
    def amounts(groups: Mapping[str | None, Amount]) -> dict[str, dict[str, int]]:
        return {"" if name is None else name: vars(amount) for name, amount in sorted(groups.items(), key=str)}

    decided = swept.decided
    return {
        "values": dict(swept.values),
        "kept": amounts(decided.kept),
        "dropped": amounts(decided.dropped),
        "unknown": amounts(decided.unknown),
    }
