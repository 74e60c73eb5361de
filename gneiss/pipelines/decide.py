"""Decide again: another recipe over the annotations of a finished run, computing only what the run does not have."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from gneiss.annotation import ColumnType
from gneiss.backends import Backend
from gneiss.backends.choice import BackendName, inside_ray
from gneiss.backends.here import InThisProcess
from gneiss.errors import InputError, ModelError, RecipeError, did_you_mean, first_line
from gneiss.input.model_files import ModelFile, is_pinned, resolve
from gneiss.input.plan import Plan, make_plan
from gneiss.jobs.progress import Progress, Silent
from gneiss.output import layout, ledger
from gneiss.output.claim import refuse_nesting
from gneiss.output.data_files import DataFiles
from gneiss.output.finished_run import FinishedRun, open_run
from gneiss.pipelines.run import RunOptions, hire_for, indexes_of, refuse_other_indexes, run_plan
from gneiss.recipe.columns import ORIGIN
from gneiss.recipe.recipe import Recipe
from gneiss.stages.reuse import Code, Reuse, Source
from gneiss.stages.stored import StoredRun
from gneiss.store.place import Address, place_of

#: The types of a layer's columns that can be read as a type of an annotation.
_TYPES: Mapping[ColumnType, Callable[[pa.DataType], bool]] = {
    "float64": pa.types.is_floating,
    "int64": pa.types.is_integer,
    "string": lambda type_: bool(pa.types.is_string(type_) or pa.types.is_large_string(type_)),
    "bool": pa.types.is_boolean,
}
#: What `gneiss annotate --update` is called where a layer says what made it.
UPDATED = "update"
#: As much text is decided about in the time in which a worker starts.
_WORTH_A_WORKER_BYTES = 64_000_000
_log = logging.getLogger(__name__)


def decide(
    recipe: Recipe | str | Path,
    input: Address | FinishedRun,
    output: Address,
    *,
    original: Address | None = None,
    workers: int | None = None,
    backend: BackendName | Backend = "auto",
    shared_filesystem: bool = False,
    document_seconds: float | None = None,
    progress: Progress = Silent(),  # noqa: B008
) -> FinishedRun:
    """Write the output that a run of a recipe would write, reusing the annotations of a finished run that are still
    valid.

    Parameters: `recipe`: as for `run`; `input`: the output of a run; `output`: another folder, which the same call
    resumes; `original`: the input of that run, if it has moved; the others as for `run`. An annotation is valid if its
    code, its parameters, its model files and the text are the same; others are computed, and named in the log. Raises
    the errors of `run`; RecipeError if the recipe has other shards or columns, InputError if the documents have changed
    since the run.

    >>> import gneiss
    >>> strict = gneiss.Recipe.load("gneissweb-bytes").changed({"phases.gneissweb.rules.quality": "dclm > 0.1"})
    >>> gneiss.decide(strict, "curated", "curated-strict").documents  # doctest: +SKIP
    3102
    """
    run = input if isinstance(input, FinishedRun) else open_run(input)
    recipe = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe)
    folder = place_of(output, "output")
    again = plan_again(recipe, run, original)
    plan = again.plan
    refuse_nesting(plan.source, [run.folder, *(shard.file for shard in plan.input.shards)], folder)
    if backend == "auto" and _is_done_here(again, workers) and not (shared_filesystem or document_seconds):
        backend = InThisProcess()
    options = RunOptions(
        workers=workers, backend=backend, shared_filesystem=shared_filesystem, document_seconds=document_seconds
    )
    hire = hire_for(plan, [plan.source, run.folder, folder], options)
    for part, why in again.reuse.computed():
        _log.warning("computing %s: %s", type(part).__name__.lower(), why)
    return run_plan(plan, folder, hire, progress, again.stored)


@dataclass(frozen=True)
class Again:
    """The plan of a recipe over the input of a finished run, and what is taken of the run."""

    plan: Plan
    reuse: Reuse
    stored: StoredRun


def _is_done_here(again: Again, workers: int | None) -> bool:
    """Whether to start no worker: no code of a filter runs, which could fail, and one worker would do no better."""
    text_bytes = sum(shard.text_bytes for shard in again.plan.input.shards)
    runs_code = any(phase.editors for phase in again.plan.recipe.phases) or any(again.reuse.computed())
    is_little = workers == 1 or (workers is None and text_bytes <= _WORTH_A_WORKER_BYTES)
    return is_little and not inside_ray() and not runs_code


def plan_again(recipe: Recipe, run: FinishedRun, original: Address | None = None) -> Again:
    """Plan a recipe over the input of a run. Raises RecipeError, InputError, ModelError; see `decide`."""
    earlier = run.recipe
    _refuse_other_rows(recipe, run)
    source = original or run.input
    if source is None:
        raise InputError(
            f"{run.folder}: its {layout.RUN_FILE} does not say of which input it is; name it by original=PATH"
        )
    refusal, layers, indexes = DataFiles.of(recipe.output).refusal, layers_of(recipe, run), indexes_of(recipe)
    cuts = run.folder / layout.CUTS_FILE
    plan = make_plan(recipe, source, refusal, cuts, _model_of(run), layers, indexes)
    refuse_other_indexes(plan)
    plan = _checked(plan, run, is_elsewhere=original is not None)
    recipe = plan.recipe
    shards, there = {shard.id for shard in plan.input.shards}, {shard.id for shard in run.shards}
    earlier_code = Code.of(run.identity)
    code = Code.of({**plan.identity, "code": plan.code if earlier_code.files else {}})
    has_all = shards == there and not run.failed_documents
    known = [Source.base(earlier, earlier_code), *_updates(run)]
    reuse = Reuse(recipe, code, earlier, earlier_code, known, has_all)
    names = tuple(phase.name for phase in earlier.phases)
    stored = StoredRun(run.folder, names, recipe, reuse.phases, reuse.has_documents, reuse.needs_no_text)
    return Again(plan, reuse, stored)


def _updates(run: FinishedRun) -> list[Source]:
    """The whole layers of a run that hold annotations of a recipe, as far as no document failed in them."""
    folder = run.folder / layout.LAYERS
    made = [json.loads((folder / file.name).read()) for file in folder.files() if file.name.endswith(".json")]
    updates = [
        of for of in made if of["annotator"] == UPDATED and of["run"] == run.digest and not of["summary"]["failed"]
    ]
    return [Source.of_layer(of["layer"], of["columns"], of["parameters"]) for of in updates]


def layers_of(recipe: Recipe, run: FinishedRun) -> dict[str, str]:
    """Of each layer that a recipe's rules read, what it is. Raises InputError, RecipeError for a column of it."""
    found = {}
    for layer, metadata in run.layers(list(recipe.layers)).items():
        schema = run.layer_schema(layer)
        for name, type_ in recipe.layers[layer].items():
            if name not in schema:
                raise RecipeError(f"layers: no column {name!r} in the layer {layer!r}{did_you_mean(name, schema)}")
            if not _TYPES[type_](schema[name]):
                raise RecipeError(f"layers: {layer}.{name}: expected {type_}, found {schema[name]}")
        found[layer] = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode()).hexdigest()
    return found


