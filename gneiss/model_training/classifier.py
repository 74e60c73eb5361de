"""Two-label fastText classifiers from labelled text, each with a card of its evaluation on held-out text.

fastText: Joulin et al., 2017 (arXiv 1607.01759). The settings are limited to those that a collapsed ensemble supports.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from gneiss.errors import InputError, first_line
from gneiss.filters.fasttext import fasttext_scores
from gneiss.model_training.card import classifier_card
from gneiss.model_training.evaluated import evaluated
from gneiss.model_training.labels import NEGATIVE, QUALITY, Document, Labelled, Rule, read_labelled, rule_of
from gneiss.model_training.models import Classifier, Settings
from gneiss.model_training.source import CARD, claim
from gneiss.output.parquet import write_bytes
from gneiss.store.place import place_of

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")  # names that a rule can use
_VALIDATED_SHARE = 0.2  # of the training documents, for autotune's comparisons


def train_quality(
    labels: Path,
    output: Path,
    *,
    text: str = "text",
    label: str = "label",
    positive: str | Sequence[str] | None = None,
    score_threshold: float | None = None,
    settings: Settings = Settings(),  # noqa: B008 - a frozen value
) -> Classifier[Settings]:
    """Train a quality model (labels `hq` and `cc`) and write quality.bin and MODEL.md.

    Parameters: `labels`: a Parquet file or a folder of them; `output`: its own folder, created if missing;
    `text`, `label`: columns; `positive`: the label or labels of good text, by default `hq`; all others are negative;
    `score_threshold`: alternatively, `label` is a number, and text with at least this score is positive. Rows without
    text or label are skipped. Equal input gives an equal file, byte for byte, on one kind of processor, unless
    autotuned.
    Raises InputError for labels that cannot be used, OutputError when the folder holds something else.
    """
    return _train(
        "quality", QUALITY, labels, output, rule_of(label, positive, score_threshold, QUALITY), text, settings
    )


def train_category(
    category: str,
    labels: Path,
    output: Path,
    *,
    text: str = "text",
    label: str = "label",
    positive: str | Sequence[str] | None = None,
    score_threshold: float | None = None,
    settings: Settings = Settings(),  # noqa: B008 - a frozen value
) -> Classifier[Settings]:
    """Train a model for one category (labels `category` and `cc`) and write CATEGORY.bin and MODEL.md.

    Parameters: `category`: its name (ASCII letters, digits and `_`), also the default of `positive`; the
    other parameters and exceptions: as for `train_quality`.
    """
    if not _NAME.fullmatch(category) or category == NEGATIVE:
        raise InputError(
            f"category {category!r}: expected ASCII letters, digits and _, not a digit first, other than {NEGATIVE!r}"
        )
    rule = rule_of(label, positive, score_threshold, category)
    return _train(category, category, labels, output, rule, text, settings)


def _train(
    name: str, positive: str, source: Path, output: Path, rule: Rule, text: str, settings: Settings
) -> Classifier[Settings]:
    path = output / f"{name}.bin"
    labelled = read_labelled(source, text, rule)
    claim(output, f"{name}.bin")
    trained, held_out = labelled.split(settings.held_out_share)
    with tempfile.TemporaryDirectory(prefix=".training-", dir=output) as scratch:
        folder = Path(scratch)
        content_sha256 = _write_lines(trained.documents, positive, folder / "train.txt")
        found = settings if settings.autotune_seconds is None else _autotuned(settings, trained, positive, folder)
        model = _fit(folder / "train.txt", found)
        model.save_model(str(folder / "model.bin"))
        place_of(path).put(folder / "model.bin")
    classifier = evaluated(
        path,
        found,
        rule,
        trained,
        held_out,
        lambda lines: fasttext_scores(lines, path, positive).to_numpy(zero_copy_only=False).astype(np.float64),
        positive=positive,
        content_sha256=content_sha256,
    )
    write_bytes(classifier_card(classifier).encode(), place_of(output), CARD)
    return classifier


def _write_lines(documents: Sequence[Document], positive: str, path: Path) -> str:
    """Write fastText's training file; returns its sha256."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for document in documents:
            line = f"__label__{positive if document.is_positive else NEGATIVE} {document.line}\n".encode()
            digest.update(line)
            file.write(line)
    return digest.hexdigest()


def _fit(lines: Path, settings: Settings, **autotune: Any) -> Any:
    import fasttext

    given: dict[str, Any] = {
        "dim": settings.dimensions, "bucket": settings.buckets, "minCount": settings.min_count,
        "seed": settings.seed, "thread": 1, "loss": "softmax", "minn": 0, "maxn": 0, "verbose": 0,
    }  # fmt: skip
    if not autotune:  # settings that were given are not tuned
        given |= {"wordNgrams": settings.word_ngrams, "epoch": settings.epochs, "lr": settings.learning_rate}
    try:
        model = fasttext.train_supervised(str(lines), **given, **autotune)
    except (ValueError, RuntimeError) as error:  # such as weights that grew to NaN
        raise InputError(
            f"fastText cannot train on this: {first_line(error)} (min_count {settings.min_count},"
            f" learning_rate {settings.learning_rate:g})"
        ) from error
    if set(model.words) <= {"</s>"}:  # to fastText the end of a line is a word
        raise InputError(f"no word occurs {settings.min_count} times in the training texts; lower min_count")
    return model


def _autotuned(settings: Settings, trained: Labelled, positive: str, folder: Path) -> Settings:
    """The best settings on a part of the training documents; held-out documents must not choose them."""
    fitted, validated = trained.split(_VALIDATED_SHARE)
    _write_lines(fitted.documents, positive, folder / "fit.txt")
    _write_lines(validated.documents, positive, folder / "validate.txt")
    args = _fit(
        folder / "fit.txt",
        settings,
        autotuneValidationFile=str(folder / "validate.txt"),
        autotuneDuration=settings.autotune_seconds,
        autotuneMetric=f"f1:__label__{positive}",
    ).f.getArgs()
    return replace(settings, epochs=args.epoch, learning_rate=round(args.lr, 6), word_ngrams=args.wordNgrams)
