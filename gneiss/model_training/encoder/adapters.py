"""An encoder whose last layers are adapted (LoRA: Hu et al., ICLR 2022), with a head, from labelled text.

Adapters, their training and their files are those of a federation (`federated.encoder`), with all documents in one
place. Needs torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from gneiss.annotation import annotate
from gneiss.arrays import Float64Array
from gneiss.filters.encoder import Encoder, EncoderHead
from gneiss.filters.encoder_models.head import FILE
from gneiss.filters.encoder_models.torch_session import require_torch
from gneiss.model_training.encoder.card import adapter_card
from gneiss.model_training.evaluated import evaluated
from gneiss.model_training.labels import NEGATIVE, QUALITY, read_labelled, rule_of, sha256_of
from gneiss.model_training.models import AdapterSettings, Classifier
from gneiss.model_training.source import CARD, claim
from gneiss.output.parquet import write_bytes
from gneiss.store.place import place_of


def train_encoder_adapters(
    labels: Path,
    model: str,
    output: Path,
    *,
    text: str = "text",
    label: str = "label",
    positive: str | Sequence[str] | None = None,
    score_threshold: float | None = None,
    settings: AdapterSettings = AdapterSettings(),  # noqa: B008 - a frozen value
) -> Classifier[AdapterSettings]:
    """Train adapters of an encoder and a head, and write encoder/, head.safetensors and MODEL.md.

    Parameters: `labels`, `text`, `label`, `positive`, `score_threshold`: as for `train_quality`; `model`: the folder of
    a BERT, with a slash at the end, as in a recipe; `output`: a folder, created if missing. Equal input and versions
    give equal files, byte for byte, on one kind of processor.
    Raises InputError for labels or settings that cannot be used, ModelError for an encoder that is none or where torch
    is not installed, OutputError when the folder holds something else.
    """
    require_torch()
    from gneiss.model_training.federated.encoder.adapted import AdaptedEncoder
    from gneiss.model_training.federated.encoder.documents import EncoderSettings, hidden_of, loaded_encoder
    from gneiss.model_training.federated.encoder.lowrank import AdamW
    from gneiss.model_training.federated.encoder.model import ENCODER_FOLDER, write_encoder
    from gneiss.model_training.federated.linear import draw_of

    rule = rule_of(label, positive, score_threshold, QUALITY)
    labelled = read_labelled(labels, text, rule)
    tokens = settings.features.window_tokens
    of_encoder = EncoderSettings(model, tokens, settings.layers)
    encoder = loaded_encoder(of_encoder)
    adapted = AdaptedEncoder(encoder.bert, settings.layers, outputs=2)
    space = adapted.space("lora", settings.rank, settings.seed)
    claim(output, FILE, ENCODER_FOLDER)
    trained, held_out = labelled.split(settings.held_out_share)
    hidden = hidden_of(trained.documents, of_encoder, encoder)
    alive = np.ones(space.ranks, np.bool_)
    gradient = adapted.gradient(space, alive, hidden, draw_of(settings.seed, 0, "all"), settings.batch)
    weights, _ = AdamW(settings.rate).run(space.begin(), gradient, settings.steps)
    written = write_encoder(of_encoder.files, tokens, space, weights, alive, (NEGATIVE, QUALITY), place_of(output))

    def score(lines: list[str]) -> Float64Array:
        heads = {"encoder": EncoderHead(str(output / FILE), QUALITY)}
        read = Encoder(f"{output / ENCODER_FOLDER}/", heads, pooling="cls", windows=1, window_tokens=tokens)
        scores: Float64Array = annotate(read, lines)["encoder"].to_numpy().astype(np.float64)
        return scores

    made = replace(settings, encoder_sha256=written[f"{ENCODER_FOLDER}/{settings.weights}"])
    sha256 = sha256_of(trained.documents, QUALITY, NEGATIVE)
    found = evaluated(
        output / FILE, made, rule, trained, held_out, score, positive=QUALITY, content_sha256=sha256
    )  # fmt: skip
    write_bytes(adapter_card(found).encode(), place_of(output), CARD)
    return found
