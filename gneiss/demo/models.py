"""The demo's two small fastText models, trained on labels of the embedded corpus.

They produce real scores in place of the published models; they do not judge quality as those do.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gneiss.errors import InputError, first_line
from gneiss.filters.fasttext import fasttext_scores
from gneiss.model_training import Classifier, Settings, train_category, train_quality

#: Kinds of documents that are prose; the others are reference documentation.
PROSE_KINDS = frozenset({"description", "html", "licence", "text"})
#: Packages for arrays, compilers, columnar data, distributed computing and machine learning, against all others. The
#: split is by source, so the model learns these packages' subjects and house styles alike.
TECHNOLOGY_PACKAGES = frozenset(
    {
        "duckdb", "fasttext-community", "hf-xet", "huggingface-hub", "kenlm-ex", "llvmlite", "numba", "numpy",
        "pyarrow", "pydivsufsort", "ray", "splintr-rs", "tokenizers",
    }
)  # fmt: skip
#: Quality drops the quarter of the documents least like prose; technology halves the corpus.
QUALITY_QUANTILE, TECHNOLOGY_QUANTILE = 0.25, 0.5
#: The sizes keep a model file under 5 MB; twice the usual epochs, because prose is rare.
SETTINGS = Settings(dimensions=8, buckets=50_000, epochs=10)


@dataclass(frozen=True)
class DemoModel:
    """A trained model, and the score below which a share of `quantile` of all documents lies, to 6 decimals."""

    classifier: Classifier[Settings]
    quantile: float
    threshold: float


@dataclass(frozen=True)
class DemoModels:
    """quality: prose (`hq`) against reference documentation; technology: by source, see TECHNOLOGY_PACKAGES."""

    quality: DemoModel
    technology: DemoModel


def train_demo_models(sample: Path, folder: Path) -> DemoModels:
    """Train both models on the output of `write_sample`; each gets its own folder, with a card.

    Parameters: `sample`: a folder of Parquet files with text, kind and package; `folder`: created if missing.
    Raises InputError when the sample is missing or not one, OutputError when a model cannot be written.
    """
    table = _read(sample)
    kinds, packages = _found(table["kind"], PROSE_KINDS), _found(table["package"], TECHNOLOGY_PACKAGES)
    quality = train_quality(sample, folder / "quality", label="kind", positive=kinds, settings=SETTINGS)
    technology = train_category(
        "technology", sample, folder / "technology", label="package", positive=packages, settings=SETTINGS
    )
    return DemoModels(
        _with_threshold(quality, table["text"], QUALITY_QUANTILE),
        _with_threshold(technology, table["text"], TECHNOLOGY_QUANTILE),
    )


def _read(sample: Path) -> pa.Table:
    paths = sorted(sample.glob("*.parquet"))
    if not paths:
        raise InputError(f"{sample}: holds no Parquet file; write a sample there first (gneiss sample)")
    try:
        return pa.concat_tables([pq.read_table(path, columns=["text", "kind", "package"]) for path in paths])
    except (pa.ArrowException, OSError, KeyError) as error:
        raise InputError(f"{sample}: expected files written by gneiss sample: {first_line(error)}") from error


def _found(column: pa.ChunkedArray, among: Set[str]) -> list[str]:
    return sorted(among & set(pc.unique(column).to_pylist()))


def _with_threshold(classifier: Classifier[Settings], texts: pa.ChunkedArray, quantile: float) -> DemoModel:
    scores = fasttext_scores(texts, classifier.path, classifier.positive)
    threshold = pc.quantile(scores, quantile, interpolation="lower")[0].as_py()
    return DemoModel(classifier, quantile, round(threshold, 6))
