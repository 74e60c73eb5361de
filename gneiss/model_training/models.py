"""What training returns: a model's settings, its file, its training data and its evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, TypeAlias, TypeVar

from gneiss.errors import InputError
from gneiss.filters.encoder_models.settings import FeatureSettings
from gneiss.filters.perplexity import Normalization
from gneiss.model_training.corpus_figures import Audited, Weighted
from gneiss.model_training.encoder.target_figures import ClassFigures, RegressionFigures
from gneiss.model_training.encoder.targets import TargetKind
from gneiss.model_training.evaluation import Evaluation
from gneiss.model_training.labels import Rule
from gneiss.model_training.source import Skipped

#: Storage of the n-grams: "probing" is fastest, "trie" smallest.
Structure: TypeAlias = Literal["probing", "trie"]

S = TypeVar("S")


def check_bounds(settings: object, bounds: Mapping[str, tuple[float, float]]) -> None:
    """Raise InputError where a field is out of its bounds, which are part of them; None is in all bounds."""
    for name, (low, high) in bounds.items():
        value = getattr(settings, name)
        if value is not None and not low <= value <= high:
            raise InputError(f"{name}: expected {low:g} to {high:g}, found {value:g}")


@dataclass(frozen=True)
class Settings:
    """The settings of a model.

    dimensions: of the hidden layer, 1 to 1000; buckets: rows for word n-grams; word_ngrams: 1 to 5 words; min_count:
    minimum occurrences of a word in the vocabulary; seed: of the initial weights; held_out_share: 0.05 to 0.5 of
    each label; autotune_seconds: time to search for epochs, learning rate and word_ngrams, which makes training
    irreproducible. Models with the same buckets and word_ngrams share one pass over a text: the published models have
    2,000,000 buckets and bigrams. Raises InputError for a value out of bounds.
    """

    dimensions: int = 16
    buckets: int = 2_000_000
    word_ngrams: int = 2
    epochs: int = 5
    learning_rate: float = 0.5
    min_count: int = 3
    seed: int = 1
    held_out_share: float = 0.2
    autotune_seconds: int | None = None

    def __post_init__(self) -> None:
        check_bounds(self, {
            "dimensions": (1, 1000), "buckets": (1, 2**31 - 1), "word_ngrams": (1, 5), "epochs": (1, 10_000),
            "learning_rate": (1e-6, 10), "min_count": (1, 2**31 - 1), "seed": (0, 2**31 - 1),
            "held_out_share": (0.05, 0.5), "autotune_seconds": (1, 2**31 - 1),
        })  # fmt: skip


@dataclass(frozen=True)
class Classifier(Generic[S]):
    """A trained model of two labels: its file, settings, training data, and evaluation on held-out documents.

    settings: `Settings` of fastText, possibly chosen by autotune, `PooledSettings` or `HeadSettings`; rule: what makes
    a row positive; rows: of the source; found: label → rows; trained, trained_positives: distinct documents trained on,
    and the positive ones; content_sha256: of what was trained on, in order; model_sha256, size_bytes: of the file;
    audit, weighted: figures over the corpus that labels were chosen from, where their rows are audited or stand for
    others.
    """

    path: Path
    settings: S
    positive: str
    negative: str
    rule: Rule
    rows: int
    skipped: Skipped
    found: Mapping[str, int]
    trained: int
    trained_positives: int
    content_sha256: str
    model_sha256: str
    size_bytes: int
    held_out: Evaluation
    audit: Audited | None = None
    weighted: Weighted | None = None


@dataclass(frozen=True)
class HeadSettings:
    """The settings of a head over an encoder.

    model, weights: the encoder's folder and file; encoder_sha256: of that file; features: how a text's are computed;
    l2: how strongly the head's weights are drawn to 0; held_out_share: 0.05 to 0.5 of each label. Raises InputError for
    a value out of bounds.
    """

    model: str
    weights: str
    encoder_sha256: str
    features: FeatureSettings
    l2: float
    held_out_share: float

    def __post_init__(self) -> None:
        check_bounds(self, {"held_out_share": (0.05, 0.5), "l2": (1e-9, 1e6)})


@dataclass(frozen=True)
class AdapterSettings:
    """The settings of adapters beside a head.

    model, weights: the folder and file of the encoder that they are part of; encoder_sha256: of that file; features:
    how a text's are computed; rank: of each adapter; layers: the last ones, which are adapted; steps, of `batch`
    documents each, drawn with replacement; rate: of AdamW; seed: of the adapters at the start, and of the draw;
    held_out_share: 0.05 to 0.5 of each label. Raises InputError for a value out of bounds.
    """

    model: str = "encoder/"
    weights: str = "model.safetensors"
    encoder_sha256: str = ""
    features: FeatureSettings = FeatureSettings("cls", 1, 128)  # noqa: RUF009 - a frozen value
    rank: int = 8
    layers: int = 1
    steps: int = 400
    batch: int = 16
    rate: float = 2e-3
    seed: int = 1
    held_out_share: float = 0.2

    def __post_init__(self) -> None:
        check_bounds(self, {
            "rank": (1, 1024), "layers": (1, 1000), "steps": (1, 1_000_000), "batch": (1, 4096), "rate": (1e-6, 10),
            "seed": (0, 2**31 - 1), "held_out_share": (0.05, 0.5),
        })  # fmt: skip


@dataclass(frozen=True)
class TargetHead:
    """A trained head for a number or for one of several labels, and its evaluation on held-out documents.

    column: that it learns; labels: none for a number; other fields as in `Classifier`.
    """

    path: Path
    settings: HeadSettings
    kind: TargetKind
    column: str
    labels: tuple[str, ...]
    rows: int
    skipped: Skipped
    trained: int
    content_sha256: str
    model_sha256: str
    size_bytes: int
    held_out: RegressionFigures | ClassFigures


@dataclass(frozen=True)
class PooledSettings:
    """The settings of a pooled network.

    buckets: rows that words are hashed into, 384 bytes of the model each; epochs: passes over the texts; learning_rate:
    of Adagrad; seed: of the initial weights and the order; held_out_share: 0.05 to 0.5 of each label. Raises InputError
    for a value out of bounds.
    """

    buckets: int = 65_536
    epochs: int = 10
    learning_rate: float = 0.02
    seed: int = 1
    held_out_share: float = 0.2

    def __post_init__(self) -> None:
        check_bounds(self, {
            "buckets": (1, 1_048_576), "epochs": (1, 10_000), "learning_rate": (1e-6, 10), "seed": (0, 2**31 - 1),
            "held_out_share": (0.05, 0.5),
        })  # fmt: skip


@dataclass(frozen=True)
class LanguageModel:
    """A language model: its file, its training data, and the perplexity of held-out texts.

    quantiles: share of the held-out texts → perplexity that they stay below; other fields as in `Classifier`.
    """

    path: Path
    order: int
    structure: Structure
    normalization: Normalization
    held_out_share: float
    rows: int
    skipped: Skipped
    trained: int
    trained_lines: int
    trained_words: int
    held_out: int
    quantiles: Mapping[float, float]
    has_fallback_discounts: bool
    content_sha256: str
    model_sha256: str
    size_bytes: int
