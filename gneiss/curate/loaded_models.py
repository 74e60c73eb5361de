"""The models that a worker needs for a recipe; converted once per run, loaded once per worker."""

from __future__ import annotations

import fcntl
import logging
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

from gneiss.annotation import Annotate, Annotator, Prepares
from gneiss.corpus_steps import CorpusStep
from gneiss.errors import MachineError
from gneiss.input.model_files import cache_folder, locate
from gneiss.recipe.recipe import Recipe
from gneiss.recipe.rule import locked_connection

if TYPE_CHECKING:
    import duckdb

#: How often the lock of the cache is looked at, when waiting for it is said, and when it is given up.
_LOOK_SECONDS, _SAID_SECONDS, _WAIT_SECONDS = 0.1, 10, 3600
_log = logging.getLogger(__name__)
#: For each phase, for each annotator: source → the local file that it loads.
Prepared: TypeAlias = tuple[tuple[Mapping[str, Path], ...], ...]


@dataclass(frozen=True, eq=False)
class LoadedModels:
    """State of a worker for all its shards: the models of each phase, and a connection for rules."""

    phases: tuple[PhaseModels, ...]
    connection: duckdb.DuckDBPyConnection


@dataclass(frozen=True, eq=False)
class PhaseModels:
    """One phase's loaded annotators, and its corpus-wide steps with their loaded models."""

    annotators: tuple[tuple[Annotator, Annotate], ...]
    steps: tuple[tuple[CorpusStep, Any], ...] = ()


def prepare(recipe: Recipe) -> Prepared:
    """Locate every model of a recipe, and convert those with another form for loading; conversions are cached.

    Raises ModelError, and MachineError when the cache cannot be written.
    """
    files = {source: locate(source, recipe.folder) for source in recipe.model_files}
    return tuple(tuple(_prepared(a, files) for a in phase.annotators) for phase in recipe.phases)


def _prepared(annotator: Annotator, files: Mapping[str, Path]) -> Mapping[str, Path]:
    """The files that an annotator loads, of these; the first worker of a node converts, the others wait for it."""
    if not isinstance(annotator, Prepares):
        return files
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("a")
    except OSError as error:
        raise MachineError(
            f"{folder}: cannot write converted models: {error.strerror}; set GNEISS_CACHE to a folder"
        ) from error
    with lock:
        _wait_for(lock, folder)
        return annotator.prepare(files, folder)


def _wait_for(lock: IO[str], folder: Path) -> None:
    """Hold the lock of the cache. Raises MachineError after an hour, and where there are no locks."""
    for tries in count():
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if tries == _SAID_SECONDS / _LOOK_SECONDS:
                _log.warning("%s: waiting for another process, which converts models", folder)
            if tries >= _WAIT_SECONDS / _LOOK_SECONDS:
                raise MachineError(
                    f"{folder}: another process has been converting models for {_WAIT_SECONDS // 60} minutes;"
                    " end it, or set GNEISS_CACHE to another folder"
                ) from error
        except OSError as error:
            raise MachineError(
                f"{folder}: its file system keeps no locks (flock: {error.strerror}); set GNEISS_CACHE to a folder of"
                " another one"
            ) from error
        else:
            return
        time.sleep(_LOOK_SECONDS)


def load_models(recipe: Recipe, prepared: Prepared | None = None, first: int = 0) -> LoadedModels:
    """Load every model of a recipe, once per worker; `prepared` on another node is prepared here again.

    Parameters: `first`: the index of the first phase that is computed; those before it need none. Raises ModelError and
    MachineError.
    """
    prepared = prepared_here(recipe, prepared)
    computed = tuple(load_phase_models(recipe, index, prepared) for index in range(first, len(recipe.phases)))
    return LoadedModels((PhaseModels(()),) * first + computed, locked_connection())


def models_when_needed(recipe: Recipe, stored_steps: Collection[str]) -> LoadedModels:
    """The models of a recipe, each prepared and loaded when it first computes something.

    stored_steps: keys of corpus-wide steps that have done their work. Raises ModelError and MachineError, also later.
    """
    return LoadedModels(
        tuple(
            PhaseModels(
                tuple((annotator, _loaded_when_needed(annotator, recipe)) for annotator in phase.annotators),
                tuple(
                    (step, None if step.sees_corpus or step.key in stored_steps else load_step(step, recipe))
                    for step in phase.steps
                ),
            )
            for phase in recipe.phases
        ),
        locked_connection(),
    )


def _loaded_when_needed(annotator: Annotator, recipe: Recipe) -> Annotate:
    @cache
    def load() -> Annotate:
        files = {source: locate(source, recipe.folder) for source in annotator.model_files}
        return annotator.load(_prepared(annotator, files))

    return lambda batch: load()(batch)


def load_phase_models(recipe: Recipe, index: int, prepared: Prepared) -> PhaseModels:
    """Load what one phase needs. Raises ModelError."""
    phase, files = recipe.phases[index], prepared[index]
    annotators = tuple((a, a.load(its_files)) for a, its_files in zip(phase.annotators, files, strict=True))
    # a corpus-scope step has done its work in its stages
    steps = tuple((step, None if step.sees_corpus else load_step(step, recipe)) for step in phase.steps)
    return PhaseModels(annotators, steps)


def prepared_here(recipe: Recipe, prepared: Prepared | None) -> Prepared:
    """The prepared files, prepared again if they are not on this node. Raises ModelError and MachineError."""
    if prepared is None or not all(path.exists() for phase in prepared for files in phase for path in files.values()):
        return prepare(recipe)
    return prepared


def load_step(step: CorpusStep, recipe: Recipe) -> Any:
    """The loaded models of a corpus-wide step. Raises ModelError."""
    return step.load({file: locate(file, recipe.folder) for file in step.model_files})
