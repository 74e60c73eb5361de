"""What a worker of a run is expected to need: memory for libraries, models and its largest task, and a GPU."""

from __future__ import annotations

from collections.abc import Sequence

from gneiss.annotation import Annotator, Demand
from gneiss.backends.resources import Resources, worker_resources
from gneiss.input.model_files import ModelFile
from gneiss.input.plan import Plan
from gneiss.input.shard import Shard
from gneiss.pipelines.curation import is_read_ahead
from gneiss.store.ranged import KEPT_BYTES

# Memory of a worker where no step needs more, beside WORKER_BYTES: for each byte of text of a shard, of its ids and
# URLs, of the largest table that is read of it at once, and for each row.
BYTES_PER_BYTE, BYTES_PER_HELD_BYTE, BYTES_PER_TABLE_BYTE, BYTES_PER_ROW = 4, 5, 2, 400
#: While a shard of a store is decided, so many others are held: one is read, and one written.
_BESIDE = 2


def resources_of(plan: Plan) -> Resources:
    """What one worker is expected to need: libraries, models, and the largest shard, group or partition; a GPU."""
    shards = plan.input.shards
    steps = [step for phase in plan.recipe.phases for step in phase.steps]
    beside = max(map(_beside_text, shards), default=0)
    largest = max(map(_held, shards), default=0)
    held = max([largest, *(step.shard_memory_bytes(shards) + beside for step in steps)])
    reducer, key = max(((step.reducer_memory_bytes(shards), step.key) for step in steps), default=(0, ""))
    kept = KEPT_BYTES if any(shard.file.is_in_one_version for shard in shards) else 0
    if not plan.recipe.over(shards).wide_steps:
        kept += _BESIDE * max((_held(shard) for shard in shards if is_read_ahead(shard)), default=0)
    annotators = [annotator for phase in plan.recipe.phases for annotator in phase.annotators]
    mapped = {file for annotator in annotators if annotator.maps_files for file in annotator.model_files}
    shared = sum(model.size_bytes for model in plan.models if model.source in mapped)
    demands = [demand for model in plan.models if model.source not in mapped for demand in _demands(annotators, model)]
    own, gpus = sum(demand.memory_bytes for demand in demands), float(any(demand.gpu for demand in demands))
    text = max((shard.text_bytes for shard in shards), default=0)
    if reducer > own + held + kept:
        return worker_resources(reducer, key, shared, text, gpus)
    return worker_resources(int(own + held + kept), "", shared, text, gpus)


def _demands(annotators: Sequence[Annotator], model: ModelFile) -> list[Demand]:
    """What each annotator that loads a model takes for it; nothing for one that is known by its checksum only."""
    by = [annotator for annotator in annotators if model.source in annotator.model_files and model.size_bytes]
    return [annotator.demand(model.source, model.path, model.size_bytes) for annotator in by] or [
        Demand(model.size_bytes)
    ]


def _held(shard: Shard) -> int:
    return BYTES_PER_BYTE * shard.text_bytes + _beside_text(shard)


def _beside_text(shard: Shard) -> int:
    """Memory for what a shard has beside its text."""
    tables = BYTES_PER_TABLE_BYTE * shard.table_bytes
    return tables + BYTES_PER_HELD_BYTE * shard.held_bytes + BYTES_PER_ROW * shard.rows
