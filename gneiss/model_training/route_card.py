"""The card of a routing policy: agreement with its interval, cost, and simpler ways. No path, time or secret."""

from __future__ import annotations

from gneiss.errors import printable
from gneiss.model_training.source import markdown_table
from gneiss.output.markdown import code, plain
from gneiss.routing.pilot import Pilot
from gneiss.routing.policy import JudgeEntry, Scorer
from gneiss.version import __version__


def route_card(pilot: Pilot, name: str, failed: int) -> str:
    """The card, as Markdown that is also readable on a terminal.

    Parameters: `name`: of the policy's folder; `failed`: documents of the sample that the judge had no answer for.
    """
    policy, ways = pilot.policy, pilot.ways
    terms = policy.terms
    learning, choosing, saying = pilot.documents
    lines = [
        f"# {name}",
        "",
        f"A routing policy made by gneiss {__version__}: the cheapest tier of {len(policy.tiers)} that will do, or the"
        " judge.",
        "",
        f"On {saying:,} documents that it had not seen, its decisions agree with the judge's on"
        f" **{policy.calibration.agreement}**; {terms.sla:g} was asked for. That is what was measured on this corpus,"
        " no promise for another one: compare it with the audits of a run (`gneiss route agreement`).",
        "",
        pilot.advice,
        "",
        "## Ways to decide",
        "",
        *markdown_table(
            ("way", "agreement (95 % interval)", "cost of a document", "judge asked"),
            *((way.name, way.agreement, f"{way.cost:.3g}", f"{way.asked:.1%}") for way in ways),
        ),
        "",
        f"Costs are in {plain(policy.cost_unit)}, without audits, which ask the judge about"
        f" {terms.audit_share:.1%} of documents more: {policy.audits_cost:.3g} a document.",
        "",
        "## Tiers and judge",
        "",
        *markdown_table(
            ("tier", "keeps", "cost"),
            *((k, _scorer(tier.scorer), f"{tier.cost:.3g}") for k, tier in enumerate(policy.tiers)),
            ("judge", _judge(policy.judge), f"{policy.judge_cost:.3g}"),
        ),
        "",
        f"- documents: {learning:,} to learn from, {choosing:,} to choose the debt by, {saying:,} to say how it does"
        + (f"; {failed:,} that the judge had no answer for are left out" if failed else ""),
        f"- V {terms.thrift:g}, Q {policy.debt:g}, seed {terms.seed}; on failure of the judge: {terms.on_failure}",
        "",
        "## In a recipe",
        "",
        "```yaml",
        f"annotate: [{{route: {{policy: {name}/}}}}]",
        "rules: {routed: route_decision}",
        "```",
        "",
    ]
    return "\n".join(lines)


def _scorer(scorer: Scorer) -> str:
    return code(f"{scorer.column} {'>' if scorer.keeps == 'above' else '<'} {scorer.threshold:.6g}", in_table=True)


def _judge(entry: JudgeEntry) -> str:
    if entry.scorer is not None:
        return _scorer(entry.scorer)
    if entry.http is not None:
        return code(f"{printable(entry.http.model)}, {printable(entry.http.question)[:200]}", in_table=True)
    return code(printable(entry.function), in_table=True)
