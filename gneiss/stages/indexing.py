"""The last stage of a run that keeps an index: manifests, each of which says that a segment of it is whole."""

from __future__ import annotations

import json
from collections.abc import Iterator

from gneiss.corpus_steps import CorpusStep
from gneiss.output import layout, ledger
from gneiss.output.manifests import Manifest
from gneiss.stages.corpus import Corpus, Reader, StepView
from gneiss.stages.of_recipe import stages_before
from gneiss.stages.segments import count_segments


def is_indexed(corpus: Corpus) -> bool:
    """Whether all steps that keep an index have left their segments, those of earlier increments too."""
    return all(count_segments(corpus.output, step) > corpus.increment for step, _ in _indexed(corpus))


def write_manifests(corpus: Corpus) -> None:
    """Say of each step's segment what it is of, and which files it has, with size and checksum. Raises OutputError."""
    known = {
        file.path: file
        for stage in stages_before(corpus)
        if any(part.is_kept for part in stage.parts)
        for receipt in ledger.read(corpus.output, stage.name).values()
        for file in receipt.files
    }
    checksums = json.loads((corpus.output / layout.RUN_FILE).read())["models"]
    for step, phase in _indexed(corpus):
        view = StepView(corpus, step, phase, Reader(corpus))
        stages = {view.stage_name(stage.name): stage.tasks for stage in step.stages(view) if stage.is_kept}
        files: dict[str, tuple[int, str]] = {}
        for path in (corpus.index.path(name, task) for name, tasks in stages.items() for task in range(tasks)):
            file = known.get(path)  # not of a task whose driver was killed before it noted the receipt
            place = corpus.output / path
            files[path] = (file.size_bytes, file.checksum) if file else (len(place.read()), place.checksum())
        manifest = Manifest(
            step.key,
            step.index_parameters or {},
            [checksums[source] for source in step.model_files],
            sum(len(segment.shards) for segment in view.segments if segment.against is not None),
            [(shard.id, shard.known_rows or 0) for shard in corpus.shards],
            stages,
            files,
        )
        manifest.write(corpus.output, layout.index_file(step.key, corpus.increment))


def _indexed(corpus: Corpus) -> Iterator[tuple[CorpusStep, int]]:
    """The steps that keep an index, and their phases."""
    for index in corpus.wide_phases:
        steps = corpus.recipe.phases[index].wide_steps
        yield from ((step, index) for step in steps if step.index_parameters is not None)
