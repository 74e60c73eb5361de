"""Tiny fastText models, trained on the spot."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import fasttext
import pytest

TrainFastText = Callable[..., Path]


@pytest.fixture(scope="session")
def train_fasttext(tmp_path_factory: pytest.TempPathFactory) -> TrainFastText:
    """train_fasttext(lines, quantize=False, **parameters) → path of a supervised model; one thread, so reproducible."""
    folder = tmp_path_factory.mktemp("fasttext")
    numbers = itertools.count()

    def train(lines: Sequence[str], quantize: bool | dict[str, object] = False, **parameters: object) -> Path:
        number = next(numbers)
        text = folder / f"{number}.txt"
        text.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
        defaults = {"dim": 8, "bucket": 100, "wordNgrams": 2, "minCount": 1, "lr": 2.0, "epoch": 5}
        model = fasttext.train_supervised(str(text), thread=1, verbose=0, **(defaults | parameters))
        if quantize:
            model.quantize(str(text), **(quantize if isinstance(quantize, dict) else {}))
        path = folder / f"{number}.bin"
        model.save_model(str(path))
        text.unlink()
        return path

    return train
