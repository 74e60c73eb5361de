"""The experiments are scripts that import each other by file name, as python finds them beside run.py."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts" / "experiments"))


@pytest.fixture(scope="session")
def words_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 700 documents of made-up words, none a near-duplicate of another, and one that is there twice."""
    rng = random.Random(0)
    letters = "aaabcdeeeefghiiiklmnooprssttu"
    vocabulary = ["".join(rng.choices(letters, k=rng.randint(3, 9))) for _ in range(800)]
    texts = [" ".join(rng.choices(vocabulary, k=rng.randint(60, 180))) for _ in range(700)]
    folder = tmp_path_factory.mktemp("words")
    pq.write_table(pa.table({"text": [*texts, texts[3]]}), folder / "words.parquet")
    return folder
