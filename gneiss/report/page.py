"""One page of HTML about a run, which needs no network and no other file: overview, funnel, filters, examples."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from gneiss.annotation import Annotator
from gneiss.filters.catalogue import PAGES
from gneiss.filters.page import Page
from gneiss.output.dataset_card import said_by_annotators
from gneiss.output.finished_run import FinishedRun
from gneiss.output.sources import sources
from gneiss.recipe.phase import Phase
from gneiss.report.by_value import breakdown
from gneiss.report.counting import MEASURES, Outcomes, outcomes
from gneiss.report.cuts import first_copies, passages
from gneiss.report.distributions import distribution, labels, quantiles, shown_range, thresholds
from gneiss.report.examples import SHARDS, Example, examples
from gneiss.report.markup import marked, shown, table
from gneiss.report.scores import correlations, drift, warnings
from gneiss.report.tables import combinations, funnel, marginal, overview, rules, rules_by_filter, summary
from gneiss.store.place import Address
from gneiss.version import __version__

if TYPE_CHECKING:
    import altair as alt

#: The most values of a label by which documents are broken down, and shards that are compared.
_VALUES, _SHARDS = 20, 40
#: Passages that are shown of those that were cut.
_PASSAGES = 10


def report_page(run: FinishedRun, *, input: Address | None = None, by: Sequence[str] = ()) -> str:
    """A page about a run, finished or not, as HTML of a few MB at most.

    Parameters: `input`: what was given to the run, for texts of dropped documents; `by`: further columns by which
    documents are broken down (see `breakdown`). Raises InputError.
    """
    counted = outcomes(run)
    page = _Page()
    page.add("Overview", "overview", _overview(page, run, counted))
    page.add("Rules", "rules", _rules(page, counted))
    of = sources(run, input)
    for phase in run.recipe.phases:
        found = examples(of, phase)
        for annotator in phase.annotators:
            title, parts = _filter(page, run, phase, annotator, found)
            page.add(title, f"filter-{len(page.sections)}", parts)
    page.add("Scores together", "scores", _scores(page, run))
    page.add("By value", "values", _values(page, run, by, input))
    page.add("Shards", "shards", _shards(page, run))
    page.add("Dedup", "dedup", _dedup(run, input))
    page.add("Quarantine", "quarantine", _quarantine(run))
    return page.html(run)


class _Page:
    """Sections in order, and the charts in them."""

    def __init__(self) -> None:
        self.sections: list[tuple[str, str, str]] = []
        self._charts: list[dict[str, Any]] = []

    def add(self, title: str, anchor: str, parts: Iterable[str]) -> None:
        if content := "".join(parts):
            self.sections.append((title, anchor, content))

    def chart(self, chart: alt.TopLevelMixin, *, wide: bool = True) -> str:
        """A place for a chart; wide: as wide as the page, else as it is, and scrolled."""
        self._charts.append(chart.to_dict(validate=False))
        kind = "chart" if wide else "chart scroll"
        scrolled = "" if wide else ' tabindex=0 role=region aria-label="chart"'
        return f'<div class="{kind}"{scrolled}><div data-chart={len(self._charts) - 1}></div></div>'

    def html(self, run: FinishedRun) -> str:
        style, script = (_resource(f"page.{kind}") for kind in ("css", "js"))
        library = _vega()
        data = json.dumps(self._charts).replace("<", "\\u003c")
        scripts = " ".join(f"'sha256-{_sha256(source)}'" for source in (library, script))
        policy = f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'unsafe-eval' {scripts}"
        links = "".join(f'<a href="#{anchor}">{shown(title)}</a>' for title, anchor, _ in self.sections)
        body = "".join(
            f'<section id="{anchor}"><h2>{shown(title)}</h2>{content}</section>'
            for title, anchor, content in self.sections
        )
        name = shown(run.recipe.name)
        return (
            f'<!doctype html><html lang=en><head><meta charset=utf-8><meta http-equiv="Content-Security-Policy"'
            f' content="{policy}"><meta name=viewport content="width=device-width, initial-scale=1">'
            f'<meta name=color-scheme content="light dark"><title>{name}: report</title><style>{style}</style></head>'
            f"<body><header><h1>{name}</h1><p>{shown(summary(run))}</p><nav aria-label=Sections>{links}</nav></header>"
            f"<main>{body}</main>"
            f"<footer>Written by gneiss {__version__}.</footer>"
            f"<script type=application/json id=charts>{data}</script><script>{library}</script>"
            f"<script>{script}</script></body></html>\n"
        )


def _overview(page: _Page, run: FinishedRun, counted: Outcomes) -> Iterator[str]:
    if description := run.recipe.description.strip():
        yield f"<p>{shown(' '.join(description.split()))}</p>"
    found = warnings(counted)
    if found.num_rows:
        items = "".join(f"<li><code>{shown(row['what'])}</code>: {shown(row['why'])}</li>" for row in found.to_pylist())
        yield f"<div class=warning role=note><strong>Check these</strong><ul>{items}</ul></div>"
    yield table(_without_nulls(overview(counted)))
    if cut := run.counts["dedup_bytes"]:
        yield f"<p class=note>Bytes and tokens are those of texts after dedup, which cut {cut:,} bytes.</p>"
    for paragraph in said_by_annotators(run.recipe, run.statistics):
        yield f"<p>{shown(paragraph)}</p>"
    yield "<h3>Where documents go</h3>"
    flow = funnel(counted)
    yield page.chart(_charts().funnel_chart(flow))
    yield table(_without_nulls(flow))


def _rules(page: _Page, counted: Outcomes) -> Iterator[str]:
    of_rules, effects, together = rules(counted), marginal(counted), combinations(counted)
    measure = "tokens" if counted.counts_tokens else "bytes"
    kept = overview(counted).to_pylist()[1][measure]
    for phase in counted.recipe.phases:
        if not phase.rules:
            continue
        of_phase = pa.Table.from_pylist([r for r in of_rules.to_pylist() if r["phase"] == phase.name], of_rules.schema)
        changes = pa.Table.from_pylist([r for r in effects.to_pylist() if r["phase"] == phase.name], effects.schema)
        yield f"<h3>Phase {shown(phase.name)}</h3><p>Kept when <code>{shown(phase.decision.keep)}</code>.</p>"
        yield page.chart(_charts().rules_chart(of_rules, phase.name))
        failing = {name: f"{name} failing" for name in MEASURES}
        yield table(_without_nulls(of_phase.drop_columns("phase")), headings=failing, code=["condition"])
        yield "<p class=note>Failing: the rule is false or unknown. Decisive: it alone drops them.</p>"
        yield (
            f"<h4>Without it</h4><p>What the phase would pass on in addition without the rule, or without all rules of"
            f" the filter: in {measure}, as a share of what is kept. Negative if a rule is an alternative.</p>"
        )
        yield page.chart(_charts().effects_chart(changes, kept, measure))
        yield table(_without_nulls(changes.select(["name", "kind", "rules", *MEASURES])), signed=True)
        yield "<h4>Which rules fail together</h4><p>A column for each set of rules, the most frequent first.</p>"
        yield page.chart(_charts().combinations_chart(together, phase.name), wide=False)
    yield ""


def _filter(
    page: _Page, run: FinishedRun, phase: Phase, annotator: Annotator, found: Sequence[Example]
) -> tuple[str, list[str]]:
    key = annotator.key or type(annotator).__name__
    own = rules_by_filter(run.recipe, phase).get(key, [])
    title = f"Filter {key}"
    parts = [_about(about) for about in PAGES if about.key == key and (not about.rules or set(about.rules) & set(own))]
    limits = thresholds(phase, run.recipe.columns)
    for column in annotator.columns:
        statistics = run.statistics.columns.get(column.name)
        if statistics is None or not statistics.bins:
            continue
        own_limits = [limit for limit in limits if limit.annotation == column.name]
        parts.append(f"<h3>{shown(column.name)}</h3><p>{shown(column.meaning)}.</p>")
        bins = distribution(run, column.name)
        parts.append(page.chart(_charts().distribution_chart(bins, column.name, own_limits)))
        low, high = shown_range(statistics)
        parts.append(f"<p class=note>From {low:,.4g} to {high:,.4g}: the middle 99 % of the documents.</p>")
        for limit in own_limits:
            parts.append(_examples(run, phase, limit.rule, [one for one in found if one.threshold == limit]))
    return title, parts


def _about(page: Page) -> str:
    return (
        f"<p>{shown(page.code)} {shown(page.name)}: {shown(page.summary)}</p>"
        f"<details><summary>About this filter</summary>"
        f"<p>{shown(page.why)}</p><p>{shown(page.formula)}</p><p>Source: {shown(page.source)}.</p></details>"
    )


def _examples(run: FinishedRun, phase: Phase, rule: str, near: Sequence[Example]) -> str:
    if not near:
        return ""
    items = "".join(
        f"<article><p><b>{example.value:,.6g}</b> · {shown(example.status)}"
        + (f" · fails {shown(', '.join(example.failed))}" if example.failed else "")
        + f" · <code>{shown(example.id or '–')}</code> (row {example.row:,} of {shown(example.shard)})</p>"
        + f"{_text(example)}</article>"
        for example in near
    )
    of = f", from {SHARDS} of {len(run.shards):,} shards" if len(run.shards) > SHARDS else ""
    return (
        f"<details><summary>Documents near {near[0].threshold.value:g} (<code>{shown(rule)}</code>:"
        f" <code>{shown(phase.rules[rule])}</code>){of}</summary>{items}</details>"
    )


def _text(example: Example) -> str:
    if example.text is None:
        return "<p class=note>Its text is only in the input, which was not given.</p>"
    return f"<pre tabindex=0>{marked(example.text, example.marked)}</pre>"


def _scores(page: _Page, run: FinishedRun) -> Iterator[str]:
    names = _scores_of_rules(run)
    if len(names) > 1:
        found = correlations(run, names)
        documents = max(row["documents"] for row in found.to_pylist())
        of = f"a sample of {documents:,} documents" if documents < 0.9 * run.counts["rows"] else "all documents"
        yield f"<p>Rank correlation of the scores that rules read, over {of}.</p>"
        yield page.chart(_charts().correlations_chart(found), wide=False)
    yield f"<h3>Quantiles</h3>{table(quantiles(run))}"
    counted = labels(run)
    if counted.num_rows:
        yield f"<h3>Labels</h3>{table(counted)}"


def _scores_of_rules(run: FinishedRun) -> list[str]:
    """The numeric annotations that rules compare with a number; all, where these are fewer than two."""
    read = {limit.annotation for phase in run.recipe.phases for limit in thresholds(phase, run.recipe.columns)}
    return [name for name, column in run.statistics.columns.items() if column.bins and (name in read or len(read) < 2)]


def _values(page: _Page, run: FinishedRun, by: Sequence[str], input: Address | None) -> Iterator[str]:
    known = [name for name, column in run.statistics.columns.items() if column.values]
    for name in dict.fromkeys([*known, *by]):
        found = breakdown(run, name, input=input, most=_VALUES)
        yield f"<h3>{shown(name)}</h3>{page.chart(_charts().breakdown_chart(found, name))}"
        yield table(_without_nulls(found))


def _shards(page: _Page, run: FinishedRun) -> Iterator[str]:
    yield (
        "<p>How far the mean of each score lies from that of all shards, in standard deviations of the score;"
        " the farthest shards first.</p>"
    )
    yield page.chart(_charts().drift_chart(drift(run, _scores_of_rules(run)), _SHARDS), wide=False)


def _dedup(run: FinishedRun, input: Address | None) -> Iterator[str]:
    places = first_copies(run)
    if places.num_rows:
        counts = run.counts
        yield (
            f"<p>{counts['dedup_bytes']:,} bytes were cut. {counts['orphaned_bytes']:,} of them were cut from kept"
            " documents although the document with the first copy is not kept.</p>"
        )
        of_passage = ["copies", "cut_bytes", "size_bytes", "text", "source_shard", "source_row"]
        most = _without_nulls(_unfinished(passages(run, _PASSAGES, input=input).select(of_passage)))
        yield f"<h3>Where first copies are</h3>{table(places)}<h3>Largest cuts</h3>{table(most)}"


def _unfinished(found: pa.Table) -> pa.Table:
    """Passages whose texts end with an ellipsis where they are beginnings only."""
    rows = [
        {**row, "text": f"{row['text']}…"} if row["text"] and len(row["text"].encode()) < row["size_bytes"] else row
        for row in found.to_pylist()
    ]
    return pa.Table.from_pylist(rows, found.schema)


def _quarantine(run: FinishedRun) -> Iterator[str]:
    if not run.statistics.reasons and not run.quarantined_shards:
        yield "<p>No document is in quarantine.</p>"
        return
    reasons = sorted(run.statistics.reasons.items(), key=lambda item: (-item[1], item[0]))
    yield table(
        pa.table(
            {"reason": [reason for reason, _ in reasons], "documents": pa.array([n for _, n in reasons], pa.int64())}
        )
    )
    if run.quarantined_shards:
        lost = run.quarantined_shards
        yield table(
            pa.table({"shard": pa.array(list(lost), pa.string()), "why": pa.array(list(lost.values()), pa.string())})
        )


def _without_nulls(rows: pa.Table) -> pa.Table:
    """Without the columns that nothing is known of, such as tokens where none are counted."""
    empty = [name for name in rows.column_names if rows.num_rows and rows[name].null_count == rows.num_rows]
    return rows.drop_columns(empty) if empty else rows


def _charts() -> Any:
    from gneiss.report import charts

    return charts


@cache  # it takes seconds
def _vega() -> str:
    """Vega, Vega-Lite and what draws them, as one script."""
    import vl_convert

    return str(vl_convert.javascript_bundle())


def _resource(name: str) -> str:
    return resources.files("gneiss.report").joinpath(name).read_text("utf-8")


def _sha256(content: str) -> str:
    return base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
