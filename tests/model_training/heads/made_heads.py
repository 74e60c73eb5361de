"""Heads for tests."""

from __future__ import annotations

import numpy as np

from gneiss.model_training.federated.features import FeatureSpace
from gneiss.model_training.heads.building import train_head
from gneiss.model_training.heads.head import Head
from tests.runs import NOISE, PLAIN

SPACE = FeatureSpace.of([*PLAIN, *NOISE], word_ngrams=2, buckets=50)


def linear_head(seed: int) -> Head:
    """Random weights."""
    draw = np.random.default_rng(seed)
    return Head(SPACE, (draw.standard_normal((SPACE.size, 1)), draw.standard_normal(1)))


def sentences(words: tuple[str, ...], count: int, seed: int) -> list[str]:
    """Texts of some words."""
    draw = np.random.default_rng(seed)
    return [" ".join(draw.choice(words, 12)) for _ in range(count)]


def texts_of(seed: int) -> tuple[list[str], np.ndarray]:
    """Good and bad texts of a domain: half of the words each."""
    good, bad = sentences(PLAIN[seed % 2 :: 2], 60, seed), sentences(NOISE[seed % 2 :: 2], 60, seed)
    return good + bad, np.array([1] * 60 + [0] * 60)


def network_heads() -> tuple[Head, Head]:
    """Two that were trained from one base, each on a domain."""
    both = [texts_of(0), texts_of(1)]
    base = train_head(SPACE, both[0][0] + both[1][0], np.concatenate([both[0][1], both[1][1]]), hidden=8, epochs=3)
    first, second = (train_head(SPACE, texts, labels, start=base, epochs=10) for texts, labels in both)
    return first, second
