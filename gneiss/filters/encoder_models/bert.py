"""BERT: its configuration and weights as Hugging Face publishes them, and its forward pass as an ONNX graph.

Devlin et al. (arXiv 1810.04805). The graph reads the tokens of one window, so it needs neither padding nor mask, and
what else is scored cannot change what it computes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

import numpy as np

from gneiss.arrays import AnyArray, Float32Array
from gneiss.errors import ModelError, first_line
from gneiss.filters.encoder_models.onnx_file import Graph, Node, onnx_bytes
from gneiss.filters.encoder_models.settings import Pooling, Precision

#: The layer under the model's own head.
_POOLER = ("pooler.dense.weight", "pooler.dense.bias")
#: Of a weight in int8: two products with it and bytes of 255 fit into 16 bits.
_LARGEST = 63
_ACTIVATIONS = {"gelu": "Gelu", "relu": "Relu"}
#: Arrays of a layer → their shapes, in widths: d of a token, f of the layer between.
_OF_LAYER = {
    "attention.self.query": "dd",
    "attention.self.key": "dd",
    "attention.self.value": "dd",
    "attention.output.dense": "dd",
    "attention.output.LayerNorm": "d",
    "intermediate.dense": "fd",
    "output.dense": "df",
    "output.LayerNorm": "d",
}


@dataclass(frozen=True)
class BertConfig:
    """Sizes of a model. width: of a token; between: of the layer between two; labels: of its own head, maybe none."""

    width: int
    layers: int
    heads: int
    between: int
    vocabulary: int
    positions: int
    activation: str
    epsilon: float
    labels: tuple[str, ...]
    is_multi_label: bool


@dataclass(frozen=True, eq=False)
class Bert:
    """A model: its sizes, and its float32 arrays by name, without the prefix `bert.`."""

    config: BertConfig
    arrays: Mapping[str, Float32Array]


def read_config(path: Path) -> Mapping[str, object]:
    """A config.json. Raises ModelError."""
    try:
        config = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot read the encoder's configuration: {first_line(error)}") from error
    if not isinstance(config, dict):
        raise ModelError(f"{path}: expected a mapping, as in a config.json of Hugging Face")
    return config


def read_bert(config_path: Path, weights_path: Path) -> Bert:
    """Read a model of the type bert. Raises ModelError for another type, and for weights that do not fit or are NaN."""
    config = _config(read_config(config_path), config_path)
    arrays = read_arrays(weights_path)
    for name, shape in _shapes(config).items():
        if name not in arrays:
            raise ModelError(f"{weights_path}: no array {name!r}; is it of the model of {config_path.name}?")
        if arrays[name].shape != shape:
            raise ModelError(
                f"{weights_path}: {name}: expected the shape {shape} by {config_path.name}, found {arrays[name].shape}"
            )
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ModelError(f"{weights_path}: {name}: NaN or infinite weights; fetch or train the model again")
    return Bert(config, arrays)


def _config(given: Mapping[str, object], path: Path) -> BertConfig:
    if given.get("model_type") != "bert" or given.get("position_embedding_type", "absolute") != "absolute":
        raise ModelError(
            f"{path}: expected model_type bert, with absolute positions, found {given.get('model_type')!r}; export the"
            " model to ONNX, and name that file as `weights`"
        )

    def whole(name: str) -> int:
        value = given.get(name)
        if not isinstance(value, int) or not 0 < value < 1 << 31:
            raise ModelError(f"{path}: {name}: expected a whole number above 0, found {value!r}")
        return value

    epsilon, activation = given.get("layer_norm_eps", 1e-12), given.get("hidden_act", "gelu")
    if activation not in _ACTIVATIONS:
        raise ModelError(f"{path}: hidden_act: expected {' or '.join(_ACTIVATIONS)}, found {activation!r}")
    if not isinstance(epsilon, float) or not 0 < epsilon < 1:
        raise ModelError(f"{path}: layer_norm_eps: expected a number between 0 and 1, found {epsilon!r}")
    found = BertConfig(
        width=whole("hidden_size"),
        layers=whole("num_hidden_layers"),
        heads=whole("num_attention_heads"),
        between=whole("intermediate_size"),
        vocabulary=whole("vocab_size"),
        positions=whole("max_position_embeddings"),
        activation=str(activation),
        epsilon=epsilon,
        labels=labels_of(given),
        is_multi_label=given.get("problem_type") == "multi_label_classification",
    )
    if found.width % found.heads:
        raise ModelError(f"{path}: hidden_size {found.width} is no multiple of num_attention_heads {found.heads}")
    return found


def labels_of(config: Mapping[str, object]) -> tuple[str, ...]:
    """The labels of a model's own head, by number; none where the configuration names none."""
    named = config.get("id2label")
    if not isinstance(named, dict):
        return ()
    return tuple(str(label) for _, label in sorted(named.items(), key=lambda item: (len(item[0]), item[0])))


