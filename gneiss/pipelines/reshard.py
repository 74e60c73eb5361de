"""Reshard: a finished run's documents in few files of an even size, in their order or shuffled."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from typing import Any, TypeAlias

import pyarrow as pa
import xxhash

from gneiss.backends import Backend, Workers
from gneiss.backends.choice import BackendName, choose_workers
from gneiss.backends.resources import Resources, worker_resources
from gneiss.errors import InputError, OutputError, first_line
from gneiss.input.plan import format_versions
from gneiss.input.shard import Shard
from gneiss.jobs.job import Job, open_job
from gneiss.jobs.progress import Progress, Silent
from gneiss.jobs.resume import Kind
from gneiss.output import layout, ledger
from gneiss.output.claim import refuse_nesting
from gneiss.output.data_files import DataFiles
from gneiss.output.dataset_card import resharded_card
from gneiss.output.finished_run import FinishedRun, FinishedShard, open_run
from gneiss.output.parquet import write_bytes
from gneiss.pipelines.new_shards import RESHARD, SCATTER, NewShard, NewShards, ReshardStep, ScatterStep
from gneiss.recipe.files import OutputFiles
from gneiss.recipe.yaml_text import read_yaml, write_yaml
from gneiss.store.place import Address, Place, local_paths, place_of
from gneiss.version import __version__

SHARD_BYTES = 500_000_000
#: Libraries whose version can change how rows are laid out, or the bytes of their files.
BYTE_SHAPING = ("numpy", "pyarrow", "xxhash")
#: Decoded bytes of documents that are sorted at once.
PIECE_BYTES = 64_000_000
#: Footers that are read at once.
_READERS = 16
#: A shuffled shard has at least this many documents on average, so that none is empty.
_FEWEST_DOCUMENTS = 32
#: What chooses the workers for a number of tasks.
Hire: TypeAlias = Callable[[int, Resources], Workers]
_RESHARDING = Kind(RESHARD, "shard", layout.annotations_path, layout.new_shard_files)


def reshard(
    run: Address | FinishedRun,
    output: Address,
    *,
    shard_bytes: int = SHARD_BYTES,
    shuffle_seed: int | None = None,
    format: str | None = None,
    workers: int | None = None,
    backend: BackendName | Backend = "auto",
    shared_filesystem: bool = False,
    progress: Progress = Silent(),  # noqa: B008
) -> FinishedRun:
    """Rewrite a finished run as an output with shards of even size; the same call resumes.

    Parameters: `shard_bytes`: approximate size of the files in `data/`; `shuffle_seed`: seed of a global shuffle, None
    for the order of the run; `format`: of `data/`, that of the run by default. The result is a finished run, whose
    annotations give the original shard and row of each row; later layers are not carried over. Raises InputError,
    RecipeError for an unknown format, OutputError, MachineError.

    >>> reshard("curated", "curated-500MB", shuffle_seed=1).documents  # doctest: +SKIP
    3641
    """
    source = run if isinstance(run, FinishedRun) else open_run(run)
    target = place_of(output, "output")
    refuse_nesting(source.folder, [source.folder], target)
    recipe = read_yaml((source.folder / layout.RECIPE_FILE).read().decode())
    files = _files_of(recipe, format, shard_bytes, shuffle_seed)
    last = {"output": files.model_dump(mode="json"), "phases": recipe["phases"]}
    written = write_yaml({**{key: value for key, value in recipe.items() if key not in last}, **last})
    identity = {
        "reshard": source.digest,
        "recipe": hashlib.sha256(written.encode()).hexdigest(),
        "gneiss": __version__,
        "libraries": {**{name: version(name) for name in BYTE_SHAPING}, **format_versions(files.format)},
    }
    new = lay_out(source, target, files)
    first, noted = {layout.RECIPE_FILE: written.encode()}, {"models": source.identity.get("models", {})}
    with open_job(target, identity, progress, first, noted=noted) as job:
        local = local_paths([source.folder, target])
        hire = partial(choose_workers, backend, workers, shared_filesystem=shared_filesystem, local=local)
        write_shards(job, hire, new)
        if open_run(source.folder).digest != source.digest:
            raise OutputError(f"{source.folder}: it changed meanwhile; delete {target}, and reshard it again")
        card = (source.folder / layout.CARD_FILE).read().decode()
        return finish_shards(job, new, lambda: resharded_card(card, target, files, len(new.shards)))


def _files_of(recipe: Mapping[str, Any], format: str | None, shard_bytes: int, shuffle_seed: int | None) -> OutputFiles:
    """The files of a run of a canonical recipe, in new shards."""
    given = OutputFiles(**recipe.get("output", {}))
    stated = given.stated() if format in (None, given.format) else {"format": format}
    return OutputFiles(**{**stated, "shard_bytes": shard_bytes, "shuffle_seed": shuffle_seed})


def lay_out(run: FinishedRun, output: Place, files: OutputFiles) -> NewShards:
    """The new shards of a run: which there are, and which documents each has. Raises InputError."""
    assert files.shard_bytes is not None
    found = {file.name: file.size_bytes for file in (run.folder / layout.DATA).files()}
    sizes = [found.get(run.data_files.path(shard.id).removeprefix(f"{layout.DATA}/"), 0) for shard in run.shards]
    seed = files.shuffle_seed
    count = max(1, -(-sum(sizes) // files.shard_bytes))
    if seed is not None:
        count = min(count, max(1, run.documents // _FEWEST_DOCUMENTS))
    bounds = bounds_of(run.shards, sizes, count) if seed is None else [run.documents] * (count + 1)
    digits = max(5, len(str(count)))
    shards = tuple(
        NewShard(
            f"train-{number:0{digits}d}-of-{len(bounds) - 1:0{digits}d}",
            number,
            range(bounds[number], bounds[number + 1]),
            run.folder,
            xxhash.xxh3_128_hexdigest(f"{run.digest}\0{files.model_dump_json()}\0{number}".encode()),
        )
        for number in range(len(bounds) - 1)
    )
    decoded = max(run.counts["kept_text_bytes"], sum(sizes))
    pieces = 1 if seed is None else max(1, -(-decoded // (len(shards) * PIECE_BYTES)))
    data = DataFiles.of(files)
    columns = _columns(run)
    if reason := data.refusal(columns):
        raise InputError(f"{run.folder}: {reason}")
    return NewShards(run, output, data, shards, seed, pieces, columns, run.annotation_schema())


def bounds_of(shards: tuple[FinishedShard, ...], sizes: list[int], count: int) -> list[int]:
    """Where new shards start and the last one ends, in dense indices of documents: stretches of about as many bytes.

    sizes: bytes of the data file of each shard, in which all documents count as equal; no new shard is empty, unless
    there are no documents.

    >>> bounds_of((FinishedShard("a", 9, 6, 0), FinishedShard("b", 5, 4, 6)), [600, 400], 2)
    [0, 5, 10]
    """
    documents, total = sum(shard.kept for shard in shards), sum(sizes)
    bounds, before = {0}, 0
    targets = [total * number // count for number in range(1, count)]
    for shard, size in zip(shards, sizes, strict=True):
        while targets and targets[0] < before + size:
            bounds.add(shard.first_document + (targets.pop(0) - before) * shard.kept // size)
        before += size
    return [*sorted(bounds - {documents}), documents] if documents else [0, 1]


def refuse_unfit(shards: Sequence[Shard], files: OutputFiles) -> None:
    """Refuse input files whose columns do not fit one data file, before a run begins. Raises InputError."""
    by_file = {shard.file: shard for shard in shards}
    with ThreadPoolExecutor(_READERS) as readers:
        schemas = readers.map(DataFiles.of(files).written, readers.map(Shard.schema, by_file.values()))
        _together(zip(by_file, schemas, strict=True))


def _columns(run: FinishedRun) -> pa.Schema:
    """The columns of the documents of all shards, in types that hold the values of each. Raises InputError."""
    return _together((run.data_file(shard), run.data_schema(shard)) for shard in run.shards)


def _together(schemas: Iterable[tuple[Place, pa.Schema]]) -> pa.Schema:
    whole: pa.Schema | None = None
    for file, schema in schemas:
        if twice := next((name for name in schema.names if schema.names.count(name) > 1), None):
            raise InputError(f"{file}: the column {twice!r} is there twice; keep one in the input")
        if whole is None:
            whole, common = schema, schema.metadata or {}
            continue
        try:
            whole = pa.unify_schemas([whole, schema], promote_options="permissive")
        except pa.ArrowException as error:
            raise InputError(
                f"{file}: its columns and those of earlier files do not fit one file: {first_line(error)}; give them"
                " one type in the input"
            ) from error
        common = {key: value for key, value in common.items() if (schema.metadata or {}).get(key) == value}
    return pa.schema([]) if whole is None else whole.with_metadata(common or None)


def write_shards(job: Job, hire: Hire, new: NewShards) -> None:
    """Write the new shards that are not there yet. Raises OutputError when the run is damaged, MachineError."""
    done = job.finished(_RESHARDING, new.shards)
    size = new.run.counts["kept_text_bytes"] // len(new.shards)
    job.progress.begin(RESHARD, {shard.id: size for shard in new.shards}, done)
    left = [shard for shard in new.shards if shard.id not in done]
    if not left:
        return
    tasks = len(left) if new.seed is None else max(len(left), len(new.run.shards))
    with hire(tasks, resources_of(new)).kept() as workers:
        if new.seed is not None:
            shards = len(new.run.shards)
            job.run_stage(workers, SCATTER, ScatterStep(new), new.exchange.missing(SCATTER, shards), shards)
        job.run_tasks(workers, RESHARD, ReshardStep(new), left, len(new.shards))


def laid_out(output: Place) -> FinishedRun | None:
    """The finished run of an output whose new shards are all there and whole. Raises OutputError."""
    if (output / layout.STATISTICS_FILE).find() is None:
        return None
    if all(ledger.is_whole(output, receipt) for receipt in ledger.read(output, RESHARD).values()):
        return open_run(output)
    (output / layout.STATISTICS_FILE).delete()
    return None


def resources_of(new: NewShards) -> Resources:
    """What a worker is expected to need: pieces, and, of a shuffle, a shard of the run and one that is compressed."""
    run = new.run
    if new.seed is None:
        return worker_resources(4 * PIECE_BYTES)
    size = sum(file.size_bytes for file in (run.folder / layout.DATA).files())
    largest = max((shard.kept for shard in run.shards), default=0)
    decoded = run.counts["kept_text_bytes"] * largest // max(run.documents, 1)
    return worker_resources(max(4 * decoded, size // len(new.shards)) + 4 * PIECE_BYTES, RESHARD)


def finish_shards(job: Job, new: NewShards, card: Callable[[], str]) -> FinishedRun:
    """Write what else a finished run has, the statistics last, and open it, which counts its rows."""
    run, output = new.run, new.output
    job.progress.end()
    new.exchange.clear()
    for folder in (layout.QUARANTINE, layout.LOGS):
        for file in (run.folder / folder).files():
            write_bytes((run.folder / folder / file.name).read(), output, f"{folder}/{file.name}")
    known = ledger.read(output)
    ledger.append(output, [receipt for id_, receipt in _unusable(run) if id_ not in known])
    write_bytes(card().encode(), output, layout.CARD_FILE)
    statistics = (run.folder / layout.STATISTICS_FILE).read()
    write_bytes(statistics, output, layout.STATISTICS_FILE)
    finished = open_run(output)
    if finished.documents != run.documents:
        raise OutputError(f"{output}: {finished.documents} documents, but {run.documents} in {run.folder}; delete it")
    return finished


def _unusable(run: FinishedRun) -> Iterator[tuple[str, ledger.Receipt]]:
    """The receipts of the shards that the run could not curate."""
    if run.quarantined_shards:
        receipts = ledger.read(run.folder)
        yield from ((id_, receipts[id_]) for id_ in run.quarantined_shards if id_ in receipts)
