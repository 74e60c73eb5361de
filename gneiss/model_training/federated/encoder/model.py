"""What comes of a training of adapters: an encoder whose matrices they are part of, and a head over its first token.

Both are files that the annotator `encoder` reads: nothing in a recipe tells it from a model trained in one place.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import numpy as np

from gneiss.arrays import BoolArray
from gneiss.filters.encoder_models.bert import read_bert
from gneiss.filters.encoder_models.features import EncoderFiles
from gneiss.filters.encoder_models.head import FILE as HEAD_FILE
from gneiss.filters.encoder_models.head import LinearHead, TrainedHead, write_head
from gneiss.filters.encoder_models.settings import FeatureSettings
from gneiss.model_training.federated.encoder.adapters import AdapterSpace
from gneiss.model_training.federated.strategies.steps import Weights
from gneiss.output.parquet import write_bytes
from gneiss.store.place import Place

ENCODER_FOLDER = "encoder"
#: Arrays of a head that the encoder had before: it does not fit what its layers are now.
_FORMER_HEAD = "classifier."


def write_encoder(
    files: EncoderFiles, tokens: int, space: AdapterSpace, weights: Weights, alive: BoolArray, labels: tuple[str, ...],
    output: Place,
) -> dict[str, str]:  # fmt: skip
    """Write `encoder/` and its head; returns their sha256: of the weights, and of the head.

    tokens: that the encoder reads of a text; weights: of the ranks alive, and of the head. Raises ModelError for files
    that cannot be read, OutputError.
    """
    from safetensors.numpy import save_file

    adapters, head = space.adapters(weights, alive)
    arrays = {
        name: array for name, array in read_bert(files.config, files.weights).arrays.items()
        if not name.startswith(_FORMER_HEAD)
    }  # fmt: skip
    for matrix, adapter in adapters.items():
        name = f"{matrix}.weight"
        arrays[name] = (arrays[name] + adapter.product).astype(np.float32)
    folder = output / ENCODER_FOLDER
    with tempfile.TemporaryDirectory(prefix="gneiss-model-") as temporary:
        path = Path(temporary, files.weights.name)
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)
        merged = EncoderFiles(files.config, files.tokenizer, path).weights_sha256()
        (folder / files.weights.name).put(path)
    for path in (files.config, files.tokenizer):
        write_bytes(path.read_bytes(), folder, path.name)
    by_label = head.reshape(len(labels), -1).astype(np.float64)
    linear = LinearHead("softmax", labels, np.ascontiguousarray(by_label[:, :-1].T), by_label[:, -1].copy())
    content = write_head(TrainedHead(linear, FeatureSettings("cls", 1, tokens), merged))
    write_bytes(content, output, HEAD_FILE)
    return {f"{ENCODER_FOLDER}/{files.weights.name}": merged, HEAD_FILE: hashlib.sha256(content).hexdigest()}
