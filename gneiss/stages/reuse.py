"""What of a finished run's annotations holds for another recipe: computed by the same code of the same texts."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

from gneiss.annotation import Annotator
from gneiss.corpus_steps import CorpusStep
from gneiss.edit import Editor
from gneiss.input.plan import BYTE_SHAPING, RULES
from gneiss.output.data_files import DataFiles
from gneiss.output.layout import BASE_LAYER
from gneiss.recipe.code_files import code_files
from gneiss.recipe.columns import BASE_COLUMNS
from gneiss.recipe.entries import parameters
from gneiss.recipe.named import import_path, version_names
from gneiss.recipe.phase import Phase
from gneiss.recipe.recipe import Recipe
from gneiss.recipe.rule import reads

#: What is an annotator's own, beside libraries.
_OWN = ("code", "parameters")
#: What an annotator reads.
_READ = "annotations"
#: What later edits change, so that a run has its last value only.
_BASE = frozenset(column.name for column in BASE_COLUMNS)
Part: TypeAlias = Annotator | Editor | CorpusStep


@dataclass(frozen=True)
class Code:
    """What computes: versions of gneiss and of libraries, checksums of model files by their names in a recipe.

    files: digests of the files of gneiss behind a class, by its import path, and behind rules; none where nobody noted
    them: then the version of gneiss stands for them.
    """

    gneiss: str
    libraries: Mapping[str, str]
    models: Mapping[str, str]
    files: Mapping[str, str]

    @classmethod
    def of(cls, identity: Mapping[str, Any]) -> Code:
        """That of a run, by its identity and what is noted beside it."""
        models = {**identity["models"], **identity.get("indexes", {})}
        return cls(identity["gneiss"], identity["libraries"], models, identity.get("code", {}))

    def behind(self, part: Part) -> dict[str, Any]:
        """All that the results of a part of a recipe depend on, beside the texts; a model file is its checksum."""
        files = part.model_files if isinstance(part, Annotator | CorpusStep) else ()
        files += part.against if isinstance(part, CorpusStep) else ()
        modules = (type(part).__module__, *(part.calls if isinstance(part, Annotator) else ()))
        return {
            "class": import_path(type(part)),
            **self._of_module(import_path(type(part)), type(part).__module__),
            **{name: self.libraries.get(name) for name in version_names(modules)},
            "parameters": _with_checksums(parameters(part), {file: self.models.get(file, file) for file in files}),
        }

    def behind_rules(self) -> dict[str, Any]:
        """All that the verdicts of rules depend on, beside the rules and what they read."""
        return self._of_module(RULES, RULES)

    def _of_module(self, name: str, module: str) -> dict[str, Any]:
        """The code of a module and its libraries; of one outside gneiss it is not known what it uses: all there is."""
        files = code_files(module) if name in self.files else None
        libraries = [library for library, top in BYTE_SHAPING.items() if files is None or top in files.imported]
        code = self.files.get(name, f"gneiss {self.gneiss}")
        return {"code": code, **{library: self.libraries.get(library) for library in libraries}}


def _with_checksums(value: Any, checksums: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _with_checksums(inner, checksums) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_checksums(inner, checksums) for inner in value]
    return checksums.get(value, value) if isinstance(value, str) else value


@dataclass(frozen=True)
class Taken:
    """Where an annotator's values are taken from.

    columns: name → layer, and its name there; phase, last: of the run: documents that reached `phase` have values, and
    up to `last` the run's texts stay those that they are of; is_same_text: whether the recipe's texts are known to be
    the same; where not, the content hash says so of documents that went no further than `last`.
    """

    columns: Mapping[str, tuple[str, str]]
    phase: int
    last: int
    is_same_text: bool


@dataclass(frozen=True)
class PhaseReuse:
    """What is taken for a phase: for each annotator from where, and the keys of the steps whose results are."""

    annotators: tuple[Taken | None, ...]
    steps: frozenset[str]


@dataclass(frozen=True)
class Source:
    """Annotations that are there: the layer that has them, the recipe and the code that computed them, their names."""

    layer: str
    recipe: Recipe
    code: Code
    columns: frozenset[str]

    @classmethod
    def base(cls, recipe: Recipe, code: Code) -> Source:
        """Those that a run wrote."""
        return cls(BASE_LAYER, recipe, code, frozenset(column.name for column in recipe.columns))

    @classmethod
    def of_layer(cls, name: str, columns: Iterable[str], parameters: Mapping[str, Any]) -> Source:
        """Those of a layer that `gneiss annotate --update` wrote; `parameters`: what it notes."""
        recipe = Recipe.parse(parameters["recipe"], f"layer {name}")
        return cls(name, recipe, Code.of(parameters["identity"]), frozenset(columns))

    @cached_property
    def annotators(self) -> tuple[tuple[int, Annotator], ...]:
        """Those that computed them, each with the index of its phase."""
        return tuple(
            (index, annotator)
            for index, phase in enumerate(self.recipe.phases)
            for annotator in phase.annotators
            if self.columns.issuperset(column.name for column in annotator.columns)
        )


@dataclass(frozen=True)
class Reuse:
    """A recipe and a finished run: what of the run is taken, and what is computed.

    has_all: whether the run decided about every shard of the recipe's input, and no document failed in it, so that all
    documents took part in its corpus-wide steps of which this can be known.
    """

    recipe: Recipe
    code: Code
    earlier: Recipe
    earlier_code: Code
    sources: Sequence[Source]
    has_all: bool

    @cached_property
    def phases(self) -> tuple[PhaseReuse, ...]:
        """What is taken for each phase of the recipe."""
        return tuple(
            PhaseReuse(
                tuple(self._taken(index, annotator) for annotator in phase.annotators),
                frozenset(step.key for step in phase.steps if self._is_found(index, step)),
            )
            for index, phase in enumerate(self.recipe.phases)
        )

    @property
    def has_documents(self) -> bool:
        """Whether the run wrote each document that both keep as it is to be written: text, other columns, format."""
        mine, there = (
            (code.gneiss, code.libraries, recipe.input, DataFiles.of(recipe.output))
            for code, recipe in ((self.code, self.recipe), (self.earlier_code, self.earlier))
        )
        return (
            mine == there
            and self._has_texts_of(len(self.recipe.phases) - 1, len(self.earlier.phases) - 1)
            and all(self._has_values(name) for name in self.recipe.input.derived_from_text.values() if name)
        )

    @property
    def needs_no_text(self) -> bool:
        """Whether a shard whose documents all end where they did can be decided without reading its texts."""
        mine, there = self.recipe.phases, self.earlier.phases
        return (
            self.has_documents
            and [phase.name for phase in mine] == [phase.name for phase in there]
            and all(self._has_texts_of(index, index) for index in range(len(mine)))
            and all(taken and taken.is_same_text for reuse in self.phases for taken in reuse.annotators)
            and not any(
                names & _BASE
                for index, phase in enumerate(mine)
                if any(later.steps or later.editors for later in mine[index + 1 :])
                for names in reads(phase.decision, self.recipe.readable(index)).values()
            )
        )

    def computed(self) -> Iterator[tuple[Annotator | CorpusStep, str]]:
        """Whatever is not taken, and why."""
        for index, (phase, reuse) in enumerate(zip(self.recipe.phases, self.phases, strict=True)):
            for step in phase.steps:
                if step.key not in reuse.steps:
                    yield step, "it may see other documents than it did"
            for annotator, taken in zip(phase.annotators, reuse.annotators, strict=True):
                if taken is None:
                    yield annotator, self._why(index, annotator)
                elif not taken.is_same_text:
                    yield annotator, "only of documents whose text is another one"

    def lacking(self) -> tuple[tuple[Annotator, ...], ...]:
        """For each phase the annotators of whose values for the run's own texts in it none is there.

        The phases edit texts as those of the run do.
        """
        return tuple(
            tuple(annotator for annotator in phase.annotators if not self._has(index, annotator))
            for index, phase in enumerate(self.recipe.phases)
        )

    def with_what_they_read(
        self, chosen: Sequence[Sequence[Annotator]]
    ) -> tuple[tuple[tuple[Annotator, Taken | None], ...], ...]:
        """For each phase annotators of the recipe, to be computed, and those that they read, each from where it is."""
        read: set[str] = set()
        left = [annotator for of_phase in chosen for annotator in of_phase]
        while left:
            more = set(left.pop().reads_annotations) - read
            read |= more
            left += [
                annotator for phase in self.recipe.phases for annotator in phase.annotators if _gives(annotator, more)
            ]
        found: list[tuple[tuple[Annotator, Taken | None], ...]] = []
        for phase, reuse, computed in zip(self.recipe.phases, self.phases, chosen, strict=True):
            pairs = zip(phase.annotators, reuse.annotators, strict=True)
            found.append(
                tuple((a, None if a in computed else taken) for a, taken in pairs if a in computed or _gives(a, read))
            )
        return tuple(found)

    def _has(self, index: int, annotator: Annotator) -> bool:
        """Whether there are values of an annotator for all documents that reached a phase in the run."""
        texts = _history(self.earlier, self.earlier_code, index)
        return any(
            phase <= index and (annotator.reads != "text" or _history(self.earlier, self.earlier_code, phase) == texts)
            for _, phase, _ in self._matching(index, annotator)
        )

    def _taken(self, index: int, annotator: Annotator) -> Taken | None:
        """From where values are taken, best from where the texts are known to be the same, and of most documents."""
        places = (self._from(index, annotator, *found) for found in self._matching(index, annotator))
        sure = (taken for taken in places if taken.is_same_text or not annotator.reads_annotations)
        return max(sure, key=lambda taken: (taken.is_same_text, -taken.phase), default=None)

    def _matching(self, index: int, annotator: Annotator) -> Iterator[tuple[Source, int, Annotator]]:
        """What the same code computed, wherever it is: the phase, and the annotator there."""
        if _reads_layer(annotator):  # which may be another one of the same name
            return
        wanted = _behind(self.recipe, self.code, index, annotator)
        for source in self.sources:
            for phase, found in source.annotators:
                if type(found) is type(annotator) and _behind(source.recipe, source.code, phase, found) == wanted:
                    yield source, phase, found

    def _from(self, index: int, annotator: Annotator, source: Source, phase: int, found: Annotator) -> Taken:
        pairs = zip(annotator.columns, found.columns, strict=True)
        columns = {mine.name: (source.layer, pair.name) for mine, pair in pairs}
        history = _history(self.earlier, self.earlier_code, phase)
        later = range(phase, len(self.earlier.phases))
        last = max(at for at in later if _history(self.earlier, self.earlier_code, at) == history)
        is_same = annotator.reads != "text" or self._has_texts_of(index, phase)
        return Taken(columns, phase, last, is_same)

    def _has_texts_of(self, index: int, phase: int) -> bool:
        """Whether the texts of a phase are those of a phase of the run, as far as this can be known."""
        history = _history(self.recipe, self.code, index)
        steps = ((at, step) for at, one in enumerate(self.recipe.phases[: index + 1]) for step in one.steps)
        return history == _history(self.earlier, self.earlier_code, phase) and all(
            self._is_found(at, step) for at, step in steps
        )

    def _has_values(self, name: str) -> bool:
        """Whether the run has an annotation under this name, of texts that are the same, as far as annotators go."""
        for phase, reuse in zip(self.recipe.phases, self.phases, strict=True):
            for annotator, taken in zip(phase.annotators, reuse.annotators, strict=True):
                if any(column.name == name for column in annotator.columns):
                    return taken is not None and taken.is_same_text and taken.columns[name] == (BASE_LAYER, name)
        return True

    def _is_found(self, index: int, step: CorpusStep) -> bool:
        """Whether a step found in the run what it would find: the same documents reach it, with the same texts."""
        if not (self.has_all and step.is_stored) or index >= len(self.earlier.phases):
            return False
        before = range(index)
        if before and (self.recipe.layers or self.earlier.layers):
            return False
        mine = [_decides(self.recipe.phases[at], self.code) for at in before]
        return mine == [_decides(self.earlier.phases[at], self.earlier_code) for at in before] and any(
            type(other) is type(step) and self.earlier_code.behind(other) == self.code.behind(step)
            for other in self.earlier.phases[index].steps
        )

    def _why(self, index: int, annotator: Annotator) -> str:
        """Why no annotation is taken for an annotator."""
        wanted = _behind(self.recipe, self.code, index, annotator)
        of_its_kind = (
            _behind(source.recipe, source.code, phase, found)
            for source in self.sources
            for phase, found in source.annotators
            if type(found) is type(annotator)
        )
        other = ([name for name, value in wanted.items() if there.get(name) != value] for there in of_its_kind)
        fewest = min(other, key=len, default=None)
        if fewest is None:
            return "the run does not have it"
        what = fewest[0] if fewest else _READ
        if what == _READ:
            return "what it reads may be other"
        return f"the run has it with other {what}" if what in _OWN else f"the run had another {what}"


def _behind(recipe: Recipe, code: Code, index: int, annotator: Annotator) -> dict[str, Any]:
    """All that the results of an annotator of a phase depend on, beside the texts: also what gives what it reads."""
    reads = {name: _behind_column(recipe, code, index, name) for name in annotator.reads_annotations}
    return {**code.behind(annotator), **({_READ: reads} if reads else {})}


def _behind_column(recipe: Recipe, code: Code, index: int, name: str) -> Any:
    """What gives an annotation, and as which of its columns; only the name of what texts alone, or layers, give."""
    for at, phase in enumerate(recipe.phases[: index + 1]):
        for annotator in phase.annotators:
            if _gives(annotator, {name}):
                return [_position(annotator, name), _behind(recipe, code, at, annotator)]
        parts: list[Part] = [*phase.steps, *phase.editors]
        for part in parts:
            if any(column.name == name for column in part.columns):
                return [name, code.behind(part)]
    return name


def _gives(annotator: Annotator, names: Collection[str]) -> bool:
    return any(column.name in names for column in annotator.columns)


def _position(annotator: Annotator, name: str) -> int:
    return [column.name for column in annotator.columns].index(name)


def _reads_layer(annotator: Annotator) -> bool:
    return any("." in name for name in annotator.reads_annotations)


def _history(recipe: Recipe, code: Code, index: int) -> list[Any]:
    """All that edits texts up to a phase."""
    phases = recipe.phases[: index + 1]
    parts: list[list[Part]] = [[*phase.steps, *phase.editors] for phase in phases]
    return [[code.behind(part) for part in of_phase] for of_phase in parts if of_phase]


def _decides(phase: Phase, code: Code) -> str:
    """All that decides which documents of a phase stay."""
    parts: list[Part] = [*phase.steps, *phase.editors, *phase.annotators]
    return json.dumps(
        [
            [code.behind(part) for part in parts],
            code.behind_rules(),
            [dict(phase.aliases), dict(phase.rules), phase.kept_by],
        ],
        sort_keys=True,
    )
