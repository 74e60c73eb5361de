"""The demo's two small fastText models, trained on labels of the embedded corpus.

They produce real scores in place of the published models; they do not judge quality as those do.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from gneiss.errors import InputError
from gneiss.output.parquet import Aside

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
NEGATIVE = "cc"
#: Maximum repetitions of the rarer label's documents in training, to balance the labels.
MAX_REPEATS = 4
#: One thread and a seed make training reproducible byte for byte; the sizes keep a model file under 5 MB.
_TRAINING = {"dim": 8, "bucket": 50_000, "wordNgrams": 2, "minCount": 3, "lr": 0.5, "epoch": 3, "thread": 1, "seed": 1}
_HELD_OUT_SHARE = 0.2
_FASTTEXT_ADDS = 1e-5  # to every probability that `predict` returns


@dataclass(frozen=True)
class HeldOut:
    """A decision's results on held-out documents; positives: those with the positive label."""

    documents: int
    positives: int
    accuracy: float
    precision: float
    recall: float


@dataclass(frozen=True)
class DemoModel:
    """A trained model with the label whose probability is the score.

    threshold: the score below which a share of `quantile` of all documents lies, rounded to 6 decimals; quantiles:
    share → score, in tenths; by_label: deciding by the more probable label, by_threshold: by score > threshold.
    """

    path: Path
    positive: str
    negative: str
    quantile: float
    threshold: float
    quantiles: Mapping[float, float]
    trained_documents: int
    by_label: HeldOut
    by_threshold: HeldOut


@dataclass(frozen=True)
class DemoModels:
    """quality: prose (`hq`) against reference documentation; technology: by source, see TECHNOLOGY_PACKAGES."""

    quality: DemoModel
    technology: DemoModel


def train_demo_models(sample: Path, folder: Path) -> DemoModels:
    """Train both models on the output of `write_sample` and save them as quality.bin and technology.bin.

    A fifth of the documents, chosen by a hash of the text, is held out, so equal texts are in one split;
    near-duplicates (licences of another year) may not be, which makes the figures optimistic.
    fastText: Joulin et al., 2017 (1607.01759).

    Parameters: `sample`: a folder of Parquet files with text, kind and package; `folder`: created if missing.
    Raises InputError when the sample is missing or not one, OutputError when a model cannot be written.
    """
    table = _read(sample)
    texts = table["text"].to_pylist()
    prose = [kind != "docstring" for kind in table["kind"].to_pylist()]
    technology = [package in TECHNOLOGY_PACKAGES for package in table["package"].to_pylist()]
    return DemoModels(
        _train(folder / "quality.bin", texts, prose, "hq", QUALITY_QUANTILE),
        _train(folder / "technology.bin", texts, technology, "technology", TECHNOLOGY_QUANTILE),
    )


def _read(sample: Path) -> pa.Table:
    paths = sorted(sample.glob("*.parquet"))
    if not paths:
        raise InputError(f"{sample}: holds no Parquet file; write a sample there first (gneiss sample)")
    columns = ["text", "kind", "package"]
    tables = []
    for path in paths:
        try:
            file = pq.ParquetFile(path)
            if missing := [name for name in columns if name not in file.schema_arrow.names]:
                raise InputError(f"{path}: column {missing[0]} is missing; expected a file written by gneiss sample")
            tables.append(file.read(columns=columns))
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(f"{path}: {error}; expected a file written by gneiss sample") from error
    return pa.concat_tables(tables)


def _train(path: Path, texts: Sequence[str], labels: Sequence[bool], positive: str, quantile: float) -> DemoModel:
    import fasttext

    held_out = [_is_held_out(text) for text in texts]
    counts = Counter(label for label, held in zip(labels, held_out, strict=True) if not held)
    if min(counts[True], counts[False]) == 0:
        raise InputError(f"{path.stem}: the sample has documents of one label only; a model needs both")
    repeats = {label: min(MAX_REPEATS, max(1, counts[not label] // counts[label])) for label in (True, False)}
    with tempfile.TemporaryDirectory() as scratch:
        lines = Path(scratch, "train.txt")
        with lines.open("w", encoding="utf-8", newline="\n") as file:
            for text, label, held in zip(texts, labels, held_out, strict=True):
                if not held:
                    # fastText's own documentation is in the corpus; its example labels are not labels here.
                    words = one_line(text).replace("__label__", "label ")
                    file.write(f"__label__{positive if label else NEGATIVE} {words}\n" * repeats[label])
        model = fasttext.train_supervised(str(lines), verbose=0, **_TRAINING)
    with Aside(path.parent, path.name) as aside:
        model.save_model(str(aside.temporary))
    scores = []
    for text in texts:
        names, probabilities = model.predict(one_line(text), k=2)
        scores.append(float(dict(zip(names, probabilities, strict=True))[f"__label__{positive}"]) - _FASTTEXT_ADDS)
    ranked = sorted(scores)
    quantiles = {tenth / 10: round(ranked[len(ranked) * tenth // 10], 6) for tenth in range(1, 10)}
    threshold = round(ranked[int(len(ranked) * quantile)], 6)
    judged = [(label, score) for label, score, held in zip(labels, scores, held_out, strict=True) if held]
    return DemoModel(
        path=path,
        positive=positive,
        negative=NEGATIVE,
        quantile=quantile,
        threshold=threshold,
        quantiles=quantiles,
        trained_documents=held_out.count(False),
        by_label=_held_out([(label, score > 0.5) for label, score in judged]),
        by_threshold=_held_out([(label, score > threshold) for label, score in judged]),
    )


def one_line(text: str) -> str:
    r"""A text as read by the models, in training and prediction: fastText ends a document at a newline.

    >>> one_line("two\nlines")
    'two lines'
    """
    return text.replace("\n", " ")


def _is_held_out(text: str) -> bool:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") < _HELD_OUT_SHARE * 2**32


def _held_out(judged: Sequence[tuple[bool, bool]]) -> HeldOut:
    """Counts over (has the positive label, is predicted positive)."""
    right = sum(label and verdict for label, verdict in judged)
    positives, verdicts = sum(label for label, _ in judged), sum(verdict for _, verdict in judged)
    return HeldOut(
        documents=len(judged),
        positives=positives,
        accuracy=sum(label == verdict for label, verdict in judged) / max(1, len(judged)),
        precision=right / max(1, verdicts),
        recall=right / max(1, positives),
    )
