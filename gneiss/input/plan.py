"""Plans: a recipe resolved against an input; frozen."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import metadata
from pathlib import Path
from types import MappingProxyType

from gneiss.errors import InputError, RecipeError, first_line
from gneiss.input.model_files import ModelFile, resolve
from gneiss.input.origin import Origin, origin_of
from gneiss.input.shard import Input, Refusal, Shard, cut_shards, refuse_none
from gneiss.recipe.code_files import code_files
from gneiss.recipe.named import import_path, versions
from gneiss.recipe.recipe import Recipe
from gneiss.store.place import Address, Place, place_of
from gneiss.version import __version__

#: Libraries whose version can change the bytes of an output, and the module that who uses them imports.
BYTE_SHAPING = {
    "can-ada": "can_ada",
    "duckdb": "duckdb",
    "fasttext-community": "fasttext",
    "llvmlite": "numba",
    "numba": "numba",
    "numpy": "numpy",
    "pyarrow": "pyarrow",
    "pydivsufsort": "pydivsufsort",
    "splintr-rs": "splintr",
    "tokenizers": "tokenizers",
    "xxhash": "xxhash",
}
#: The version of a distribution; what is installed stays so, and to read of it takes milliseconds.
version = cache(metadata.version)
#: The module that evaluates rules, as the code of a plan names it.
RULES = "gneiss.recipe.rule"


@dataclass(frozen=True)
class Plan:
    """The plan of a run: the recipe, the shards of its input, the model files with their checksums.

    source: the input's address; revision: the same, with the commit that was found, if its store keeps revisions;
    origin: what the hub knows of it; layers: of the layers that rules read, what they are; indexes: of the outputs that
    steps are run against, the checksums; increments: shard → number, from 1, of those that came after the first run.
    """

    recipe: Recipe
    source: str
    revision: str | None
    origin: Origin
    input: Input
    models: tuple[ModelFile, ...]
    layers: Mapping[str, str] = field(default_factory=dict)
    indexes: Mapping[str, str] = field(default_factory=dict)
    increments: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def identity(self) -> dict[str, object]:
        """Everything that, together with the input, determines the bytes of the output."""
        first = [shard for shard in self.input.shards if shard.id not in self.increments]
        is_corpus_wide = self.recipe.over(first).is_corpus_wide
        return {
            **({"corpus": _fingerprint(first)} if is_corpus_wide or self.recipe.output.shard_bytes else {}),
            **({"revision": self.revision} if self.revision else {}),
            "recipe": self.recipe.digest(),
            "gneiss": __version__,
            "libraries": {
                **{name: version(name) for name in BYTE_SHAPING},
                **format_versions(self.recipe.output.format),
                **versions(self.recipe.modules),
            },
            "models": {model.source: model.checksum for model in self.models},
            **({"layers": dict(self.layers)} if self.layers else {}),
            **({"indexes": dict(self.indexes)} if self.indexes else {}),
        }

    @property
    def last_increment(self) -> int:
        """The number of the last increment; 0 where there is only the first run."""
        return max(self.increments.values(), default=0)

    @property
    def code(self) -> dict[str, str]:
        """What of gneiss computes: digest of the files behind each class of the recipe, and behind its rules."""
        modules = {import_path(class_): class_.__module__ for class_ in self.recipe.classes} | {RULES: RULES}
        found = {name: code_files(module) for name, module in modules.items()}
        return {name: code.digest for name, code in found.items() if code is not None}

    @property
    def run_key(self) -> str:
        """sha256 over the identity; an output belongs to one run key."""
        return run_key(self.identity)


def format_versions(format: str) -> dict[str, str]:
    """Versions of further libraries that shape the bytes of data files of a format."""
    if format == "parquet":
        return {}
    compressor = {"zlib": zlib.ZLIB_RUNTIME_VERSION} if format == "jsonl.gz" else {}
    packages = ("orjson", "zstandard") if format == "jsonl.zst" else ("orjson",)
    return {**{name: version(name) for name in packages}, **compressor}


def _fingerprint(shards: Iterable[Shard]) -> str:
    """sha256 over the shards of a first run: if they see each other, none may be added, changed or removed."""
    digest = hashlib.sha256()
    for shard in shards:
        digest.update(f"{shard.id}\0{shard.fingerprint}\0{shard.etag}\0".encode())
    return digest.hexdigest()


def run_key(identity: Mapping[str, object]) -> str:
    """sha256 over an identity: 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def make_plan(
    recipe: Recipe,
    source: Address,
    refusal: Refusal = refuse_none,
    kept: Place | None = None,
    find_model: Callable[[str, Path], ModelFile] = resolve,
    layers: Mapping[str, str] = MappingProxyType({}),
    indexes: Mapping[str, str] = MappingProxyType({}),
) -> Plan:
    """Cut the shards of an input and resolve the recipe's models. Raises RecipeError, InputError and ModelError.

    refusal: why columns cannot be used that the recipe has nothing against, if they cannot; kept: see `cut_shards`;
    find_model: as `resolve`; layers: of each layer that the recipe's rules read, what it is; indexes: of each output
    that a step is run against, the checksum.
    """
    if lacking := sorted(recipe.layers.keys() - layers.keys()):
        raise RecipeError(
            f"layers: the rules read the layer {lacking[0]!r}, which an output has, no input: `gneiss decide` reads it"
        )
    try:
        revision = place_of(source).pinned()
        origin = origin_of(revision) if revision else Origin()
    except OSError as error:
        raise InputError(f"{source}: cannot read: {first_line(error)}") from error
    found = cut_shards(
        revision or source,
        text=recipe.input.text,
        required=[column for column in recipe.inputs.values() if column != recipe.makes_ids],
        id=recipe.makes_ids,
        hive=recipe.input.hive,
        shard_max_bytes=recipe.shard_max_bytes,
        refusal=refusal,
        kept=kept,
    )
    models = tuple(find_model(model, recipe.folder) for model in recipe.model_files)
    recipe = recipe.completed({model.source: model.path for model in models})
    return Plan(recipe, str(source), str(revision) if revision else None, origin, found, models, layers, indexes)
