"""Update: the annotations of a recipe that a finished run does not have, or has by other code, as a layer of it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from gneiss.backends import Backend
from gneiss.backends.choice import BackendName
from gneiss.errors import DefectError, RecipeError
from gneiss.input.plan import Plan
from gneiss.output.claim import held
from gneiss.output.finished_run import FinishedRun, open_run
from gneiss.output.layers import Layer, WrittenLayer, existing_layer, write_layer
from gneiss.output.layout import annotations_path
from gneiss.output.parquet import read_footer
from gneiss.pipelines.decide import UPDATED, plan_again
from gneiss.pipelines.run import RunOptions, hire_for
from gneiss.pipelines.worker_memory import resources_of
from gneiss.recipe.recipe import Recipe
from gneiss.stages.reuse import Reuse
from gneiss.stages.updating import FAILED_KEY, UpdateStep, columns_of, only_annotators
from gneiss.store.at_once import at_once
from gneiss.store.place import Address


def update_annotations(
    output: Address | FinishedRun,
    recipe: Recipe | str | Path | None = None,
    *,
    layer: str = "updated",
    original: Address | None = None,
    workers: int | None = None,
    backend: BackendName | Backend = "auto",
    shared_filesystem: bool = False,
    document_seconds: float | None = None,
) -> WrittenLayer | None:
    """Add a layer with the annotations of a recipe that a finished run lacks, or that other code has computed.

    Parameters: `recipe`: by default that of the run; must have the steps, editors and phases of the run; `layer`: its
    name; `original`: the input of the run, if it has moved; the others as for `run`. Documents that reached the phase
    in the run have values. `decide` reuses values of such layers like those of the run. The same call completes a
    killed one. Returns None if nothing has to be computed. Raises the errors of `decide`; OutputError if another layer
    has the name.

    >>> gneiss.update_annotations("curated", "gneissweb-bytes")  # doctest: +SKIP
    """
    run = output if isinstance(output, FinishedRun) else open_run(output)
    again = plan_again(
        recipe if isinstance(recipe, Recipe) else Recipe.load(recipe) if recipe else run.recipe, run, original
    )
    _refuse_other_texts(again.reuse, run)
    lacking = again.reuse.lacking()
    if not any(lacking):
        return None
    chosen = again.reuse.with_what_they_read(lacking)
    updating = only_annotators(again.plan.recipe, [[annotator for annotator, _ in pairs] for pairs in chosen])
    taken = tuple(tuple(where for _, where in pairs) for pairs in chosen)
    models = [model for model in again.plan.models if model.source in updating.model_files]
    layers = {name: layer for name, layer in again.plan.layers.items() if name in updating.layers}
    plan = replace(again.plan, recipe=updating, models=tuple(models), layers=layers)
    shards = [shard for shard in plan.input.shards if shard.id in {of_run.id for of_run in run.shards}]
    made = Layer(layer, UPDATED, _parameters(plan), columns_of(lacking))
    step = UpdateStep(
        updating, taken, run.folder, tuple(phase.name for phase in run.recipe.phases), layer, made.footer(run)
    )
    with held(run.folder) as check:
        if there := existing_layer(run, made):
            return there
        left = [shard for shard in shards if (run.folder / annotations_path(shard.id, layer)).find() is None]
        if left:
            options = RunOptions(
                workers=workers, backend=backend, shared_filesystem=shared_filesystem, document_seconds=document_seconds
            )
            hire = hire_for(plan, [plan.source, run.folder], options)
            with closing(hire(len(left), resources_of(plan)).run(step, left)) as written:
                for _ in written:
                    check()
        files = (run.folder / annotations_path(shard.id, layer) for shard in shards)
        failed = sum(int((footer.metadata or {})[FAILED_KEY.encode()]) for footer in at_once(read_footer, files))
        summary = {"documents": run.counts["rows"], "failed": failed}
        return write_layer(run, made, [], _all_there, summary, check)


def _parameters(plan: Plan) -> dict[str, object]:
    """What the values of the layer depend on, beside the texts; see Source.of_layer."""
    identity = {name: plan.identity[name] for name in ("gneiss", "libraries", "models")}
    return {"recipe": plan.recipe.to_yaml(), "identity": {**identity, "code": plan.code}}


def _refuse_other_texts(reuse: Reuse, run: FinishedRun) -> None:
    """Refuse a recipe whose phases have other texts than those of a run. Raises RecipeError."""
    names = [phase.name for phase in reuse.earlier.phases]
    if [phase.name for phase in reuse.recipe.phases] != names:
        raise RecipeError(f"phases: those of {run.folder} are {', '.join(names)}; `gneiss decide` takes any others")
    for mine, theirs in zip(reuse.recipe.phases, reuse.earlier.phases, strict=True):
        is_same = (mine.steps, mine.editors) == (theirs.steps, theirs.editors) and all(
            reuse.code.behind(editor) == reuse.earlier_code.behind(editor) for editor in theirs.editors
        )
        if not is_same or not all(step.is_stored for step in theirs.steps):
            raise RecipeError(
                f"phase {mine.name}: its steps or edits, or their code, are not those of {run.folder}, which does not"
                " have such texts; `gneiss decide` makes them"
            )


def _all_there(*_: object) -> dict[str, pa.Array]:
    raise DefectError("a file of the layer is not there, which a worker has written; please report it")
