"""The labelled documents of a site as the frozen layers of an encoder leave them, in a file from which nothing leaves.

Frozen layers compute the same in every round: they do it once. Needs torch.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from gneiss.errors import InputError
from gneiss.filters.encoder_models.bert import BertConfig, read_bert
from gneiss.filters.encoder_models.features import EncoderFiles
from gneiss.filters.encoder_models.torch_bert import TorchBert
from gneiss.filters.encoder_models.windows import Windows, load_windows
from gneiss.model_training.encoder.source import EncoderSource
from gneiss.model_training.federated.encoder.adapted import AdaptedEncoder, Hidden
from gneiss.model_training.federated.encoder.site import EncoderSite
from gneiss.model_training.federated.site_documents import checksums_of
from gneiss.model_training.labels import Document, Rule, labelled_documents
from gneiss.output.parquet import write_new
from gneiss.store.place import Place
from gneiss.version import __version__

HIDDEN_FILE = "hidden.safetensors"
_METADATA = "gneiss_encoder_site"
_PARTS = ("trained", "held_out")
_TYPES = {"states": np.float16, "lengths": np.int64, "labels": np.int64}
#: Sites whose documents a worker has in memory.
_MOST_SITES = 256


@dataclass(frozen=True)
class EncoderSettings:
    """What an encoder makes of a document.

    model: the folder of a BERT, with a slash at the end, as in a recipe; tokens: the first ones of a text, which it
    reads; layers: the last ones, which are adapted. Raises InputError for what is no folder.
    """

    model: str
    tokens: int = 128
    layers: int = 1

    def __post_init__(self) -> None:
        EncoderSource(self.model)

    @property
    def files(self) -> EncoderFiles:
        """The encoder's. Raises ModelError where they are not there."""
        return EncoderSource(self.model).files

    @property
    def sha256(self) -> str:
        """What coordinator and site compare. Raises ModelError for files that cannot be read."""
        return _sha256(self)


@dataclass(frozen=True)
class EncoderSiteFiles:
    """Where the documents of a site are, and what is made of them; see SiteFiles."""

    site: str
    labels: Place
    folder: Place
    encoder: EncoderSettings
    rule: Rule
    text: str = "text"
    held_out_share: float = 0.2


@dataclass(frozen=True, eq=False)
class LoadedEncoder:
    """An encoder in memory: once in a process."""

    config: BertConfig
    bert: TorchBert
    windows: Windows


@lru_cache(maxsize=1)
def loaded_encoder(settings: EncoderSettings) -> LoadedEncoder:
    """Read an encoder. Raises ModelError: it is none, or its files do not fit each other."""
    files = settings.files
    bert = read_bert(files.config, files.weights)
    if not 3 <= settings.tokens <= bert.config.positions:
        raise InputError(f"tokens: expected 3 to {bert.config.positions}, as the encoder has, found {settings.tokens}")
    windows = load_windows(files.tokenizer, bert.config.vocabulary, 1, settings.tokens)
    return LoadedEncoder(bert.config, TorchBert.of(bert), windows)


@lru_cache(maxsize=_MOST_SITES)
def encoder_site_of(files: EncoderSiteFiles) -> EncoderSite:
    """The site of some files: in one process the same one.

    Raises InputError for labels that cannot be read, or of which none is left to train on; ModelError, OutputError.
    """
    encoder = loaded_encoder(files.encoder)
    adapted = AdaptedEncoder(encoder.bert, files.encoder.layers, outputs=2)
    trained, held_out = _hidden(files, encoder)
    return EncoderSite(files.site, adapted, files.encoder.sha256, trained, held_out, files.folder)


def _hidden(files: EncoderSiteFiles, encoder: LoadedEncoder) -> tuple[Hidden, Hidden]:
    """(trained, held out): from the site's file, or made again where documents or encoder are others."""
    key = {
        "gneiss": __version__,
        "features": files.encoder.sha256,
        "labels": checksums_of(files.labels),
        "rule": str(files.rule),
        "text": files.text,
        "held_out_share": files.held_out_share,
    }
    if (kept := _kept(files.folder / HIDDEN_FILE, key, encoder)) is not None:
        return kept
    labelled = labelled_documents(files.labels, files.text, files.rule)
    trained, held_out = labelled.split(files.held_out_share)
    if not trained.documents:
        raise InputError(f"{files.labels}: no labelled text to train on; a site needs one at least")
    made = tuple(hidden_of(part.documents, files.encoder, encoder) for part in (trained, held_out))
    write_new(_packed(made, key), files.folder, HIDDEN_FILE)
    return made[0], made[1]


def hidden_of(documents: tuple[Document, ...], settings: EncoderSettings, encoder: LoadedEncoder) -> Hidden:
    """Labelled documents as the layers leave them that are not adapted."""
    texts = [document.line for document in documents]
    states, lengths = encoder.bert.hidden(encoder.windows, texts, encoder.config.layers - settings.layers)
    return Hidden(states, lengths, np.array([document.is_positive for document in documents], np.int64))


def _packed(parts: tuple[Hidden, ...], key: dict[str, Any]) -> bytes:
    from safetensors.numpy import save

    arrays = {
        f"{name}.{column}": getattr(part, column) for name, part in zip(_PARTS, parts, strict=True) for column in _TYPES
    }
    return save(arrays, {_METADATA: json.dumps(key, sort_keys=True)})


def _kept(place: Place, key: dict[str, Any], encoder: LoadedEncoder) -> tuple[Hidden, Hidden] | None:
    """What a file holds, if it is of this key and whole."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        content = place.read()
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        if json.loads(header["__metadata__"][_METADATA]) != key:
            return None
        arrays = load(content)
        parts = [{column: arrays[f"{name}.{column}"] for column in _TYPES} for name in _PARTS]
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if not all(_is_sound(part, encoder) for part in parts):
        return None
    return Hidden(**parts[0]), Hidden(**parts[1])


def _is_sound(part: dict[str, Any], encoder: LoadedEncoder) -> bool:
    states, lengths, labels = (part[column] for column in _TYPES)
    return bool(
        all(part[column].dtype == kind for column, kind in _TYPES.items())
        and lengths.shape == labels.shape == (len(states),)
        and states.shape[1:] == (encoder.windows.tokens, encoder.config.width)
        and ((lengths >= 1) & (lengths <= states.shape[1])).all()
        and np.isfinite(states).all()
        and np.isin(labels, (0, 1)).all()
    )


@lru_cache(maxsize=8)
def _sha256(settings: EncoderSettings) -> str:
    digest = hashlib.sha256(f"{settings.tokens} {settings.layers}".encode())
    files = settings.files
    for path in (files.config, files.tokenizer, files.weights):
        digest.update(EncoderFiles(path, path, path).weights_sha256().encode())
    return digest.hexdigest()
