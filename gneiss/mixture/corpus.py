"""The mixed corpus: the documents of a plan, each as often as planned, shuffled among all shards of a finished run.

The same plan gives the same bytes, whatever the workers.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from importlib.metadata import version

import xxhash

from gneiss.backends import Backend
from gneiss.backends.choice import BackendName, choose_workers
from gneiss.backends.resources import worker_resources
from gneiss.errors import InputError, OutputError
from gneiss.jobs.job import Job, open_job
from gneiss.jobs.progress import Progress, Silent
from gneiss.jobs.resume import Kind
from gneiss.mixture.card import mixture_card
from gneiss.mixture.columns import columns_of
from gneiss.mixture.mixing import MIX, PIECE_BYTES, SCATTER, Group, MixedShard, Mixing, MixStep, ScatterStep
from gneiss.mixture.plan import MixturePlan, Part
from gneiss.mixture.survey import Survey
from gneiss.output import layout
from gneiss.output.claim import refuse_nesting
from gneiss.output.finished_run import FinishedRun, open_run
from gneiss.output.parquet import write_bytes
from gneiss.output.run_so_far import added_up
from gneiss.store.place import Address, Place, local_paths, place_of
from gneiss.version import __version__

SHARD_BYTES = 256_000_000
#: A shard has at least this many documents on average, so that none is empty.
_FEWEST_DOCUMENTS = 32
_BYTE_SHAPING = ("numpy", "pyarrow", "xxhash")
_MIXING = Kind(MIX, "shard", layout.annotations_path, layout.shard_files)


@dataclass(frozen=True)
class MixedCorpus:
    """A corpus that was mixed: the finished run that it is, and the groups of its documents.

    left_out: column of the inputs → why the documents do not have it.
    """

    run: FinishedRun
    groups: tuple[Group, ...]
    left_out: Mapping[str, str]

    @property
    def folder(self) -> Place:
        """Where it is."""
        return self.run.folder

    @property
    def documents(self) -> int:
        """Its documents, copies included."""
        return self.run.documents

    @property
    def files(self) -> int:
        """How many files hold them."""
        return len(self.run.shards)


def write_corpus(
    plan: MixturePlan,
    survey: Survey,
    output: Address,
    *,
    shard_bytes: int = SHARD_BYTES,
    apart: bool = False,
    workers: int | None = None,
    backend: BackendName | Backend = "auto",
    shared_filesystem: bool = False,
    progress: Progress = Silent(),  # noqa: B008
) -> MixedCorpus:
    """Write the documents of a plan, shuffled by its seed, into an empty folder; the same call resumes.

    The result is a finished run, whose recipe has the annotators that all runs share. Documents have `id`, `text`, the
    columns of the input that all runs have, `source`, `bucket`, `copy` (from 0) and `tokens`; annotations say in which
    shard and row of its source each one was. `mixture.json` holds the plan. Parameters: `shard_bytes`: about how much
    text a file has; `apart`: each bucket in a folder of its own, each document once, for trainers that mix by
    themselves; the others as for `run`.
    Raises InputError for a plan of no documents, OutputError for a folder with anything else, and for a run that
    changed since it was surveyed, MachineError.
    """
    target = place_of(output, "output")
    if not plan.documents:
        raise InputError(f"budget {plan.budget}: the mixture has no document; take more tokens")
    for source in survey.sources:
        refuse_nesting(source.run.folder, [source.run.folder], target)
    described, columns = description(plan, survey), columns_of(survey.sources)
    recipe = columns.recipe(_summary(plan), shard_bytes, plan.seed).to_yaml().encode()
    groups, group_of = _groups(plan, survey, shard_bytes, apart)
    models = {name: sum_ for source in survey.sources for name, sum_ in source.run.identity.get("models", {}).items()}
    identity = {
        "mixture": hashlib.sha256(described).hexdigest(),
        "recipe": hashlib.sha256(recipe).hexdigest(),
        "files": [group.files for group in groups],
        "apart": apart,
        "gneiss": __version__,
        "libraries": {name: version(name) for name in _BYTE_SHAPING},
        "models": models,
    }
    copies = {survey.found[part.cell]: (part.whole, part.below) for part in plan.parts}
    shards = _shards(groups, target, json.dumps(identity))
    mixing = Mixing(survey.sources, columns, shards, copies, groups, group_of, apart, plan.seed, target)
    with open_job(target, identity, progress, {layout.RECIPE_FILE: recipe}) as job:
        write_bytes(described, target, layout.MIXTURE_FILE)
        local = local_paths([target, *(source.run.folder for source in survey.sources)])
        hire = partial(choose_workers, backend, workers, shared_filesystem=shared_filesystem, local=local)
        done = job.finished(_MIXING, shards)
        sizes = [group.text_bytes // group.files for group in groups for _ in range(group.files)]
        progress.begin(MIX, {shard.id: sizes[shard.number] for shard in shards}, done)
        if left := [shard for shard in shards if shard.id not in done]:
            of = len(mixing.parts)
            with hire(max(len(left), of), worker_resources(6 * PIECE_BYTES + 4 * shard_bytes)).kept() as hired:
                job.run_stage(hired, SCATTER, ScatterStep(mixing), mixing.exchange.missing(SCATTER, of), of)
                job.run_tasks(hired, MIX, MixStep(mixing), left, len(shards))
        progress.end()
        for source in survey.sources:
            if open_run(source.run.folder).digest != source.run.digest:
                raise OutputError(f"{source.run.folder}: it changed meanwhile; delete {target}, and mix again")
        return MixedCorpus(_finished(job, mixing, plan), groups, columns.left_out)


def _finished(job: Job, mixing: Mixing, plan: MixturePlan) -> FinishedRun:
    """Write what else a finished run has, the statistics last, and open it, which counts its rows."""
    output = mixing.output
    mixing.exchange.clear()
    statistics, examples = added_up(output, (layout.statistics_path(shard.id) for shard in mixing.shards))
    card = mixture_card(plan, mixing, statistics)
    write_bytes(card.encode(), output, layout.CARD_FILE)
    stored = {"statistics": statistics.to_json(), "samples": examples, "quarantined_shards": {}}
    job.check()
    write_bytes((json.dumps(stored, ensure_ascii=False) + "\n").encode(), output, layout.STATISTICS_FILE)
    run = open_run(output)
    if run.documents != (expected := sum(group.documents for group in mixing.groups)):
        raise OutputError(f"{output}: {run.documents} documents, but {expected} were planned; delete it, and mix again")
    return run


def _shards(groups: tuple[Group, ...], output: Place, identity: str) -> tuple[MixedShard, ...]:
    """The shards of a mixture, group by group."""
    found: list[MixedShard] = []
    for group in groups:
        digits = max(5, len(str(group.files)))
        for number in range(group.files):
            name = f"train-{number:0{digits}d}-of-{group.files:0{digits}d}"
            id_ = f"{group.name}/{name}" if group.name else name
            fingerprint = xxhash.xxh3_128_hexdigest(f"{identity}\0{id_}".encode())
            found.append(MixedShard(id_, len(found), output, fingerprint))
    return tuple(found)


def _summary(plan: MixturePlan) -> str:
    sources = ", ".join(name for name, _ in plan.of_sources())
    return f"A mixture of {sources}: {plan.tokens:,} tokens of a budget of {plan.budget:,}, seed {plan.seed}."


def description(plan: MixturePlan, survey: Survey) -> bytes:
    """A plan as JSON: of which runs, and for each bucket and factor what there is and what the mixture has."""
    sources = {
        source.name: {
            "run": source.run.digest,
            "tokens": source.tokens,
            "tokenizer": source.tokenizer,
            "buckets": source.buckets,
            "weights": source.weights,
        }
        for source in survey.sources
    }
    parts = [
        {
            "source": part.cell.source,
            "bucket": part.cell.bucket,
            "factor": float(part.cell.factor),
            "documents": part.cell.documents,
            "tokens": part.cell.tokens,
            "wanted_tokens": part.wanted,
            "mixed_documents": part.documents,
            "mixed_tokens": part.tokens,
            "whole": part.whole,
            "below": part.below,
        }
        for part in plan.parts
    ]
    whole = {"budget": plan.budget, "seed": plan.seed, "tokens": plan.tokens, "documents": plan.documents}
    return (json.dumps({**whole, "sources": sources, "parts": parts}, indent=1) + "\n").encode()


def _groups(
    plan: MixturePlan, survey: Survey, shard_bytes: int, apart: bool
) -> tuple[tuple[Group, ...], dict[str, int]]:
    """The groups of files, of about as many bytes of text each as asked for; and key of a cell → index of its group."""
    if shard_bytes < 1:
        raise InputError(f"shard_bytes {shard_bytes}: expected 1 or more")
    bytes_a_token = {
        source.name: Fraction(source.run.counts["kept_text_bytes"], max(own, 1))
        for source in survey.sources
        for own in [sum(part.cell.tokens for part in plan.parts if part.cell.source == source.name)]
    }
    groups: list[Group] = []
    group_of: dict[str, int] = {}
    for number, (name, parts) in enumerate(_named_parts(plan) if apart else [("", plan.parts)]):
        once = [(part, *(_once(part) if apart else (part.tokens, part.documents))) for part in parts]
        size = sum((bytes_a_token[part.cell.source] * tokens for part, tokens, _ in once), Fraction(0))
        documents = sum(count for *_, count in once)
        files = max(1, min(-(-int(size) // shard_bytes), documents // _FEWEST_DOCUMENTS))
        first = groups[-1].first + groups[-1].files if groups else 0
        mixed_tokens, mixed_documents = sum(part.tokens for part in parts), sum(part.documents for part in parts)
        tokens = sum(tokens for _, tokens, _ in once)
        groups.append(Group(name, first, files, tokens, documents, mixed_tokens, mixed_documents, int(size)))
        group_of |= {survey.found[part.cell]: number for part in parts}
    for part in plan.parts:
        group_of.setdefault(survey.found[part.cell], 0)  # of which the mixture has no document
    return tuple(groups), group_of


def _named_parts(plan: MixturePlan) -> Iterator[tuple[str, tuple[Part, ...]]]:
    """The parts of which the mixture has documents, each with a name that a folder can have."""
    for number, part in enumerate(part for part in plan.parts if part.documents):
        cell = part.cell
        factor = "" if cell.factor == 1 else f"-x{float(cell.factor):g}"
        name = re.sub(r"[^A-Za-z0-9_]+", "-", f"{cell.source}-{cell.bucket}", flags=re.ASCII)[:80]
        yield f"{number:03d}-{name}{factor}", (part,)


def _once(part: Part) -> tuple[int, int]:
    """Tokens and documents of a part, without copies."""
    return (part.cell.tokens, part.cell.documents) if part.whole else (part.tokens, part.documents)
