"""Corpora that are hard for deduplication: documents as bytes."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

_PATH = Path(__file__).parents[2] / "scripts" / "bench_dedup.py"
_SPEC = importlib.util.spec_from_file_location("bench_dedup", _PATH)
assert _SPEC is not None
assert _SPEC.loader is not None
bench = importlib.util.module_from_spec(_SPEC)
sys.modules["bench_dedup"] = bench  # where dataclasses look
_SPEC.loader.exec_module(bench)
letters = bench.letters


def concatenated(documents: list[bytes]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Units and bounds of a corpus."""
    bounds = np.concatenate([[0], np.cumsum([len(document) for document in documents])]).astype(np.int64)
    return np.frombuffer(b"".join(documents), np.uint8), bounds


def patchwork(random: np.random.Generator, window: int) -> list[bytes]:
    """Documents of phrases that recur whole, in part, with a typo, and of periodic stretches, about a window long."""
    phrases = [letters(random, int(random.integers(5, 2 * window + 5)), 4) for _ in range(random.integers(1, 4))]

    def patch() -> bytes:
        phrase = phrases[random.integers(len(phrases))]
        at = int(random.integers(len(phrase)))
        kinds = (
            phrase,
            phrase[at:],
            phrase[:at] + b"!" + phrase[at + 1 :],
            letters(random, int(random.integers(1, 40)), 4),
            (letters(random, int(random.integers(1, 12)), 3) * (3 * window))[: int(random.integers(1, 3 * window))],
        )
        return kinds[random.integers(len(kinds))]

    return [b"".join(patch() for _ in range(random.integers(1, 40))) for _ in range(random.integers(1, 8))]


def hard(size: int) -> dict[str, list[bytes]]:
    """The hard corpora of the benchmark."""
    return bench.hard_corpora(size, letters(np.random.default_rng(2), 50_000, 3))
