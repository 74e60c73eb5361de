"""What heads over an encoder read of a text: the encoder's features, all of them, in place of those of words."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from functools import lru_cache

import numpy as np

from gneiss.batch import TextBatch
from gneiss.errors import InputError, ModelError
from gneiss.filters.encoder import Encoder
from gneiss.filters.encoder_models.features import EncoderFiles, Features, load_features
from gneiss.filters.encoder_models.session import onnxruntime
from gneiss.filters.encoder_models.settings import FeatureSettings
from gneiss.model_training.encoder.source import EncoderSource
from gneiss.model_training.federated.features import SparseRows


@dataclass(frozen=True)
class EncoderSpace:
    """The features of an encoder. encoder_sha256: of its weights; settings: what features of a text are.

    size: how many there are; source: where the encoder is, which a head's file does not say.
    """

    encoder_sha256: str
    settings: FeatureSettings
    size: int
    source: EncoderSource | None = None

    @classmethod
    def of(cls, source: EncoderSource, settings: FeatureSettings) -> EncoderSpace:
        """That of an encoder. Raises ModelError: it is none, or its files do not fit each other or the settings."""
        files = source.files
        return cls(files.weights_sha256(), settings, load_features(files, settings).width, source.anywhere())

    @property
    def sha256(self) -> str:
        """What heads of one space have in common."""
        said = json.dumps([self.encoder_sha256, asdict(self.settings), self.size], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()

    @property
    def loaded_bytes(self) -> int:
        """What it takes in memory. Raises ModelError."""
        return Encoder.loaded_bytes_per_byte * self.needed_source.files.weights.stat().st_size

    def at(self, source: EncoderSource) -> EncoderSpace:
        """The same, of an encoder that is there. Raises ModelError where it is another, or a package is missing."""
        onnxruntime()
        found = replace(self, source=source.anywhere())
        _checked_files(found)
        return found

    def rows(self, batch: TextBatch) -> SparseRows:
        """The features of each text, (texts, features); a text without tokens has none. Raises ModelError."""
        found = _loaded(self)(batch.texts())
        is_there = np.isfinite(found).all(axis=1)
        starts = np.concatenate([[0], np.cumsum(is_there * self.size, dtype=np.int64)])
        columns = np.tile(np.arange(self.size, dtype=np.int32), int(is_there.sum()))
        return SparseRows(starts, columns, found[is_there].ravel())

    @property
    def needed_source(self) -> EncoderSource:
        """Where the encoder is. Raises InputError where nobody has said."""
        if self.source is None:
            raise InputError("head: it reads the features of an encoder; say where the encoder is")
        return self.source


def _checked_files(space: EncoderSpace) -> EncoderFiles:
    files = space.needed_source.files
    if (found := files.weights_sha256()) != space.encoder_sha256:
        raise ModelError(
            f"{files.weights}: the head learnt from another encoder: expected weights of sha256"
            f" {space.encoder_sha256[:12]}, found {found[:12]}; name that one"
        )
    return files


@lru_cache(maxsize=1)
def _loaded(space: EncoderSpace) -> Features:
    """An encoder, once in a process. Raises ModelError."""
    found = load_features(_checked_files(space), space.settings)
    if found.width != space.size:
        raise ModelError(f"head: it reads {space.size:,} features, the encoder gives {found.width:,}; train it again")
    return found
