"""Recipes: one YAML file that states what to read, what to compute, which rules decide, and what to write."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PrivateAttr, ValidationError, model_validator

from gneiss.annotation import OF_COLUMN, Column, ColumnType, Completes
from gneiss.corpus_steps import STEPS, CorpusStep
from gneiss.corpus_steps.step import ShardSize
from gneiss.errors import InputError, RecipeError, did_you_mean
from gneiss.filters.tokens import Tokens
from gneiss.recipe.changes import change
from gneiss.recipe.columns import BASE_COLUMNS, ORIGIN, RESERVED
from gneiss.recipe.entries import explain, parameters, step_kinds, written
from gneiss.recipe.files import ID, Budgets, Card, InputColumns, OutputFiles
from gneiss.recipe.named import name_of
from gneiss.recipe.part import READING, Part
from gneiss.recipe.phase import Phase
from gneiss.recipe.quantile_rule import QuantileRule
from gneiss.recipe.rule import check, check_measure
from gneiss.recipe.yaml_text import MOST_BYTES, read_yaml, write_yaml

#: The most phases of a recipe.
MOST_PHASES = 100
#: What a layer of annotations may be called.
LAYER_NAME = r"^[a-z][a-z0-9_-]*$"
_PACKAGED = resources.files("gneiss.pipelines")


class Recipe(Part):
    """A validated recipe.

    `layers`: layer of an output → its columns that rules may read as `layer.column`, and their types.

    >>> Recipe.load("gneissweb-bytes").phases[0].decision.keep
    'not_emptied AND quality AND (readable OR tokens_normal)'
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    description: str = ""
    input: InputColumns = InputColumns()
    shard_max_bytes: int = Field(256_000_000, ge=1)
    budgets: Budgets = Budgets()
    card: Card = Card()
    output: OutputFiles = OutputFiles()
    layers: dict[Annotated[str, Field(pattern=LAYER_NAME)], dict[str, ColumnType]] = Field(default_factory=dict)
    phases: list[Phase] = Field(min_length=1, max_length=MOST_PHASES)
    _folder: Path = PrivateAttr(Path())

    @classmethod
    def load(cls, name_or_path: str | Path) -> Recipe:
        """Load a packaged recipe by name, or a YAML file by path.

        Relative model paths are resolved against the recipe's folder. Raises RecipeError.
        """
        path = Path(name_or_path)
        if path.suffix in {".yaml", ".yml"}:
            try:
                with path.open(encoding="utf-8") as file:
                    return cls.parse(file.read(MOST_BYTES + 1), str(path), path.parent)
            except (OSError, UnicodeDecodeError) as error:
                raise RecipeError(f"{path}: cannot read the recipe: {error}") from error
        packaged = _PACKAGED / f"{name_or_path}.yaml"
        if str(name_or_path) not in recipe_names():
            raise RecipeError(
                f"no recipe {str(name_or_path)!r}{did_you_mean(str(name_or_path), recipe_names())}"
                " (or the path of a .yaml file)"
            )
        return cls.parse(packaged.read_text("utf-8"), f"recipe {name_or_path}", Path())

    @classmethod
    def parse(cls, text: str, where: str = "recipe", folder: Path | None = None) -> Recipe:
        """Parse and validate the text of a recipe; `where` names it in messages. Raises RecipeError."""
        try:
            given = read_yaml(text)
        except RecipeError as error:
            raise RecipeError(f"{where}: {error}") from error
        if not isinstance(given, dict):
            raise RecipeError(f"{where}: expected a mapping with name and phases, found {type(given).__name__}")
        return cls._validated(given, where, folder or Path())

    def changed(self, changes: Mapping[str, Any]) -> Recipe:
        """This recipe with other values, by dotted path; a phase and an annotator are named in it. Raises RecipeError.

        >>> recipe = Recipe.load("gneissweb-bytes").changed({"phases.gneissweb.rules.quality": "cosmo > 0.03"})
        >>> recipe.phases[0].rules["quality"]
        'cosmo > 0.03'
        """
        given = {**self.canonical(), "card": self.card.model_dump(), "output": self.output.stated()}
        given["input"] = self.input.model_dump()
        for path, value in changes.items():
            change(given, path, value)
        return self._validated(given, f"recipe {self.name} with {', '.join(changes)}", self._folder)

    @classmethod
    def _validated(cls, given: dict[str, Any], where: str, folder: Path) -> Recipe:
        try:
            recipe = cls.model_validate(given, context=READING)
        except ValidationError as error:
            raise RecipeError(f"{where}: {explain(error, cls, step_kinds())}") from error
        except (RecipeError, InputError) as error:
            raise RecipeError(f"{where}: {error}") from error
        recipe._folder = folder
        return recipe

    @property
    def shares(self) -> dict[str, QuantileRule]:
        """The rules by share of tokens, of all phases, whose numbers are not known."""
        return {name: rule for phase in self.phases for name, rule in phase.shares.items()}

    @property
    def conditions(self) -> dict[str, str]:
        """The conditions of all rules but those by share whose numbers are not known."""
        rules = ((phase, name, rule) for phase in self.phases for name, rule in phase.rules.items())
        return {name: rule for phase, name, rule in rules if name not in phase.shares}

    def with_conditions(self, conditions: Mapping[str, str]) -> Recipe:
        """This recipe with conditions in place of rules by share, by the names of rules."""
        if not self.shares:
            return self
        return self.model_copy(update={"phases": [phase.with_conditions(conditions) for phase in self.phases]})

    def weighed_by(self, phase: int) -> str | None:
        """The annotation that counts tokens, as a phase, by its index, knows it; the first one."""
        known = self.phases[: phase + 1]
        counters = (annotator for one in known for annotator in one.annotators if isinstance(annotator, Tokens))
        return next((counter.column for counter in counters), None)

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        known: dict[str, ColumnType] = {column.name: column.type for column in self.layer_columns}
        names: set[str] = set()
        evidence = {field.name for step in STEPS for field in step.evidence}
        evidence |= {field.name for phase in self.phases for field in phase.evidence}
        rules: set[str] = set()
        steps: set[str] = set()
        for index, phase in enumerate(self.phases):
            if phase.name in {earlier.name for earlier in self.phases[:index]}:
                raise RecipeError(f"two phases are named {phase.name!r}")
            for step in phase.steps:
                if step.key in steps:
                    raise RecipeError(f"only one phase can have {step.key}")
                steps.add(step.key)
                readable = {**{column.name: column.type for column in BASE_COLUMNS}, **known}
                for name, measure in step.measures.items():
                    if measure is not None:
                        check_measure(f"phase {phase.name!r}: {step.key}.{name}", measure, readable)
            for column in (*(BASE_COLUMNS if not index else ()), *phase.columns):
                if column.name.lower() in names:
                    raise RecipeError(f"phase {phase.name!r}: the annotation {column.name!r} is computed twice")
                if column.name.lower() in {*RESERVED, *ORIGIN, *evidence}:
                    raise RecipeError(
                        f"phase {phase.name!r}: an annotation cannot be named {column.name!r}:"
                        " annotation shards have a column of that name"
                    )
                if not column.name.isidentifier():
                    raise RecipeError(
                        f"phase {phase.name!r}: an annotation cannot be named {column.name!r}:"
                        " expected letters, digits and underscores"
                    )
                known[column.name] = column.type
                names.add(column.name.lower())
            _check_reads(phase, known)
            if twice := rules & set(phase.rules):
                raise RecipeError(f"phase {phase.name!r}: the rule {min(twice)!r} is defined twice")
            rules |= set(phase.rules)
            check(phase.without_numbers, known)
            _check_shares(phase, known, self.weighed_by(index))
        readers = (annotator.reads for phase in self.phases for annotator in phase.annotators)
        if self.input.url != "url" and "url" not in readers:
            raise RecipeError(f"input.url: {self.input.url!r} is read by no annotator of this recipe; remove it")
        for stale, fresh in self.input.derived_from_text.items():
            if stale in {self.input.text, self.input.id}:
                raise RecipeError(f"input.derived_from_text: {stale!r} is the text or the id itself")
            if fresh is not None and known.get(fresh) not in {"int64", "float64"}:
                raise RecipeError(
                    f"input.derived_from_text: {stale}: no numeric annotation {fresh!r}{did_you_mean(fresh, known)}"
                )
        return self

    @property
    def wide_steps(self) -> tuple[CorpusStep, ...]:
        """The steps of all phases that see more than a shard."""
        return tuple(step for phase in self.phases for step in phase.wide_steps)

    @property
    def is_corpus_wide(self) -> bool:
        """Whether a step or a rule of any phase sees more than a shard."""
        return any(phase.is_corpus_wide for phase in self.phases)

    def over(self, shards: Sequence[ShardSize]) -> Recipe:
        """The recipe as it runs over some shards: no step at a wider scope than they need. Raises RecipeError."""
        narrower = {
            f"phases.{phase.name}.{step.key}.scope": scope
            for phase in self.phases
            for step in phase.steps
            if (scope := step.scope_of(shards)) is not None
        }
        return self.changed(narrower) if narrower else self

    @property
    def layer_columns(self) -> tuple[Column, ...]:
        """The columns of layers that rules may read, by the names that rules call them by."""
        return tuple(
            Column(f"{layer}.{name}", type_, f"{name} of the layer {layer}")
            for layer, columns in self.layers.items()
            for name, type_ in columns.items()
        )

    @property
    def columns(self) -> tuple[Column, ...]:
        """All annotations, in order."""
        return (*BASE_COLUMNS, *self.layer_columns, *(column for phase in self.phases for column in phase.columns))

    def readable(self, phase: int) -> dict[str, ColumnType]:
        """The annotations that the rules of a phase, by its index, can read, and their types."""
        own = (column for earlier in self.phases[: phase + 1] for column in earlier.columns)
        return {column.name: column.type for column in (*BASE_COLUMNS, *self.layer_columns, *own)}

    @property
    def model_files(self) -> tuple[str, ...]:
        """Every model and tokenizer file that the recipe names, each once, in order."""
        files = (
            file
            for phase in self.phases
            for paths in (*(step.model_files for step in phase.steps), *(a.model_files for a in phase.annotators))
            for file in paths
        )
        return tuple(dict.fromkeys(files))

    @property
    def classes(self) -> tuple[type[Any], ...]:
        """The classes of all steps, editors and annotators."""
        parts = (part for phase in self.phases for part in (*phase.steps, *phase.editors, *phase.annotators))
        return tuple(type(part) for part in parts)

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules whose code computes: those of the classes, and those that annotators call besides."""
        calls = (module for phase in self.phases for annotator in phase.annotators for module in annotator.calls)
        return (*(class_.__module__ for class_ in self.classes), *calls)

    @property
    def inputs(self) -> dict[str, str]:
        """The columns beside the text that annotators read, by what they mean: `id` always, if there is one, `url`.

        A column that is read for itself is known by what its annotator `reads`.
        """
        read = {annotator.reads for phase in self.phases for annotator in phase.annotators}
        known = {"id": self.input.id, "url": self.input.url}
        if "id" in read and self.input.id is None:
            raise RecipeError("input.id: an annotator reads ids, but the recipe has `id: null`; name the column")
        own = {reads: reads.removeprefix(OF_COLUMN) for reads in sorted(read) if reads.startswith(OF_COLUMN)}
        return {name: column for name, column in known.items() if column and (name == "id" or name in read)} | own

    def completed(self, files: Mapping[str, Path]) -> Recipe:
        """This recipe with what the model files of its annotators say; files: source → local path.

        Raises ModelError, and RecipeError where they read annotations that the recipe does not have.
        """
        changes = {
            f"phases.{phase.name}.annotate": [written(annotator) for annotator in whole]
            for phase in self.phases
            if (
                whole := [
                    annotator.completed(files) if isinstance(annotator, Completes) else annotator
                    for annotator in phase.annotators
                ]
            )
            != list(phase.annotators)
        }
        return self.changed(changes) if changes else self

    @property
    def makes_ids(self) -> str | None:
        """The id column, if files that lack it get one of made ids."""
        reads = {annotator.reads for phase in self.phases for annotator in phase.annotators}
        return ID if self.input.id == ID and "id" not in reads else None

    @property
    def folder(self) -> Path:
        """The folder of the recipe's file, from which relative model paths are taken."""
        return self._folder

    def canonical(self) -> dict[str, Any]:
        """The recipe with every default written out, but for `card`, `output`, `layers` and `input.hive`."""
        whole = self.model_dump(mode="json")
        for key, default in (("card", Card()), ("output", OutputFiles())):
            if getattr(self, key) == default:  # recipes are older than these keys, and keep their digests
                del whole[key]
        if not self.layers:
            del whole["layers"]
        if self.input.hive == {}:
            del whole["input"]["hive"]
        for index, (phase, own) in enumerate(zip(self.phases, whole["phases"], strict=True)):
            del own["corpus_steps"]
            steps = {name_of(type(step), step_kinds()): parameters(step) for step in phase.steps}
            own = {"name": own.pop("name"), **dict.fromkeys(step_kinds()), **steps, **own}
            whole["phases"][index] = own
            own["edit"] = [written(editor) for editor in phase.editors]
            own["annotate"] = [written(annotator) for annotator in phase.annotators]
            del own["shares"]
            own["rules"] = {**phase.rules, **{name: rule.written() for name, rule in phase.shares.items()}}
        return whole

    def to_yaml(self) -> str:
        """The canonical recipe as a file, which loads as the same recipe."""
        return write_yaml(self.canonical())

    def digest(self) -> str:
        """sha256 over the canonical recipe with the default budgets and without its card: 64 hexadecimal digits.

        The order of rules and models matters: it is the order of columns, and of the names in `failed`. Budgets do not:
        an output that is past them can be accepted as it is, by the same command with larger ones. Nor does the card,
        which describes an output.
        """
        whole = {**self.canonical(), "budgets": Budgets().model_dump(mode="json")}
        whole.pop("card", None)
        return hashlib.sha256(json.dumps(whole, ensure_ascii=False).encode()).hexdigest()


