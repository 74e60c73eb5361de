"""The mixed corpus: the documents of a plan as Parquet files, each as often as planned, shuffled among all files.

`scatter` gives each copy a random key and cuts the copies of a shard of a source by ranges of keys; `mix` sorts those
of a range, which are a new file. Memory holds one file. The same plan gives the same bytes, whatever the workers.
"""

from __future__ import annotations

import hashlib
import json
import re
from bisect import bisect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, partial
from importlib.metadata import version
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from gneiss.arrays import Int64Array, UInt64Array
from gneiss.backends import Backend
from gneiss.backends.choice import BackendName, choose_workers
from gneiss.backends.resources import worker_resources
from gneiss.errors import InputError, MachineError, OutputError
from gneiss.input.columns import values_at
from gneiss.jobs.job import open_job
from gneiss.jobs.progress import Progress, Silent
from gneiss.loader.order import mixed
from gneiss.mixture.plan import MixturePlan, Part
from gneiss.mixture.survey import Source, Survey, assign
from gneiss.output import layout
from gneiss.output.claim import refuse_nesting
from gneiss.output.finished_run import open_run
from gneiss.output.ledger import COMMITTED, Receipt
from gneiss.output.matching import check_documents
from gneiss.output.parquet import write_bytes, write_parquet
from gneiss.stages.exchange import Exchange
from gneiss.store.place import Address, Place, local_paths, place_of
from gneiss.version import __version__

#: The stages.
SCATTER, MIX = "scatter", "mix"
#: What was mixed, of what, by which plan; written last.
MIXTURE_FILE = "mixture.json"
SHARD_BYTES = 256_000_000
#: Text that is cut by ranges of keys at once.
PIECE_BYTES = 64_000_000
#: A file has at least this many documents on average, so that none is empty.
_FEWEST_DOCUMENTS = 32
_WRITE_ROWS = 1024
_KEY = "key"
COLUMNS = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("text", pa.large_string()),
        pa.field("source", pa.string()),
        pa.field("bucket", pa.string()),
        pa.field("copy", pa.int64()),
        pa.field("tokens", pa.int64()),
    ]
)
_SCATTERED = pa.schema([pa.field(_KEY, pa.uint64()), *COLUMNS])
#: The same with the number of the file that a row goes into.
_FILE = "file"
_PLACED = pa.schema([pa.field(_FILE, pa.int64()), *_SCATTERED])
_BYTE_SHAPING = ("numpy", "pyarrow", "xxhash")


@dataclass(frozen=True)
class Group:
    """Documents that are shuffled among files of their own.

    name: the folder in `data/`, empty for all documents; first, files: numbers of the first file, and of files; tokens,
    documents: in these files; mixed_tokens, mixed_documents: in the mixture, copies included.
    """

    name: str
    first: int
    files: int
    tokens: int
    documents: int
    mixed_tokens: int
    mixed_documents: int


@dataclass(frozen=True)
class MixedCorpus:
    """A corpus that was mixed: where, its documents, copies included, in how many files, and the groups of them."""

    folder: Place
    documents: int
    files: int
    groups: tuple[Group, ...]


