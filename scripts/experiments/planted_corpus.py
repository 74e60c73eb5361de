"""Real text with planted near-duplicates and noise, curated by gneiss, as sequences of tokens for the language model.

What is planted: a few documents (`templates`) come again and again, with some words replaced, the k-th in proportion to
1 / k; and blobs of base64 and tables of numbers stand for noise. What is real: documents of a corpus, one of each
near-duplicate cluster, cut to a length. The same documents in other places are held out as clean text.
"""

from __future__ import annotations

import base64
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from planting import firsts, made, shortened, with_replaced_words, write_input

import gneiss
from gneiss.layers.weights import write_weights
from gneiss.loader import documents, sequences

Tokens = npt.NDArray[np.int64]
Encoder = Callable[[str], npt.NDArray[np.int32]]

RAW_RECIPE = """
name: planted-raw
description: Counts near-duplicates, for the priors, and keeps everything.
phases:
  - name: count
    near_duplicates: {}
"""
CURATED_RECIPE = """
name: planted-curated
description: Drops what is not made of words (two of Gopher's rules), then keeps one of each near-duplicate cluster.
phases:
  - name: words
    annotate: [gopher_quality]
    rules:
      letters: gopher_letter_word_fraction >= 0.8
      word_length: gopher_mean_word_length BETWEEN 3 AND 10
  - name: once
    near_duplicates: {}
    rules: {first_of_its_kind: near_first}
"""
KINDS = ("clean", "copy", "noise")


@dataclass(frozen=True)
class Planting:
    """How a corpus is made; the rest of its bytes is clean."""

    corpus_bytes: int = 3_000_000
    copy_share: float = 0.75
    noise_share: float = 0.05
    templates: int = 32
    replaced_words: float = 0.01
    document_bytes: int = 1500
    held_out_documents: int = 400
    seed: int = 0


@dataclass(frozen=True)
class Planted:
    """texts and their kinds, shuffled; held_out: clean documents that are not among them."""

    texts: tuple[str, ...]
    kinds: tuple[str, ...]
    held_out: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Packed:
    """Sequences of one length. tokens: (sequences, length); log_prior: float32 (sequences,); clean: whether most of a
    sequence's tokens are of clean documents, (sequences,)."""

    tokens: Tokens
    log_prior: npt.NDArray[np.float32]
    clean: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True, eq=False)
class Corpora:
    """What the arms train on and are judged by; documents: kind → documents (raw, curated)."""

    raw: Packed
    curated: Packed
    validation: Tokens
    test: Tokens
    documents: Mapping[str, tuple[int, int]]


def real_texts(corpus: Path, document_bytes: int) -> list[str]:
    """The texts of a folder of Parquet files, one of each near-duplicate cluster, cut at a line or a space."""
    paths = sorted(corpus.rglob("*.parquet"))
    if not paths:
        raise SystemExit(f"{corpus}: holds no Parquet file; --corpus takes a folder of files with a column `text`")
    texts = [text for path in paths for text in pq.read_table(path, columns=["text"])["text"].to_pylist() if text]
    texts = [shortened(text, document_bytes) for text in texts]
    return [texts[place] for place in firsts(texts) if len(texts[place]) >= 200]


def plant(texts: Sequence[str], planting: Planting) -> Planted:
    """Clean documents, copies and noise in the shares that were asked for, in bytes.

    Raises SystemExit where there are too few texts for that.
    """
    rng = random.Random(planting.seed)
    shuffled = list(texts)
    rng.shuffle(shuffled)
    held_out = shuffled[: planting.held_out_documents]
    templates = shuffled[len(held_out) : len(held_out) + planting.templates]
    unused = iter(shuffled[len(held_out) + len(templates) :])
    vocabulary = " ".join(held_out).split()
    ranks = [1 / (rank + 1) for rank in range(len(templates))]

    def copy() -> str:
        (template,) = rng.choices(templates, ranks)
        return with_replaced_words(template, planting.replaced_words, vocabulary, rng)

    def noise() -> str:
        size = rng.randrange(planting.document_bytes // 2, planting.document_bytes)
        if rng.random() < 0.5:
            return base64.encodebytes(rng.randbytes(size * 3 // 4)).decode()
        return "\n".join(" ".join(f"{rng.gauss(0, 100):.3f}" for _ in range(8)) for _ in range(size // 64))

    makers = {
        "clean": (1 - planting.copy_share - planting.noise_share, lambda: next(unused)),
        "copy": (planting.copy_share, copy),
        "noise": (planting.noise_share, noise),
    }
    planted, kinds = made(makers, planting.corpus_bytes, rng, len(texts))
    return Planted(planted, kinds, tuple(held_out))


def curate_and_pack(planted: Planted, folder: Path, *, length: int, vocabulary: int) -> Corpora:
    """Run gneiss twice over a planted corpus, with and without dropping, release the weights, and pack both outputs.

    Parameters: `folder`: an empty folder; `length`: tokens of a sequence; `vocabulary`: tokens of the BPE that is
    trained on the held-out half that nothing is reported on.
    """
    source = write_input(folder, planted.texts, planted.kinds)
    validation, test = planted.held_out[::2], planted.held_out[1::2]
    encode = byte_pair_encoder(validation, vocabulary)
    end = vocabulary - 1
    packed = {}
    for name, recipe in (("raw", RAW_RECIPE), ("curated", CURATED_RECIPE)):
        gneiss.run(gneiss.Recipe.parse(recipe), source, folder / name, workers=1, backend="local")
        write_weights(folder / name)
        packed[name] = pack(folder / name, encode, length, end)
    kept = Counter(pa.concat_tables(map(pq.read_table, _data(folder / "curated")))["kind"].to_pylist())
    counts = Counter(planted.kinds)
    return Corpora(
        raw=packed["raw"],
        curated=packed["curated"],
        validation=_end_to_end(validation, encode, length, end),
        test=_end_to_end(test, encode, length, end),
        documents={kind: (counts[kind], kept[kind]) for kind in KINDS},
    )


def pack(output: Path, encode: Encoder, length: int, end_of_document: int) -> Packed:
    """The kept documents of a run as sequences, with the priors that `gneiss weights` gave them."""
    source = documents(output, columns=["log_prior", "kind"])
    clean = {document.index for document in source if document.values["kind"] == "clean"}
    packed = list(sequences(source, encode, length, end_of_document=end_of_document, keep_last=False))
    clean_tokens = [
        sum(
            size
            for document, size in zip(s.spans.document.tolist(), s.spans.length.tolist(), strict=True)
            if document in clean
        )
        for s in packed
    ]
    return Packed(
        tokens=np.stack([s.tokens for s in packed]).astype(np.int64),
        log_prior=np.array([s.log_prior for s in packed], np.float32),
        clean=np.array(clean_tokens) * 2 > length,
    )


def byte_pair_encoder(texts: Sequence[str], vocabulary: int) -> Encoder:
    """A byte-level BPE of `vocabulary` - 1 tokens, so that the last id is free for the end of a document."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary - 1, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return lambda text: np.array(tokenizer.encode(text).ids, np.int32)


def _end_to_end(texts: Sequence[str], encode: Encoder, length: int, end_of_document: int) -> Tokens:
    """Whole sequences of texts, (sequences, length)."""
    tokens = np.concatenate([part for text in texts for part in (encode(text), [end_of_document])]).astype(np.int64)
    return tokens[: len(tokens) // length * length].reshape(-1, length)


def _data(output: Path) -> Iterator[Path]:
    yield from sorted((output / "data").rglob("*.parquet"))
