"""What the explorer shows, as HTML in which nothing of a document acts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from gneiss.errors import GneissError
from gneiss.output.finished_run import FinishedRun
from gneiss.output.sources import Sources
from gneiss.recipe.recipe import Recipe
from gneiss.report.decisions import Amount, Decided, total
from gneiss.report.distributions import distribution as distribution_of
from gneiss.report.distributions import thresholds
from gneiss.report.examples import beginnings
from gneiss.report.exploring import Change, ChangedRow, Session
from gneiss.report.markup import shown, table

if TYPE_CHECKING:
    import altair as alt

#: What can be edited.
EDITING = (
    "<p class=note>The SQL of each rule over annotations, and <code>keep</code> over the names of rules. A rule is used"
    " as soon as you leave its field; thresholds that you moved stay.</p>"
)
#: Groups of a table, and characters of a text.
_MOST_GROUPS, _CHARACTERS = 30, 2_000
#: White space that a text may have.
_LINES = "\n\t"
_MEASURES = {"documents": "documents", "bytes": "text_bytes", "tokens": "tokens"}
STYLE = """<style>
.gneiss h1 { font-size: 1.5rem; font-weight: 600; overflow-wrap: anywhere; }
.gneiss h2 { font-size: 1.25rem; font-weight: 600; margin-top: 1rem; }
.gneiss h3 { font-size: 1.05rem; font-weight: 600; margin-top: .75rem; }
.gneiss summary { cursor: pointer; }
.gneiss table { border-collapse: collapse; font-size: .9rem; }
.gneiss th, .gneiss td { padding: .25rem 1rem .25rem 0; text-align: left; border-bottom: 1px solid #8884; }
.gneiss .number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.gneiss .scroll { overflow-x: auto; }
@media (max-width: 40rem) { .gneiss th, .gneiss td { padding-right: .5rem; } }
.gneiss pre { white-space: pre-wrap; overflow-wrap: anywhere; max-height: 16rem; overflow: auto; padding: .75rem;
  background: #8881; border-radius: 4px; font-size: .85rem; }
.gneiss code { overflow-wrap: anywhere; }
.gneiss article { margin: .75rem 0; padding-left: 1rem; border-left: 3px solid #8884; }
.gneiss .note { opacity: .75; font-size: .9rem; }
</style>"""


def panel(*parts: str) -> str:
    """Parts of the page in its style."""
    return f"{STYLE}<div class=gneiss>{''.join(parts)}</div>"


def heading(session: Session) -> str:
    """What is session."""
    run = session.run
    rows = sum(shard.rows for shard in run.shards)
    said = f"{run.counts['kept']:,} of {rows:,} documents were kept by the recipe {run.recipe.name}."
    note = f"<p class=note>{shown(session.note)}</p>" if session.note else ""
    return panel(f"<h1>{shown(str(run.folder))}</h1><p>{shown(said)} Move a threshold to update the counts.</p>{note}")


def problem(error: GneissError) -> str:
    """Why the rules cannot be decided by."""
    return panel(f"<h2>These rules cannot be used</h2><pre>{shown(str(error), _LINES)}</pre>")


def condition(recipe: Recipe, phase: str, rule: str) -> str:
    """A rule as it is now."""
    rules = next(of.rules for of in recipe.phases if of.name == phase)
    return f"<p><b>{shown(rule)}</b> <code>{shown(rules[rule])}</code></p>"


def as_yaml(recipe: Recipe) -> str:
    """A recipe as it is written."""
    return f"<details><summary>{shown(recipe.name)}</summary><pre>{shown(recipe.to_yaml(), _LINES)}</pre></details>"


def distribution(run: FinishedRun, recipe: Recipe, annotation: str) -> alt.LayerChart:
    """A chart of an annotation in the run, with the thresholds of a recipe."""
    from gneiss.report.charts import distribution_chart

    limits = [at for phase in recipe.phases for at in thresholds(phase, recipe.columns) if at.annotation == annotation]
    chart = distribution_chart(distribution_of(run, annotation), annotation, limits)
    plain = chart.configure_legend(orient="top").configure_view(stroke=None).configure_axis(titleFontWeight="normal")
    return plain.properties(background="transparent", usermeta={"embedOptions": {"actions": False}})


def totals(before: Decided, after: Decided) -> str:
    """What is kept before and after, in documents, bytes and tokens; what is unknown is said."""
    kept = [total(outcomes.kept) for outcomes in (before, after)]
    every = before.all
    rows = [
        {
            "of": name,
            "kept by the run": getattr(kept[0], field),
            "by these rules": getattr(kept[1], field),
            "change": getattr(kept[1], field) - getattr(kept[0], field),
            "kept, %": 100 * getattr(kept[1], field) / max(getattr(every, field), 1),
        }
        for name, field in _MEASURES.items()
        if field != "tokens" or every.tokens
    ]
    unknown = total(after.unknown).documents
    note = (
        f"<p class=note>{unknown:,} more documents pass a phase that dropped them in the run. Their later"
        " annotations were not computed, so their end is unknown: <code>gneiss decide</code> computes it.</p>"
    )
    return table(pa.Table.from_pylist(rows)) + (note if unknown else "")


def by_group(before: Decided, after: Decided, by: str) -> str:
    """Kept documents and tokens before and after by the values of a column, the largest change first."""
    groups = sorted({*before.kept, *before.dropped, *after.kept}, key=str)
    was, now = ([outcomes.kept.get(group, Amount()) for group in groups] for outcomes in (before, after))
    documents = [one.documents for one in was], [one.documents for one in now]
    change = [b - a for a, b in zip(*documents, strict=True)]
    order = sorted(range(len(groups)), key=lambda at: (-abs(change[at]), -documents[0][at]))
    columns = {by: pa.array(groups, pa.string())}
    columns |= {"kept by the run": documents[0], "by these rules": documents[1], "change": change}
    if before.all.tokens:
        columns["tokens by these rules"] = [one.tokens for one in now]
        columns["change of tokens"] = [b.tokens - a.tokens for a, b in zip(was, now, strict=True)]
    return table(pa.table(columns).take(pa.array(order, pa.int64())), most=_MOST_GROUPS)


def changed(changes: Sequence[Change], sources: Sources) -> str:
    """Documents that came to another end, with the beginnings of their texts."""
    if not changes:
        return "<p>No document changes sides.</p>"
    rows: dict[str, set[int]] = {}
    for document in (document for change in changes for document in change.first):
        rows.setdefault(document.shard, set()).add(document.row)
    texts = beginnings(sources, rows, _CHARACTERS)
    return "".join(_changed(change, texts) for change in changes)


def _changed(change: Change, texts: Mapping[tuple[str, int], str]) -> str:
    some = f", the first {len(change.first)}" if len(change.first) < change.documents else ""
    documents = "".join(_document(document, texts.get((document.shard, document.row))) for document in change.first)
    return f"<h3>{change.before} → {change.after}: {change.documents:,} documents{some}</h3>{documents}"


def _document(row: ChangedRow, text: str | None) -> str:
    read = " · ".join(f"{name} = {_number(value)}" for name, value in row.values.items())
    body = "<p class=note>Its text is in the input only.</p>"
    if text is not None:
        body = f"<pre tabindex=0>{shown(text, _LINES)}</pre>"
    return f"<article><p><b>{shown(row.shard)}</b>, row {row.row:,}: {shown(read)}</p>{body}</article>"


def _number(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:,.4g}" if isinstance(value, float) else str(value)
