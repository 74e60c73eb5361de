"""A small BERT with random weights, as Hugging Face lays a model out: so that tests need no download."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from gneiss.arrays import Float32Array

WIDTH, LAYERS, HEADS, BETWEEN, POSITIONS = 16, 2, 4, 24, 64
#: Words that the tokenizer knows; others it spells.
WORDS = ("the", "river", "runs", "south", "buy", "now", "cheap", "light", "energy", "of", "and", "plants")


def write_tiny_encoder(folder: Path, *, labels: int = 1, seed: int = 0, **config: Any) -> Path:
    """Write config.json, tokenizer.json and model.safetensors, with a head of some labels, or none of 0."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = tokenizer(folder / "tokenizer.json")
    arrays = weights(vocabulary, labels, seed)
    save_file(arrays, folder / "model.safetensors")
    known = {
        "model_type": "bert", "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "intermediate_size": BETWEEN, "vocab_size": vocabulary, "max_position_embeddings": POSITIONS,
        "hidden_act": "gelu", "layer_norm_eps": 1e-12, "type_vocab_size": 2,
        "id2label": {str(number): f"label {number}" for number in range(labels)},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(known | config))
    return folder


def tokenizer(path: Path) -> int:
    """Write a WordPiece tokenizer of WORDS and letters; returns how many ids it has."""
    letters = string.ascii_lowercase + string.digits + string.punctuation
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS, *letters, *(f"##{letter}" for letter in letters)]
    ids = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    found = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    found.normalizer = normalizers.BertNormalizer()
    found.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    found.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(name, ids[name]) for name in ("[CLS]", "[SEP]")]
    )
    found.save(str(path))
    return len(ids)


def weights(vocabulary: int, labels: int, seed: int) -> dict[str, Float32Array]:
    """Random arrays, by the names of BertForSequenceClassification."""
    draw = np.random.default_rng(seed)
    sizes = {
        "embeddings.word_embeddings": (vocabulary, WIDTH),
        "embeddings.position_embeddings": (POSITIONS, WIDTH),
        "embeddings.token_type_embeddings": (2, WIDTH),
        "pooler.dense": (WIDTH, WIDTH),
    }
    norms = ["embeddings.LayerNorm"]
    for layer in (f"encoder.layer.{number}." for number in range(LAYERS)):
        for name in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            sizes[layer + name] = (WIDTH, WIDTH)
        sizes |= {f"{layer}intermediate.dense": (BETWEEN, WIDTH), f"{layer}output.dense": (WIDTH, BETWEEN)}
        norms += [f"{layer}attention.output.LayerNorm", f"{layer}output.LayerNorm"]
    arrays = {f"bert.{name}.weight": 0.5 * draw.standard_normal(size) for name, size in sizes.items()}
    arrays |= {
        f"bert.{name}.bias": 0.1 * draw.standard_normal(size[0]) for name, size in sizes.items() if "embed" not in name
    }
    arrays |= {f"bert.{name}.weight": draw.uniform(0.5, 1.5, WIDTH) for name in norms}
    arrays |= {f"bert.{name}.bias": 0.1 * draw.standard_normal(WIDTH) for name in norms}
    if labels:
        arrays["classifier.weight"] = draw.standard_normal((labels, WIDTH))
        arrays["classifier.bias"] = draw.standard_normal(labels)
    return {name: array.astype(np.float32) for name, array in arrays.items()}
