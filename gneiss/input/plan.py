"""Plans: a recipe resolved against an input; frozen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version

from gneiss.input.model_files import ModelFile, resolve
from gneiss.input.shard import Input, cut_shards
from gneiss.recipe.named import versions
from gneiss.recipe.recipe import Recipe
from gneiss.store.place import Address
from gneiss.version import __version__

#: Libraries whose version can change the bytes of an output.
BYTE_SHAPING = (
    "can-ada", "duckdb", "fasttext-community", "llvmlite", "numba", "numpy", "pyarrow", "pydivsufsort", "splintr-rs",
    "tokenizers", "xxhash",
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """The plan of a run: the recipe, the shards of its input, the model files with their checksums."""

    recipe: Recipe
    source: str
    input: Input
    models: tuple[ModelFile, ...]

    @property
    def identity(self) -> dict[str, object]:
        """Everything that, together with the input, determines the bytes of the output."""
        return {
            **({"corpus": self._fingerprint()} if self.recipe.is_corpus_wide else {}),
            "recipe": self.recipe.digest(),
            "gneiss": __version__,
            "libraries": {**{name: version(name) for name in BYTE_SHAPING}, **versions(self.recipe.classes)},
            "models": {model.source: model.checksum for model in self.models},
        }

    def _fingerprint(self) -> str:
        """sha256 over all shards: if they see each other, none may be added, changed or removed."""
        digest = hashlib.sha256()
        for shard in self.input.shards:
            digest.update(f"{shard.id}\0{shard.fingerprint}\0{shard.etag}\0".encode())
        return digest.hexdigest()

    @property
    def run_key(self) -> str:
        """sha256 over the identity; an output belongs to one run key."""
        return run_key(self.identity)


def run_key(identity: Mapping[str, object]) -> str:
    """sha256 over an identity: 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def make_plan(recipe: Recipe, source: Address) -> Plan:
    """Cut the shards of an input and resolve the recipe's models. Raises InputError and ModelError."""
    found = cut_shards(
        source,
        text=recipe.input.text,
        required=list(recipe.inputs.values()),
        once=list(recipe.input.derived_from_text),
        shard_max_bytes=recipe.shard_max_bytes,
    )
    return Plan(recipe, str(source), found, tuple(resolve(source, recipe.folder) for source in recipe.model_files))
