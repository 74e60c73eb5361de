"""The adapters of a BERT: six matrices of each of its last layers, and a head over the first token."""

from __future__ import annotations

from gneiss.errors import InputError
from gneiss.filters.encoder_models.bert import BertConfig
from gneiss.model_training.federated.encoder.adapters import AdapterSpace, Form, Matrix


def adapter_space(config: BertConfig, layers: int, outputs: int, form: Form, rank: int, seed: int) -> AdapterSpace:
    """Adapters of the last layers, and a weight of the head for each number of the first token, and a bias, a label.

    Matrices have the names of an encoder's file, without `.weight`. Raises InputError for more layers than there are.
    """
    if not 1 <= layers <= config.layers:
        raise InputError(f"adapted layers: expected 1 to {config.layers}, those of the encoder, found {layers}")
    return AdapterSpace(matrices_of(config, layers), rank, outputs * (config.width + 1), form, seed)


def matrices_of(config: BertConfig, layers: int) -> tuple[Matrix, ...]:
    """The matrices of the last layers: query, key, value, output of attention; up and down."""
    square = config.width, config.width
    sizes = {
        "attention.self.query": square,
        "attention.self.key": square,
        "attention.self.value": square,
        "attention.output.dense": square,
        "intermediate.dense": (config.between, config.width),
        "output.dense": (config.width, config.between),
    }
    return tuple(
        Matrix(f"encoder.layer.{layer}.{name}", *size)
        for layer in range(config.layers - layers, config.layers)
        for name, size in sizes.items()
    )
