"""fastText by the library: one model at a time, any kind of model."""

from __future__ import annotations

import numpy as np

from gneiss.batch import TextBatch
from gneiss.errors import ModelError
from gneiss.filters.fasttext_models.file import ModelFile, plain_label, require_sound_weights
from gneiss.filters.fasttext_models.output import Predictions, Predictor

_ADDED_BY_PREDICT = 1e-5  # fastText reports exp(log(p + 1e-5))


def load_library(file: ModelFile) -> Predictor:
    """Load a checked model with the fastText library.

    Of equally probable labels the last in the model wins, as in `predict(text)`.
    Raises ModelError for unsound weights and when the library refuses the file.
    """
    import fasttext

    require_sound_weights(file)
    try:
        model = fasttext.load_model(str(file.path))
    except ValueError as error:
        raise ModelError(f"{file.path}: fastText cannot load it: {error}") from error
    position = {label: index for index, label in enumerate(file.labels)}

    def predict(batch: TextBatch, joined: bool) -> Predictions:
        probabilities = np.zeros((len(batch), len(position)))
        top = np.full(len(batch), -1, np.int64)
        texts = batch.view(_joined_texts if joined else _spaced_texts)
        for document, (labels, values) in enumerate(zip(*model.predict(texts, k=-1), strict=True)):
            indices = [position[label] for label in labels]
            probabilities[document, indices] = np.clip(values.astype(np.float64) - _ADDED_BY_PREDICT, 0, 1)
            largest = [index for index, value in zip(indices, values, strict=True) if value == values[0]]
            top[document] = max(largest, default=-1)
        return probabilities, top

    return Predictor(tuple(map(plain_label, file.labels)), predict)


def _spaced_texts(batch: TextBatch) -> list[str]:
    return [text.replace("\n", " ") for text in batch.texts()]


def _joined_texts(batch: TextBatch) -> list[str]:
    return [" ".join(text.strip().splitlines()) for text in batch.texts()]
