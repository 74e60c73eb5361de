"""The planted corpus: what is planted is there, in the shares told, and curation by gneiss finds it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import planted_corpus as planting
import pytest
from planted_corpus import Planted, Planting, curate_and_pack, plant, real_texts

SMALL = Planting(corpus_bytes=300_000, templates=4, held_out_documents=100)


@pytest.fixture(scope="module")
def planted(words_corpus: Path) -> Planted:
    return plant(real_texts(words_corpus, SMALL.document_bytes), SMALL)


def test_shares_are_as_told(planted: Planted) -> None:
    sizes: Counter[str] = Counter()
    for text, kind in zip(planted.texts, planted.kinds, strict=True):
        sizes[kind] += len(text.encode())
    total = sizes.total()
    assert {kind: round(size / total, 2) for kind, size in sizes.items()} == pytest.approx(
        {"clean": 0.2, "copy": 0.75, "noise": 0.05}, abs=0.015
    )


def test_real_texts_are_there_once_and_held_out_ones_are_not_planted(words_corpus: Path, planted: Planted) -> None:
    texts = real_texts(words_corpus, 1500)
    assert len(texts) == len(set(texts)) == 700
    assert not set(planted.held_out) & set(planted.texts)
    clean = {text for text, kind in zip(planted.texts, planted.kinds, strict=True) if kind == "clean"}
    assert clean <= set(texts)


def test_copies_are_of_few_documents_with_few_words_replaced(words_corpus: Path, planted: Planted) -> None:
    originals = {" ".join(text.split()[:3]): text.split() for text in real_texts(words_corpus, 1500)}
    copies = [text.split() for text, kind in zip(planted.texts, planted.kinds, strict=True) if kind == "copy"]
    known = [(originals[key], words) for words in copies if (key := " ".join(words[:3])) in originals]
    assert len(known) > 0.9 * len(copies)
    replaced = [a != b for original, words in known for a, b in zip(original, words, strict=True)]
    assert 0.005 < sum(replaced) / len(replaced) < 0.015
    counts = Counter(tuple(original) for original, _ in known).most_common()
    assert len(counts) == SMALL.templates
    assert counts[0][1] > 2 * counts[-1][1]


def test_the_same_seed_plants_the_same(words_corpus: Path, planted: Planted) -> None:
    assert plant(real_texts(words_corpus, SMALL.document_bytes), SMALL) == planted


@pytest.mark.processes
def test_curation_finds_what_was_planted(planted: Planted, tmp_path: Path) -> None:
    corpora = curate_and_pack(planted, tmp_path, length=33, vocabulary=400)
    raw, curated = zip(*(corpora.documents[kind] for kind in planting.KINDS), strict=True)
    assert raw == tuple(Counter(planted.kinds)[kind] for kind in planting.KINDS)
    assert curated[0] == raw[0]
    assert curated[1] <= 0.05 * raw[1]
    assert curated[2] == 0
    assert corpora.raw.tokens.shape == (len(corpora.raw), 33)
    assert len(corpora.curated) < 0.4 * len(corpora.raw)
    assert corpora.raw.clean.mean() < 0.4 < 0.8 < corpora.curated.clean.mean()
    # clean text has the larger prior: a cluster of copies has the least there is, a fourth of it
    ratio = np.exp(corpora.raw.log_prior[corpora.raw.clean].max() - corpora.raw.log_prior.min())
    assert ratio == pytest.approx(4, rel=1e-3)
    assert max(corpora.raw.tokens.max(), corpora.test.max()) == 399


def test_too_few_texts_and_no_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="too few texts: 3 for"):
        plant(["a text", "another text", "a third text"], Planting(held_out_documents=1, templates=1))
    with pytest.raises(SystemExit, match="no Parquet file"):
        real_texts(tmp_path, 1500)
