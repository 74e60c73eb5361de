"""A model that `gneiss train` has written, as the annotator by which a recipe would use it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gneiss.annotation import Annotator
from gneiss.errors import ModelError
from gneiss.filters.fasttext import FastText, FastTextModel
from gneiss.filters.fusion import Fusion
from gneiss.filters.pooled import Pooled
from gneiss.filters.pooled_model import is_network
from gneiss.model_training.labels import NEGATIVE


@dataclass(frozen=True)
class TrainedModel:
    """path: its file, the only one of the annotator; column: the annotation that is its score."""

    path: Path
    annotator: Annotator
    column: str


def trained_model(path: Path) -> TrainedModel:
    """The model in a folder, or in a file: fastText with `cc` and another label, a pooled network, or a fusion.

    Raises ModelError.
    """
    from gneiss.filters.fasttext_models.file import plain_label, read_model

    try:
        there = sorted(path.iterdir()) if path.is_dir() else [path]
    except OSError as error:
        raise ModelError(f"{path}: cannot read: {error.strerror}") from error
    files = [file for file in there if file.suffix in {".bin", ".safetensors"}]
    if len(files) != 1:
        raise ModelError(
            f"{path}: expected a fastText, pooled or fusion model of `gneiss train`, found"
            f" {', '.join(repr(file.name) for file in files) or 'none'}; name its folder or its file"
        )
    (file,) = files
    if file.suffix == ".safetensors":
        if is_network(file):
            return TrainedModel(file, Pooled(str(file)), "pooled")
        fusion = Fusion(str(file)).completed({str(file): file})
        return TrainedModel(file, fusion, fusion.column)
    labels = [plain_label(label) for label in read_model(file).labels]
    if len(labels) != 2 or NEGATIVE not in labels:
        raise ModelError(
            f"{file}: expected the labels {NEGATIVE} and another one, found {', '.join(labels)}; score the documents in"
            " a run, and name the annotation"
        )
    (label,) = (label for label in labels if label != NEGATIVE)
    return TrainedModel(file, FastText({"score": FastTextModel(str(file), label)}), "score")