@dataclass(frozen=True)
class Mixing:
    """What workers need to write a mixture.

    copies: key of a cell → how often all of it, and below which hash again; group_of: key → the index of its group;
    is_apart: each document once, whatever its copies.
    """

    sources: tuple[Source, ...]
    copies: Mapping[str, tuple[int, int]]
    groups: tuple[Group, ...]
    group_of: Mapping[str, int]
    is_apart: bool
    seed: int
    output: Place

    @property
    def files(self) -> int:
        """The number of files of all groups."""
        return sum(group.files for group in self.groups)

    @property
    def exchange(self) -> Exchange:
        """Where `scatter` leaves its pieces."""
        return Exchange(self.output)

    @cached_property
    def shards(self) -> list[tuple[Source, int, int]]:
        """Each shard of each source: its number there, and how many documents of the sources lie before it."""
        found, before = [], 0
        for source in self.sources:
            for number, shard in enumerate(source.run.shards):
                found.append((source, number, before + shard.first_document))
            before += source.run.documents
        return found

    def path(self, number: int) -> str:
        """A file of the corpus."""
        group = self.groups[bisect([group.first for group in self.groups], number) - 1]
        name = f"train-{number - group.first:05d}-of-{group.files:05d}"
        return layout.data_path(f"{group.name}/{name}" if group.name else name)


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

    Files are `data/train-00000-of-00010.parquet` with `id`, `text`, `source`, `bucket`, `copy` (from 0) and `tokens`;
    `mixture.json` holds the plan. Parameters: `shard_bytes`: about how much text a file has; `apart`: each bucket in a
    folder of its own, each document once, for trainers that mix by themselves; the others as for `run`.
    Raises InputError for a plan of no documents, OutputError for a folder with anything else, and for a run that
    changed since it was surveyed.
    """
    target = place_of(output, "output")
    if not plan.documents:
        raise InputError(f"budget {plan.budget}: the mixture has no document; take more tokens")
    for source in survey.sources:
        refuse_nesting(source.run.folder, [source.run.folder], target)
    copies = {survey.found[part.cell]: (part.whole, part.below) for part in plan.parts}
    described = description(plan, survey)
    groups, group_of = _groups(plan, survey, shard_bytes, apart)
    mixing = Mixing(survey.sources, copies, groups, group_of, apart, plan.seed, target)
    identity = {
        "mixture": hashlib.sha256(described).hexdigest(),
        "files": [group.files for group in groups],
        "apart": apart,
        "gneiss": __version__,
        "libraries": {name: version(name) for name in _BYTE_SHAPING},
    }
    with open_job(target, identity, progress) as job:
        left = [number for number in range(mixing.files) if (target / mixing.path(number)).find() is None]
        if left:
            local = local_paths([target, *(source.run.folder for source in survey.sources)])
            hire = partial(choose_workers, backend, workers, shared_filesystem=shared_filesystem, local=local)
            shards = len(mixing.shards)
            with hire(max(len(left), shards), worker_resources(6 * PIECE_BYTES + 4 * shard_bytes)).kept() as hired:
                job.run_stage(hired, SCATTER, ScatterStep(mixing), mixing.exchange.missing(SCATTER, shards), shards)
                job.run_stage(hired, MIX, MixStep(mixing), left, mixing.files)
        for source in survey.sources:
            if open_run(source.run.folder).digest != source.run.digest:
                raise OutputError(f"{source.run.folder}: it changed meanwhile; delete {target}, and mix again")
        mixing.exchange.clear()
        write_bytes(described, target, MIXTURE_FILE)
        return MixedCorpus(target, sum(group.documents for group in groups), mixing.files, groups)


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


@dataclass(frozen=True)
class ScatterStep:
    """Number of a shard of the sources in, its copies in the exchange and a receipt out."""

    mixing: Mixing

    def open(self) -> Callable[[int], Receipt]:
        """Nothing to load."""

        def work(task: int) -> Receipt:
            batches = _raised_as_output(_scattered(self.mixing, task))
            file = self.mixing.exchange.write(SCATTER, task, _SCATTERED, batches, self.mixing.files)
            return Receipt(f"{task}", COMMITTED, "", None, files=(file,), stage=SCATTER)

        return work

    def lost(self, task: int, reason: str) -> Receipt:
        """No shard can be left out. Raises MachineError."""
        raise MachineError(f"{SCATTER}, shard {task}: {reason}. Finished ones are kept: the same command resumes")


@dataclass(frozen=True)
class MixStep:
    """Number of a file in, the file and a receipt out."""

    mixing: Mixing

    def open(self) -> Callable[[int], Receipt]:
        """Nothing to load."""

        def work(task: int) -> Receipt:
            tables = _gathered(self.mixing, task)
            file = write_parquet(tables, COLUMNS, self.mixing.output, self.mixing.path(task))
            return Receipt(f"{task}", COMMITTED, "", file.rows, files=(file,), stage=MIX)

        return work

    def lost(self, task: int, reason: str) -> Receipt:
        """No file can be left out. Raises MachineError."""
        raise MachineError(f"{MIX}, file {task}: {reason}. Finished files are kept: the same command resumes")


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
        groups.append(Group(name, first, files, tokens, documents, mixed_tokens, mixed_documents))
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


def _scattered(mixing: Mixing, task: int) -> Iterator[pa.RecordBatch]:
    """The copies of a shard's documents: batches for each file in turn, of about PIECE_BYTES of text together."""
    waiting: list[pa.Table] = []
    size = 0
    for table in _copied(mixing, task):
        waiting.append(table)
        size += table.nbytes
        if size >= PIECE_BYTES:
            yield from _cut(pa.concat_tables(waiting), mixing.files)
            waiting, size = [], 0
    yield from _cut(pa.concat_tables([_PLACED.empty_table(), *waiting]), mixing.files)


