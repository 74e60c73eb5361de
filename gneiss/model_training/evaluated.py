"""A classifier that has been trained and written, with its figures on the documents that were held out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from gneiss.arrays import BoolArray, Float64Array
from gneiss.model_training.corpus_figures import audited, weighted
from gneiss.model_training.evaluation import evaluate
from gneiss.model_training.labels import NEGATIVE, Document, Labelled, Rule
from gneiss.model_training.models import Classifier, S


def evaluated(
    path: Path,
    settings: S,
    rule: Rule,
    trained: Labelled,
    held_out: Labelled,
    score: Callable[[list[str]], Float64Array],
    *,
    positive: str,
    content_sha256: str,
) -> Classifier[S]:
    """The classifier in a file, judged by documents held out, and by those of an audit if there is one.

    score: lines of texts → scores as a recipe has them, (lines,), NaN where there is none; `content_sha256`: of what
    was trained on.
    """

    def scored(documents: Sequence[Document]) -> tuple[Float64Array, BoolArray]:
        return score([document.line for document in documents]), positives_of(documents)

    scores, is_positive = scored(held_out.documents)
    stands_for = np.array([document.weight for document in held_out.documents], np.float64)
    stands = stands_for > 0
    content = path.read_bytes()
    return Classifier(
        path=path,
        settings=settings,
        positive=positive,
        negative=NEGATIVE,
        rule=rule,
        rows=trained.rows,
        skipped=trained.skipped,
        found=trained.found,
        trained=len(trained.documents),
        trained_positives=trained.positives,
        content_sha256=content_sha256,
        model_sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        held_out=evaluate(scores, is_positive),
        audit=audited(*scored(trained.audit)) if trained.audit else None,
        weighted=weighted(scores[stands], is_positive[stands], stands_for[stands]) if stands.any() else None,
    )


def positives_of(documents: Sequence[Document]) -> BoolArray:
    """Which documents have the positive label, (documents,)."""
    return np.array([document.is_positive for document in documents], np.bool_)
