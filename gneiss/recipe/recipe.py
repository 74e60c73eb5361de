"""Recipes: one YAML file that states what to read, what to compute, which rules decide, and what to write."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from gneiss.annotation import OF_COLUMN, Annotator, Column, ColumnType
from gneiss.corpus_steps import STEPS, CorpusStep
from gneiss.edit import Editor
from gneiss.errors import InputError, RecipeError, did_you_mean
from gneiss.filters.catalogue import ANNOTATORS, EDITORS
from gneiss.recipe.changes import change
from gneiss.recipe.entries import Entry, explain, parameters, part_of, step_entries, step_kinds, step_of, written
from gneiss.recipe.filters import with_filters
from gneiss.recipe.named import name_of
from gneiss.recipe.rule import Rules, check
from gneiss.recipe.yaml_text import MOST_BYTES, read_yaml, write_yaml

if TYPE_CHECKING:
    import pyarrow as pa

#: Annotations of every document, computed by `curate` itself.
BASE_COLUMNS = (
    Column("text_bytes", "int64", "UTF-8 bytes of the text after the edits of the phase"),
    Column("text_chars", "int64", "code points of the text after the edits of the phase"),
)
#: The most phases of a recipe.
MOST_PHASES = 100
#: What a layer of annotations may be called.
LAYER_NAME = r"^[a-z][a-z0-9_-]*$"
_READING = {"reading": True}
#: Compression → its default level, and the highest one.
_LEVELS = {"zstd": (3, 22), "gzip": (6, 9)}
#: Formats of JSON lines → their compression.
_JSONL = {"jsonl.zst": "zstd", "jsonl.gz": "gzip", "jsonl": "none"}
#: The id column by default; ids are made for files that lack it.
_ID = "id"
#: The types of keys in names of folders, as Arrow names them.
KeyType: TypeAlias = Literal["string", "int64", "float64", "bool", "date32"]
_PACKAGED = resources.files("gneiss.pipelines")


class Part(BaseModel):
    """A part of a recipe: strict and frozen, with no key but its own. Raises RecipeError."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)

    @model_validator(mode="wrap")
    @classmethod
    def _refused(cls, given: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        """What is made from Python raises a RecipeError of its own; what is read is a part of the whole recipe's."""
        try:
            return handler(given)
        except ValidationError as error:
            if info.context is _READING:
                raise
            raise RecipeError(f"{cls.__name__}: {explain(error, cls, step_kinds())}") from error


class InputColumns(Part):
    """The input's columns; `derived_from_text` names those that an edit makes stale.

    A stale value is replaced by the annotation named for it, or null: `derived_from_text: {token_count: tokens}`. The
    column `url` is needed only if an annotator reads it. Ids are made for files without a column `id`, and for all with
    `id: null`. Columns are names, or paths of fields: `metadata.url`. `hive`: types of the keys in names of folders
    (`dump=CC-2024/`), which are columns too, strings if not named here; null: they are not.
    """

    text: str = "text"
    id: str | None = _ID
    url: str = "url"
    derived_from_text: dict[str, str | None] = Field(default_factory=dict)
    hive: dict[str, KeyType] | None = Field(default_factory=dict)


class OutputFiles(Part):
    """The files of `data/`: `format` is what their names end with; `compression` is chosen for Parquet only.

    level: of zstd, 1 to 22, by default 3, or of gzip, 1 to 9, by default 6; shard_bytes: at the end of a run its
    documents are laid into new shards, whose files have about this size; shuffle_seed: of their order, else as it was.
    """

    format: Literal["parquet", "jsonl.zst", "jsonl.gz", "jsonl"] = "parquet"
    compression: Literal["zstd", "snappy", "gzip", "none"] = "zstd"
    level: int | None = 3
    shard_bytes: int | None = Field(default=None, ge=1)
    shuffle_seed: int | None = Field(default=None, ge=0, lt=1 << 63)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.shuffle_seed is not None and self.shard_bytes is None:
            raise ValueError("shuffle_seed: it orders the documents of new shards; give shard_bytes too")
        return self

    @model_validator(mode="before")
    @classmethod
    def _with_defaults(cls, given: Any) -> Any:
        """What follows from the other keys is written out, so that equal outputs have equal recipes."""
        if not isinstance(given, dict):
            return given
        own = _JSONL.get(str(given.get("format", "parquet")))
        compression = given.get("compression", own or "zstd")
        if own and compression != own:
            raise ValueError(f"compression: {given['format']} has {own}; leave the key out")
        default, most = _LEVELS.get(str(compression), (None, 0))
        level = given.get("level", default)
        if level is not None and not most:
            raise ValueError(f"level: the compression {compression} has none; leave the key out")
        if most and not (type(level) is int and 1 <= level <= most):
            raise ValueError(f"level: expected 1 to {most} for {compression}")
        return {**given, "compression": compression, "level": level}

    def stated(self) -> dict[str, Any]:
        """The keys that do not follow from others, so that others can change."""
        of_format = OutputFiles(format=self.format)
        of_compression = OutputFiles(format=self.format, compression=self.compression)
        implied = {"compression": of_format.compression, "level": of_compression.level}
        return {name: value for name, value in self if name not in implied or implied[name] != value}


class Budgets(Part):
    """How much may be quarantined before the run ends with exit code 3: a share of documents, a number of shards."""

    documents: float = Field(default=0.001, ge=0, le=1)
    shards: int = Field(default=0, ge=0)


class Card(Part):
    """What the dataset card says that no run can know: identifiers of a license and of languages, as the hub has them.

    Where they are not given, they are those of the card of an input on the hub, or missing.
    """

    license: str | None = Field(default=None, pattern=r"^[a-z0-9][a-z0-9.-]*$")
    language: list[Annotated[str, Field(pattern=r"^[a-z]{2,}(-[A-Za-z0-9]+)*$")]] = Field(default_factory=list)


class Phase(Part):
    """An ordered part of a recipe: edits, then annotations of the edited text, then rules and `keep`.

    Corpus-wide steps, each under its own key or import path, see the texts that enter the phase, before its edits.
    `filters` are written out as entries of `annotate` and `rules`.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]*$")
    corpus_steps: dict[str, dict[str, Any]] = Field(default_factory=dict)
    edit: list[Entry] = Field(default_factory=list)
    annotate: list[Entry] = Field(default_factory=list)
    filters: list[Any] = Field(default_factory=list, exclude=True)
    aliases: dict[str, str] = Field(default_factory=dict)
    rules: dict[str, str] = Field(default_factory=dict)
    keep: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _written_out(cls, given: Any) -> Any:
        """The keys of corpus-wide steps stand beside the other keys of a phase; filters are annotators and rules."""
        if not isinstance(given, dict):
            return given
        if "corpus_steps" in given:
            raise ValueError("corpus_steps: name each step by its own key")
        steps = step_entries(given)
        rest = {key: value for key, value in given.items() if key not in steps and not isinstance(value, CorpusStep)}
        return with_filters({**rest, "corpus_steps": {key: value for key, value in steps.items() if value is not None}})

    @field_validator("rules")
    @classmethod
    def _rule_names(cls, rules: dict[str, str]) -> dict[str, str]:
        for name in rules:
            if not name.isidentifier() or not name.islower():
                raise ValueError(f"rule {name!r}: expected a lower-case name of letters, digits and underscores")
        return {name: _fold(condition) for name, condition in rules.items()}

    @field_validator("keep")
    @classmethod
    def _folded(cls, keep: str | None) -> str | None:
        if keep is not None and not keep.strip():
            raise ValueError("expected an expression over rule names, found nothing; leave the key out for all rules")
        return keep and _fold(keep)

    @cached_property
    def steps(self) -> tuple[CorpusStep, ...]:
        """The corpus-wide steps of this phase: packaged ones in their order, then those of an import path."""
        names = sorted(self.corpus_steps, key=[*step_kinds(), *self.corpus_steps].index)
        return tuple(step_of(f"phase {self.name}", name, self.corpus_steps[name]) for name in names)

    @cached_property
    def editors(self) -> tuple[Editor, ...]:
        """The editors of this phase, in order; what steps cut goes before their edits."""
        return tuple(part_of("edit", Editor, EDITORS, *entry) for entries in self.edit for entry in entries.items())

    @cached_property
    def annotators(self) -> tuple[Annotator, ...]:
        """The annotators of this phase, in order."""
        entries = (entry for entries in self.annotate for entry in entries.items())
        return tuple(part_of("annotate", Annotator, ANNOTATORS, *entry) for entry in entries)

    @property
    def columns(self) -> tuple[Column, ...]:
        """The annotations of this phase, in order."""
        return (
            *(column for step in self.steps for column in step.columns),
            *(column for editor in self.editors for column in editor.columns),
            *(column for annotator in self.annotators for column in annotator.columns),
        )

    @property
    def evidence(self) -> tuple[pa.Field, ...]:
        """Further columns of the annotation shard, which rules cannot read."""
        return tuple(field for step in self.steps for field in step.evidence)

    @property
    def is_corpus_wide(self) -> bool:
        """Whether a step of this phase sees more than a shard."""
        return any(step.sees_corpus for step in self.steps)

    @property
    def decision(self) -> Rules:
        """The rules with their `keep` expression; by default every rule must be true."""
        return Rules(self.rules, self.keep or " AND ".join(self.rules) or "true", self.aliases)


class Recipe(Part):
    """A validated recipe.

    `layers`: layer of an output → its columns that rules may read, as `layer.column`, and their types.

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
            recipe = cls.model_validate(given, context=_READING)
        except ValidationError as error:
            raise RecipeError(f"{where}: {explain(error, cls, step_kinds())}") from error
        except (RecipeError, InputError) as error:
            raise RecipeError(f"{where}: {error}") from error
        recipe._folder = folder
        return recipe

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
            if twice := rules & set(phase.rules):
                raise RecipeError(f"phase {phase.name!r}: the rule {min(twice)!r} is defined twice")
            rules |= set(phase.rules)
            check(phase.decision, known)
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
    def is_corpus_wide(self) -> bool:
        """Whether a step of any phase sees more than a shard."""
        return any(phase.is_corpus_wide for phase in self.phases)

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

    @property
    def makes_ids(self) -> str | None:
        """The id column, if files that lack it get one of made ids."""
        reads = {annotator.reads for phase in self.phases for annotator in phase.annotators}
        return _ID if self.input.id == _ID and "id" not in reads else None

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


#: Columns of an annotation shard that are not annotations.
RESERVED = ("row", "id", "status", "reason", "dropped_in", "failed", "decisive", "content_hash")
#: Those that say of a row in a new shard in which shard of the run it was, and which row there.
ORIGIN = ("gneiss_shard", "gneiss_row")


def _fold(condition: str) -> str:
    """A condition on one line, except for white space in quotes and line comments."""
    if "--" in condition or "/*" in condition:
        return condition.strip()
    return re.sub(r"""('[^']*'|"[^"]*")|\s+""", lambda match: match[1] or " ", condition).strip()


def recipe_names() -> list[str]:
    """The names of the packaged recipes."""
    return sorted(entry.name.removesuffix(".yaml") for entry in _PACKAGED.iterdir() if entry.name.endswith(".yaml"))