def _check_reads(phase: Phase, known: Mapping[str, ColumnType]) -> None:
    """Check what the annotators of a phase read of the annotations that there are by then. Raises RecipeError."""
    for annotator in phase.annotators:
        name = annotator.key or type(annotator).__name__
        if annotator.reads_annotations and annotator.reads != "text":
            raise RecipeError(
                f"phase {phase.name!r}: {name}: it reads annotations, and so cannot read {annotator.reads}"
            )
        for read in annotator.reads_annotations:
            if read not in known:
                raise RecipeError(
                    f"phase {phase.name!r}: {name} reads the annotation {read!r}, which neither this phase nor an"
                    f" earlier one computes{did_you_mean(read, known)}"
                )
    phase.annotation_order  # noqa: B018 - it raises


def _check_shares(phase: Phase, known: Mapping[str, ColumnType], tokens: str | None) -> None:
    """Check what rules by share read, and that something counts tokens. Raises RecipeError."""
    for name, rule in phase.shares.items():
        where = f"phase {phase.name!r}: rule {name!r}: {rule}"
        if tokens is None:
            raise RecipeError(f"{where}: nothing counts tokens by then; annotate `tokens` in this phase or before")
        types = {read: known[phase.aliases.get(read, read)] for read in rule.reads}
        if types[rule.score] not in {"int64", "float64"}:
            raise RecipeError(f"{where}: {rule.score!r}: expected a number, found {types[rule.score]}")
        for category in rule.by:
            if types[category] == "float64":
                raise RecipeError(f"{where}: {category!r}: expected a string, a whole number or a flag, found float64")


def recipe_names() -> list[str]:
    """The names of the packaged recipes."""
    return sorted(entry.name.removesuffix(".yaml") for entry in _PACKAGED.iterdir() if entry.name.endswith(".yaml"))
