"""The head that an encoder's files bring along: the classifier of a BERT, or what an ONNX file puts out itself."""

from __future__ import annotations

import numpy as np

from gneiss.errors import ModelError
from gneiss.filters.encoder_models.bert import labels_of, read_arrays, read_config
from gneiss.filters.encoder_models.features import EncoderFiles
from gneiss.filters.encoder_models.head import Kind, LinearHead
from gneiss.filters.encoder_models.settings import FeatureSettings

#: The classifier of BertForSequenceClassification, over the pooler's features.
_WEIGHTS, _BIAS = "classifier.weight", "classifier.bias"


def own_head(files: EncoderFiles, width: int, settings: FeatureSettings) -> LinearHead:
    """The head of an encoder that gives so many features. Raises ModelError where there is none.

    Of an ONNX file its features are the outputs of its head. One output is a number as it stands; of more the
    configuration says whether they are probabilities of one label or of each.
    """
    config = read_config(files.config)
    if files.is_onnx:
        weights, bias = np.eye(width), np.zeros(width)
    else:
        if settings.pooling != "pooler":
            raise ModelError(f"encoder: pooling: the model's own head reads the pooler, found {settings.pooling}")
        arrays = read_arrays(files.weights, _WEIGHTS, _BIAS)
        if len(arrays) < 2 or arrays[_WEIGHTS].ndim != 2:
            raise ModelError(
                f"{files.weights}: the encoder has no head of its own ({_WEIGHTS}); name one of `gneiss train encoder`"
                " under heads"
            )
        weights, bias = arrays[_WEIGHTS].T.astype(np.float64), arrays[_BIAS].astype(np.float64)
    labels = labels_of(config) or tuple(f"LABEL_{number}" for number in range(weights.shape[1]))
    several: Kind = "sigmoid" if config.get("problem_type") == "multi_label_classification" else "softmax"
    if weights.shape[1:] != (len(labels),) or bias.shape != (len(labels),):
        raise ModelError(
            f"{files.weights}: expected a head of {len(labels)} outputs by {files.config.name}, found"
            f" {weights.shape[1]}; take both from one model"
        )
    return LinearHead(several if len(labels) > 1 else "regression", labels, np.ascontiguousarray(weights), bias)