def read_arrays(path: Path, *names: str) -> dict[str, Float32Array]:
    """The arrays of floats in a file, without the prefix `bert.`: those named, as far as they are there, or all.

    Raises ModelError.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            there = {name.removeprefix("bert."): name for name in file.keys()}  # noqa: SIM118 - it is no mapping
            found = {name: file.get_tensor(of) for name, of in there.items() if not names or name in names}
    except (OSError, SafetensorError, TypeError, ValueError) as error:
        raise ModelError(f"{path}: expected weights in safetensors: {first_line(error)}") from error
    return {name: array.astype(np.float32, copy=False) for name, array in found.items() if array.dtype.kind == "f"}


def _shapes(config: BertConfig) -> dict[str, tuple[int, ...]]:
    sizes = {"d": config.width, "f": config.between}
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (config.vocabulary, config.width),
        "embeddings.position_embeddings.weight": (config.positions, config.width),
        "embeddings.LayerNorm.weight": (config.width,),
        "embeddings.LayerNorm.bias": (config.width,),
    }
    for layer in range(config.layers):
        for name, of in _OF_LAYER.items():
            shape = tuple(sizes[letter] for letter in of)
            shapes[f"encoder.layer.{layer}.{name}.weight"] = shape
            shapes[f"encoder.layer.{layer}.{name}.bias"] = shape[:1]
    return shapes


def check_pooler(bert: Bert, path: Path) -> None:
    """Raise ModelError, naming the weights, for a model without the layer that its own head reads."""
    width = bert.config.width
    if [bert.arrays[name].shape for name in _POOLER if name in bert.arrays] != [(width, width), (width,)]:
        raise ModelError(f"{path}: pooling: the encoder has no pooler ({_POOLER[0]}); use mean or cls")


def bert_onnx(bert: Bert, pooling: Pooling, precision: Precision = "float32") -> bytes:
    """The ONNX file that computes the features of a window. ids: int64 (tokens,) → features: float32 (width,).

    precision: `int8` multiplies by weights of 7 bits, scaled for each output, and by tokens of 8 bits, scaled for each
    window: products that no processor's instructions can saturate.
    """
    return onnx_bytes(_Builder(bert, precision).graph(pooling))


class _Builder:
    """Collects nodes and constants."""

    def __init__(self, bert: Bert, precision: Precision) -> None:
        self.bert = bert
        self.precision = precision
        self.nodes: list[Node] = []
        self.constants: dict[str, AnyArray] = {}

    def graph(self, pooling: Pooling) -> Graph:
        tokens = self.embedded()
        for layer in range(self.bert.config.layers):
            tokens = self.layer(tokens, f"encoder.layer.{layer}.")
        self.pooled(tokens, pooling)
        return Graph(
            self.nodes,
            self.constants,
            {"ids": ("int64", ["tokens"])},
            {"features": ("float32", [self.bert.config.width])},
        )

    def add(self, operator: str, *inputs: str, name: str = "", outputs: int = 1, **attributes: float | str) -> str:
        """A node; the name of its first output, the others with .1, .2, …"""
        name = name or f"{operator}.{len(self.nodes)}"
        self.nodes.append(Node(operator, inputs, [name, *(f"{name}.{n}" for n in range(1, outputs))], attributes))
        return name

    def constant(self, name: str, value: AnyArray) -> str:
        self.constants[name] = value
        return name

    def whole(self, *values: int) -> str:
        return self.constant(f"whole.{'_'.join(map(str, values))}", np.array(values, np.int64))

    def embedded(self) -> str:
        arrays = self.bert.arrays
        words = self.constant("words", arrays["embeddings.word_embeddings.weight"])
        kinds = arrays.get("embeddings.token_type_embeddings.weight")
        places = arrays["embeddings.position_embeddings.weight"]
        places_and_kind = self.constant("places", places if kinds is None else places + kinds[0])
        place = self.add("Slice", places_and_kind, self.whole(0), self.add("Shape", "ids"), self.whole(0))
        return self.normed(self.add("Add", self.add("Gather", words, "ids"), place), "embeddings.")

    def normed(self, tokens: str, prefix: str) -> str:
        scale, shift = (self.of(f"{prefix}LayerNorm.{part}") for part in ("weight", "bias"))
        return self.add("LayerNormalization", tokens, scale, shift, axis=-1, epsilon=self.bert.config.epsilon)

    def of(self, name: str) -> str:
        return self.constant(name, self.bert.arrays[name])

    def dense(self, tokens: str, name: str, weights: Float32Array, bias: Float32Array) -> str:
        """tokens (tokens, inputs) by weights (outputs, inputs)."""
        transposed, shift = np.ascontiguousarray(weights.T), self.constant(f"{name}.bias", bias)
        if self.precision == "float32":
            return self.add("Add", self.add("MatMul", tokens, self.constant(f"{name}.weight", transposed)), shift)
        scales = np.maximum(np.abs(transposed).max(axis=0), np.float32(1e-30)) / np.float32(_LARGEST)
        by = self.constant(f"{name}.weight", np.rint(transposed / scales).astype(np.int8))
        rounded = self.add("DynamicQuantizeLinear", tokens, outputs=3)
        product = self.add("Cast", self.add("MatMulInteger", rounded, by, f"{rounded}.2"), to=1)
        scale = self.add("Mul", f"{rounded}.1", self.constant(f"{name}.scales", scales))
        return self.add("Add", self.add("Mul", product, scale), shift)

    def dense_of(self, tokens: str, name: str) -> str:
        arrays = self.bert.arrays
        return self.dense(tokens, name, arrays[f"{name}.weight"], arrays[f"{name}.bias"])

    def layer(self, tokens: str, prefix: str) -> str:
        attended = self.dense_of(self.attention(tokens, f"{prefix}attention.self."), f"{prefix}attention.output.dense")
        tokens = self.normed(self.add("Add", attended, tokens), f"{prefix}attention.output.")
        between = self.dense_of(tokens, f"{prefix}intermediate.dense")
        between = self.add(_ACTIVATIONS[self.bert.config.activation], between)
        return self.normed(self.add("Add", self.dense_of(between, f"{prefix}output.dense"), tokens), f"{prefix}output.")

    def attention(self, tokens: str, prefix: str) -> str:
        arrays, config = self.bert.arrays, self.bert.config
        scaled = (("query", np.float32(1 / sqrt(config.width // config.heads))), ("key", 1), ("value", 1))
        weights, biases = (
            np.concatenate([arrays[f"{prefix}{of}.{part}"] * by for of, by in scaled]) for part in ("weight", "bias")
        )
        all_three = self.dense(tokens, f"{prefix}all", weights.astype(np.float32), biases.astype(np.float32))
        parts = self.add("Split", all_three, self.whole(*[config.width] * 3), outputs=3, axis=1)
        shape = self.constant("by_head", np.array([0, config.heads, -1], np.int64))
        query, key, value = (self.add("Reshape", part, shape) for part in (parts, f"{parts}.1", f"{parts}.2"))
        query, value = (self.transposed(part, 1, 0, 2) for part in (query, value))
        attention = self.add("Softmax", self.add("MatMul", query, self.transposed(key, 1, 2, 0)), axis=-1)
        attended = self.transposed(self.add("MatMul", attention, value), 1, 0, 2)
        return self.add("Reshape", attended, self.whole(0, config.width))

    def transposed(self, of: str, *axes: int) -> str:
        name = f"Transpose.{len(self.nodes)}"
        self.nodes.append(Node("Transpose", [of], [name], {"perm": axes}))
        return name

    def pooled(self, tokens: str, pooling: Pooling) -> None:
        if pooling == "mean":
            self.add("ReduceMean", tokens, self.whole(0), name="features", keepdims=0)
            return
        first = self.add("Slice", tokens, self.whole(0), self.whole(1), self.whole(0))
        if pooling == "pooler":
            first = self.add("Tanh", self.dense_of(first, "pooler.dense"))
        self.add("Reshape", first, self.whole(self.bert.config.width), name="features")