def _raised_as_output(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Batches; what is wrong with the run that they are of ends the whole mixing."""
    try:
        yield from batches
    except InputError as error:
        raise OutputError(str(error)) from error


def _cut(table: pa.Table, files: int) -> Iterator[pa.RecordBatch]:
    table = table.combine_chunks()
    file = table[_FILE].to_numpy()
    table = table.drop_columns([_FILE])
    order = np.argsort(file, kind="stable")
    bounds = np.searchsorted(file[order], np.arange(files + 1))
    for number in range(files):
        rows = table.take(pa.array(order[bounds[number] : bounds[number + 1]])).combine_chunks()
        yield rows.to_batches()[0] if rows.num_rows else pa.RecordBatch.from_pylist([], _SCATTERED)


def _copied(mixing: Mixing, task: int) -> Iterator[pa.Table]:
    """The documents of a shard, each as often as it is in the mixture, with their keys."""
    source, number, first = mixing.shards[task]
    run, shard = source.run, source.run.shards[number]
    parts = [_with_copies(mixing, source, number, table) for table in source.rows(shard)]
    noted = pa.concat_tables(parts) if parts else None
    if noted is None or not noted.num_rows:
        return
    at = 0
    firsts = np.array([group.first for group in mixing.groups], np.int64)
    files = np.array([group.files for group in mixing.groups], np.int64)
    names = [name for name in (run.text, run.id) if name]
    file = run.data_file(shard)
    for table in run.data_tables(shard, list(dict.fromkeys(names))):
        rows = noted.slice(at, table.num_rows)
        texts = check_documents(file, table, rows, run.text, run.id)
        copies = rows["copies"].to_numpy()
        sizes = pa.compute.binary_length(values_at(table, run.text).cast(pa.large_string())).to_numpy()
        for chosen in _pieces(copies, sizes):
            copy = np.concatenate([np.arange(count) for count in _runs(chosen)])
            index = np.uint64(first + at) + chosen.astype(np.uint64)
            keys = mixed(mixed(index + _seeded(mixing.seed)) + copy.astype(np.uint64))
            of_rows = rows.take(pa.array(chosen))
            group = of_rows["group"].to_numpy()
            columns: dict[str, Any] = {
                _FILE: pa.array(firsts[group] + _range_of(keys, files[group])),
                _KEY: pa.array(keys),
                "id": of_rows["id"],
                "text": texts.take(pa.array(chosen)),
                "source": pa.array([source.name] * len(chosen), pa.string()),
                "bucket": of_rows["bucket"],
                "copy": pa.array(copy),
                "tokens": of_rows["tokens"],
            }
            yield pa.table(columns).cast(_PLACED)
        at += table.num_rows


def _with_copies(mixing: Mixing, source: Source, number: int, table: pa.Table) -> pa.Table:
    """Rows of annotations with the number of their copies, their group, and the bucket that they are in."""
    assigned = assign(source, source.run.shards[number], table, mixing.seed)
    try:
        copies = [mixing.copies[key] for key in assigned.keys]
    except KeyError as error:
        raise OutputError(f"{source.run.folder}: it changed since it was surveyed; plan the mixture again") from error
    whole = np.array([own for own, _ in copies] or [0], np.int64)
    below = np.array([own for _, own in copies] or [0], np.uint64)
    count = whole[assigned.cell] + (assigned.hashes < below[assigned.cell])
    if mixing.is_apart:
        count = np.minimum(count, 1)
    group = np.array([mixing.group_of[key] for key in assigned.keys] or [0], np.int64)[assigned.cell]
    names = pa.array([json.loads(key)[2] for key in assigned.keys], pa.string())
    columns = {name: table[name] for name in ("row", "id", "content_hash", "tokens")}
    bucket = names.take(pa.array(assigned.cell)) if len(names) else pa.nulls(0, pa.string())
    return pa.table({**columns, "copies": pa.array(count), "group": pa.array(group), "bucket": bucket})


def _pieces(copies: Int64Array, sizes: Int64Array) -> Iterator[Int64Array]:
    """Rows as often as they have copies, cut where they reach PIECE_BYTES; the copies of a row are never cut apart."""
    start, size = 0, 0
    for row, own in enumerate((copies * sizes).tolist()):
        if size and size + own > PIECE_BYTES:
            yield np.repeat(np.arange(start, row), copies[start:row])
            start, size = row, 0
        size += own
    yield np.repeat(np.arange(start, len(copies)), copies[start:])


def _runs(rows: Int64Array) -> list[int]:
    """The lengths of runs of equal rows; one of none where there are no rows."""
    _, counts = np.unique(rows, return_counts=True)
    return counts.tolist() or [0]


def _range_of(keys: UInt64Array, counts: Int64Array) -> Int64Array:
    """Which of as many equal ranges of keys as there are each one is in, from 0; counts < 2**31."""
    upper = (keys >> np.uint64(32)) * counts.astype(np.uint64)
    return (upper >> np.uint64(32)).astype(np.int64)


def _seeded(seed: int) -> np.uint64:
    return np.uint64(xxhash.xxh3_64_intdigest(f"order\0{seed}".encode()))


def _gathered(mixing: Mixing, number: int) -> Iterator[pa.Table]:
    """The rows of a file, by their keys."""
    batches = mixing.exchange.across(SCATTER, len(mixing.shards), number)
    table = pa.Table.from_batches(batches, _SCATTERED).combine_chunks()
    order = np.argsort(table[_KEY].to_numpy(), kind="stable")
    for start in range(0, len(order), _WRITE_ROWS):
        yield table.take(pa.array(order[start : start + _WRITE_ROWS])).drop_columns([_KEY]).cast(COLUMNS)
