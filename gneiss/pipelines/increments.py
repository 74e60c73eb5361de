"""Increments: new shards of a finished run whose steps see the corpus, decided after all that came before them.

The first run is increment 0. The ledger says of each later shard with which increment it came. The shards of an
increment are compared with each other and with the index of those before; no file of an earlier one is touched.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace

from gneiss.errors import OutputError
from gneiss.input.plan import Plan
from gneiss.input.shard import Shard
from gneiss.jobs.job import Job
from gneiss.output import layout, ledger
from gneiss.output.ledger import COMMITTED, CURATE, Receipt
from gneiss.pipelines.numbers import as_kept
from gneiss.stages.checking import CHECK
from gneiss.stages.corpus import Corpus
from gneiss.stages.segments import count_segments, segments_of
from gneiss.store.place import Place

#: The stage of receipts that say with which increment a shard came.
INCREMENT = "increment"


def grown(plan: Plan, output: Place) -> Plan:
    """A plan with the increments of its output; shards that the output does not know are another one.

    Raises OutputError where these cannot be decided after the others, and where a shard of an increment was changed.
    """
    if plan.recipe.output.shard_bytes is not None or not plan.recipe.over(plan.input.shards).is_corpus_wide:
        return plan
    try:
        found = json.loads((output / layout.RUN_FILE).read())
    except (OSError, ValueError):
        return plan  # there is no run yet, or it is refused where it is claimed
    noted = ledger.read(output, INCREMENT)
    _refuse_changed(plan, output, noted)
    came = {id_: receipt.counts["increment"] for id_, receipt in noted.items()}
    plan, of_first = replace(plan, increments=came), found.get("corpus")
    if of_first is not None and plan.identity.get("corpus") == of_first:
        return plan
    known = {*ledger.read(output, CHECK if of_first else CURATE), *came}  # alone in its file, no shard is checked
    number = 1 + plan.last_increment
    new = {shard.id: number for shard in plan.input.shards if shard.id not in known}
    with_new = replace(plan, increments={**came, **new})
    if not new or with_new.identity.get("corpus") != of_first:
        return plan  # files of the first run were changed or removed
    _refuse_unfit(with_new, output, number)
    return with_new


def note_increments(job: Job, plan: Plan) -> None:
    """Say in the ledger with which increment new shards came. Raises OutputError."""
    known = ledger.read(job.output, INCREMENT) if plan.increments else {}
    job.note(
        Receipt(shard.id, COMMITTED, shard.fingerprint, None, {"increment": number}, etag=shard.etag, stage=INCREMENT)
        for shard in plan.input.shards
        if (number := plan.increments.get(shard.id)) and shard.id not in known
    )


def adds_to_index(plan: Plan, output: Place) -> bool:
    """Whether increments are compared by an index, or add to one that is there."""
    parts = _parts(plan)
    return any(
        count_segments(output, step) or not all(step.are_apart(before, own) for before, own in parts)
        for step in plan.recipe.over(plan.input.shards).wide_steps
        if step.index_parameters is not None and parts
    )


def _parts(plan: Plan) -> list[tuple[list[Shard], list[Shard]]]:
    """For each increment the shards that came before it, and its own."""
    came = [(plan.increments.get(shard.id, 0), shard) for shard in plan.input.shards]
    return [
        ([shard for at, shard in came if at < number], [shard for at, shard in came if at == number])
        for number in range(1, plan.last_increment + 1)
    ]


def corpora(plan: Plan, corpus: Corpus) -> Iterator[Corpus]:
    """The corpus of each increment, one after the other: an earlier one must have left its index before the next.

    Without an index no shard of one is compared with those of another.
    """
    indexed = [step for step in corpus.recipe.wide_steps if step.index_parameters is not None and corpus.keeps_index]
    for number in range(plan.last_increment + 1):
        own = {step.key: segments_of(corpus.output, step)[:number] for step in indexed if number}
        yield replace(
            corpus,
            shards=tuple(shard for shard in corpus.shards if plan.increments.get(shard.id, 0) == number),
            segments={**corpus.segments, **{key: corpus.segments.get(key, ()) + of for key, of in own.items()}},
            increment=number,
        )


def _refuse_changed(plan: Plan, output: Place, noted: Mapping[str, Receipt]) -> None:
    """Refuse an input without a shard that came with an increment, or with another one. Raises OutputError."""
    there = {shard.id: (shard.fingerprint, shard.etag) for shard in plan.input.shards}
    for id_, receipt in noted.items():
        if there.get(id_) != (receipt.fingerprint, receipt.etag):
            raise OutputError(
                f"{output}: the input {'has another' if id_ in there else 'lacks the'} shard {id_!r}, which came with"
                f" increment {receipt.counts['increment']}; give it as it was, or choose another output"
            )


def _refuse_unfit(plan: Plan, output: Place, number: int) -> None:
    """Refuse new shards where an index lacks, or a step that must see all. Raises OutputError."""
    earlier = [shard for shard in plan.input.shards if plan.increments.get(shard.id) != number]
    later = [shard for shard in plan.input.shards if plan.increments.get(shard.id) == number]
    lacks = f"{output}: the input has shards that it lacks, first {later[0].id!r}, and"
    if as_kept(plan.recipe, output).shares:
        raise OutputError(
            f"{lacks} its rules by share have no numbers yet; run with the input that it had first, or choose another"
            " output"
        )
    for step in plan.recipe.over(plan.input.shards).wide_steps:
        if step.are_apart(earlier, later):
            continue
        if step.index_parameters is None:
            raise OutputError(
                f"{lacks} {step.key} cannot decide them after the others; choose another output, or give the same input"
            )
        if count_segments(output, step) < number:
            raise OutputError(
                f"{lacks} there is no index of {step.key} to compare them with; run with the input that it had and"
                " keep_index first, or choose another output"
            )
