"""Heads for tests."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

from gneiss.filters.encoder_models.settings import FeatureSettings
from gneiss.model_training.encoder.source import EncoderSource
from gneiss.model_training.federated.features import FeatureSpace
from gneiss.model_training.heads.building import train_head
from gneiss.model_training.heads.encoder_space import EncoderSpace
from gneiss.model_training.heads.head import Head, Space
from tests.runs import NOISE, PLAIN
from tests.tiny_encoder import write_tiny_encoder

SPACE = FeatureSpace.of([*PLAIN, *NOISE], word_ngrams=2, buckets=50)


#: How heads of tests read an encoder.
SETTINGS = FeatureSettings(windows=2, window_tokens=16)


@cache
def encoder_source(seed: int = 0) -> EncoderSource:
    """A tiny encoder, written once for a process; equal for equal seeds."""
    folder = tempfile.mkdtemp(prefix="gneiss-test-encoder-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return EncoderSource(f"{write_tiny_encoder(Path(folder) / 'tiny', labels=0, seed=seed)}/")


@cache
def encoder_space() -> EncoderSpace:
    """Its features."""
    return EncoderSpace.of(encoder_source(), SETTINGS)


def linear_head(seed: int, space: Space = SPACE) -> Head:
    """Random weights."""
    draw = np.random.default_rng(seed)
    return Head(space, (draw.standard_normal((space.size, 1)), draw.standard_normal(1)))


def sentences(words: tuple[str, ...], count: int, seed: int) -> list[str]:
    """Texts of some words."""
    draw = np.random.default_rng(seed)
    return [" ".join(draw.choice(words, 12)) for _ in range(count)]


def texts_of(seed: int) -> tuple[list[str], np.ndarray]:
    """Good and bad texts of a domain: half of the words each."""
    good, bad = sentences(PLAIN[seed % 2 :: 2], 60, seed), sentences(NOISE[seed % 2 :: 2], 60, seed)
    return good + bad, np.array([1] * 60 + [0] * 60)


def network_heads(space: Space = SPACE) -> tuple[Head, Head]:
    """Two that were trained from one base, each on a domain."""
    both = [texts_of(0), texts_of(1)]
    base = train_head(space, both[0][0] + both[1][0], np.concatenate([both[0][1], both[1][1]]), hidden=8, epochs=3)
    first, second = (train_head(space, texts, labels, start=base, epochs=10) for texts, labels in both)
    return first, second