def _refuse_other_rows(recipe: Recipe, run: FinishedRun) -> None:
    """Refuse a recipe whose rows, texts or columns are not those of a run."""
    earlier = run.recipe
    if ORIGIN[0] in run.annotation_schema().names:
        raise InputError(
            f"{run.folder}: its rows lie in new shards, in another order than in its input; decide over a run without"
            " output.shard_bytes, and `gneiss reshard` what comes of it"
        )
    roles = recipe.inputs.keys() & earlier.inputs.keys()
    mine, theirs = (
        {
            "shard_max_bytes": of.shard_max_bytes,
            "input.text": of.input.text,
            "input.hive": of.input.hive,
            **{f"input.{role}": of.inputs[role] for role in roles},
        }
        for of in (recipe, earlier)
    )
    if other := [name for name, value in mine.items() if theirs[name] != value]:
        raise RecipeError(
            f"{other[0]}: {mine[other[0]]!r}, but the annotations of {run.folder} are of {theirs[other[0]]!r}; leave it"
            " as it was, or use `gneiss run`"
        )


def _checked(plan: Plan, run: FinishedRun, is_elsewhere: bool) -> Plan:
    """The plan with the rows that the run counted. Raises InputError where a file is not the one that it was."""
    known = {shard.id: shard for shard in run.shards}
    if lacking := known.keys() - {shard.id for shard in plan.input.shards}:
        raise InputError(
            f"{plan.source}: it lacks {len(lacking)} shards of {run.folder}, first {min(lacking)!r}; give the input"
            " that the run had"
        )
    etags = {} if is_elsewhere else {id_: receipt.etag for id_, receipt in ledger.read(run.folder).items()}
    for shard in plan.input.shards:
        if shard.id in known and (
            shard.fingerprint != known[shard.id].fingerprint or etags.get(shard.id) not in (None, shard.etag)
        ):
            raise InputError(
                f"{shard.file}: it is not the file any more that {run.folder} was made from; decide needs that one"
            )
    counted = tuple(shard.counted(known[shard.id].rows) if shard.id in known else shard for shard in plan.input.shards)
    return replace(plan, input=replace(plan.input, shards=counted))


def _model_of(run: FinishedRun) -> Callable[[str, Path], ModelFile]:
    """How a model file is found: one that cannot be another one than it was, or is gone, is the one of the run."""
    checksums: Mapping[str, str] = run.identity["models"]

    def find(source: str, folder: Path) -> ModelFile:
        as_it_was = ModelFile(source, Path(), 0, checksums[source]) if source in checksums else None
        if as_it_was and source.startswith("hf://") and is_pinned(source):
            return as_it_was
        try:
            return resolve(source, folder)
        except ModelError as error:
            if as_it_was is None:
                raise
            _log.warning("%s; taken for the file that the run had", first_line(error))
            return as_it_was

    return find
