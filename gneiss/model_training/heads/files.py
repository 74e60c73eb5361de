"""Files of heads, and the texts that heads are trained on and merged by."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from gneiss.errors import InputError
from gneiss.filters.encoder_models.settings import FeatureSettings
from gneiss.filters.fasttext_models.file import PREFIX
from gneiss.model_training.encoder.source import EncoderSource
from gneiss.model_training.federated.features import FeatureSpace
from gneiss.model_training.heads.building import HELD_OUT, TEXTS, train_head
from gneiss.model_training.heads.encoder_space import EncoderSpace
from gneiss.model_training.heads.head import Head, Space, packed_head
from gneiss.model_training.labels import Rule, labelled_documents
from gneiss.model_training.source import decoded, read_rows
from gneiss.output.parquet import write_new
from gneiss.store.place import Address, place_of


def write_head(head: Head, path: Path) -> None:
    """Write a head's file, whole or not at all. Raises OutputError."""
    write_new(packed_head(head), place_of(path.parent, "output"), path.name)


def first_texts(source: Address, text: str, count: int = TEXTS + HELD_OUT) -> list[str]:
    """The first texts of Parquet files. Raises InputError where there is none, or no such column."""
    found: list[str] = []
    for table in read_rows(source, text):
        for raw in table[text]:
            if raw.is_valid and (content := decoded(raw.as_py())) is not None:
                found.append(content)
            if len(found) == count:
                return found
    if not found:
        raise InputError(f"{source}: no text in the column {text!r}")
    return found


#: A word of the vocabulary is in so many labelled texts.
MIN_DOCUMENTS = 3


def train_head_file(
    source: Address,
    path: Path,
    rule: Rule,
    *,
    text: str = "text",
    hidden: int = 32,
    start: Head | None = None,
    encoder: EncoderSource | None = None,
    settings: FeatureSettings = FeatureSettings(),  # noqa: B008 - a frozen value
    most_words: int = 4096,
    buckets: int = 4096,
    epochs: int = 20,
    seed: int = 0,
) -> Head:
    """Train a head on labelled texts and write it.

    Its features are those of `start`; else of an encoder, if one is given; else of the labels' own words.

    Parameters: `source`: Parquet; `rule`: what a good text is; `encoder`: where it is, also for a `start` over one;
    `settings`: of its features, without `start`; `most_words`, `buckets`: words that count by themselves, and what
    pairs of words are hashed into; the others as for `train_head`. Raises InputError, ModelError and OutputError.
    """
    documents = labelled_documents(source, text, rule).documents
    if not documents:
        raise InputError(f"{source}: no labelled text")
    texts = [document.line for document in documents]
    space: Space
    if start:
        space = start.at(encoder).space
    elif encoder:
        space = EncoderSpace.of(encoder, settings)
    else:
        space = FeatureSpace.of(_common_words(texts, most_words), 2, buckets)
    labels = np.array([document.is_positive for document in documents], np.int64)
    head = train_head(space, texts, labels, hidden, start, epochs, seed)
    write_head(head, path)
    return head


def _common_words(texts: list[str], most: int) -> list[str]:
    """The words of most texts; of equally common ones those that sort first."""
    counts = Counter(word for text in texts for word in set(_words(text)))
    common = [word for word, count in counts.items() if count >= MIN_DOCUMENTS]
    return sorted(common, key=lambda word: (-counts[word], word))[:most]


def _words(text: str) -> list[str]:
    """Words that a feature space can have."""
    return [
        word
        for word in text.split(" ")
        if word and word.split() == [word] and "\0" not in word and not word.startswith(PREFIX)
    ]
