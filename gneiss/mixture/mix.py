"""Mixing: finished runs, a budget and a policy in, a plan out, which `write` makes a corpus of."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gneiss.errors import InputError
from gneiss.mixture.corpus import MixedCorpus, write_corpus
from gneiss.mixture.plan import MixturePlan, Policy, share_budget
from gneiss.mixture.survey import Survey, differences, sources_of, survey
from gneiss.output.finished_run import FinishedRun, open_run
from gneiss.report.held_out import identities_of
from gneiss.store.place import Address, place_of

_NAMED = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]*)=(.+)", re.DOTALL)


@dataclass(frozen=True, eq=False)
class Mixture:
    """A planned mixture: its plan, what it was planned from, and what is odd about the runs, a sentence each."""

    plan: MixturePlan
    survey: Survey
    warnings: tuple[str, ...]

    def write(self, output: Address, **settings: Any) -> MixedCorpus:
        """Write the corpus; see `write_corpus`."""
        return write_corpus(self.plan, self.survey, output, **settings)


def plan_mixture(
    runs: Mapping[str, Address | FinishedRun],
    budget: int,
    *,
    policy: Policy = Policy(),  # noqa: B008
    buckets: str | None = None,
    weights: str | None = None,
    upsampling: str | Mapping[int, float] | None = None,
    tokens: str | None = None,
    seed: int = 0,
    held_out: Sequence[Address] = (),
) -> Mixture:
    """Plan how a budget of tokens is made of the kept documents of finished runs; nothing is written.

    Parameters: `runs`: by the names of sources; `budget`: in tokens; `policy`: how it is shared; `buckets`: the layer
    with the buckets of each run, without it all documents of a run are one; `weights`: the layer whose prior weights
    are factors of documents, rounded to sixteenths; `upsampling`: factors by the number of copies, as in
    `write_weights` (`fineweb-2` is FineWeb-2's rehydration); `tokens`: the column of weights, by default the recipe's
    token count; `seed`: of the hashes of ids, by which documents are chosen, and of the order; `held_out`: finished
    runs or files (.jsonl, .parquet, .txt) whose documents no run may have, by id or text.
    Raises InputError for runs whose tokenizers differ, for a document that is held out, and whatever a run, layer or
    column lacks; ModelError for a held-out file that cannot be read.

    >>> plan_mixture({"web": "curated"}, 10**9).plan.tokens  # doctest: +SKIP
    999999874
    """
    opened = {name: run if isinstance(run, FinishedRun) else open_run(run) for name, run in runs.items()}
    sources = sources_of(opened, tokens=tokens, buckets=buckets, weights=weights, upsampling=upsampling)
    found = survey(sources, seed, identities_of(held_out) if held_out else None)
    warnings = differences(sources)
    if found.shared_ids:
        warnings.append(f"about {found.shared_ids:,} ids are in more than one run; their documents may be copies")
    return Mixture(share_budget(found.cells, budget, policy, found.hashes, seed), found, tuple(warnings))


def named_runs(runs: Sequence[str]) -> dict[str, str]:
    """Runs by name: `NAME=RUN`, or else the last part of the path. Raises InputError for a name that is there twice.

    >>> named_runs(["web=out/first", "out/second/"])
    {'web': 'out/first', 'second': 'out/second/'}
    """
    found: dict[str, str] = {}
    for run in runs:
        match = _NAMED.fullmatch(run)
        name, folder = match.groups() if match else (place_of(run).name, run)
        if name in found:
            raise InputError(f"{run}: there is a source {name!r} already; name them: NAME={folder}")
        found[name] = folder
    return found
