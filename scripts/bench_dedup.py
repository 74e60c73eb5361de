"""What substring deduplication costs: both engines and divsufsort alone, in one process, one thread, CPU time.

    python scripts/bench_dedup.py [--corpus DIR] [--quick] [--json FILE]

DIR holds Parquet files with a column `text`; without it the corpus that `gneiss sample` harvests serves. Every figure
is named with the input that it was taken on. Answers of the two engines are compared wherever both run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from gneiss.batch import TextBatch, Tokens
from gneiss.dedup import Spans, find_spans
from gneiss.store.place import place_of

Result = TypeVar("Result")
Figures = dict[str, Any]
LENGTHS = (100, 200, 400)
TOKENS = 50
FULL_BYTES, QUICK_BYTES = 100_000_000, 45_000_000
#: CPU seconds of Google's tool at 100 bytes where divsufsort alone took the second figure, on one machine.
GOOGLE_SECONDS, DIVSUFSORT_SECONDS = 28.4, 7.0


def main() -> None:
    """Measure every part and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, help="folder of Parquet files with a column `text`")
    parser.add_argument("--quick", action="store_true", help="about two minutes: 45 MB, fewer repetitions and sizes")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        corpus = arguments.corpus or sampled(Path(folder))
        batch = read_corpus(corpus, QUICK_BYTES if arguments.quick else FULL_BYTES)
        figures = describe(arguments.corpus, batch)
        report(figures)
        for part in (engines_part, tokens_part, memory_part, worst_case_part, corpus_part, scaling_part):
            found = part(batch, arguments.quick, figures)
            report(found)
            figures |= found
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")


def report(figures: Figures) -> None:
    """Print figures, one a line."""
    for name, value in figures.items():
        print(f"{name:44} {value:.4g}" if isinstance(value, float) else f"{name:44} {value}", flush=True)


# The corpus


def sampled(folder: Path) -> Path:
    """The demo corpus, harvested into a folder."""
    from gneiss.demo.sample import write_sample

    write_sample(folder)
    return folder


def read_corpus(folder: Path, limit: int) -> TextBatch:
    """The texts of a folder's Parquet files, by name, up to so many bytes."""
    parts: list[pa.Array] = []
    read = 0
    for path in sorted(folder.glob("*.parquet")):
        column = pq.read_table(path, columns=["text"])["text"].cast(pa.large_string()).combine_chunks().drop_null()
        parts.extend(column.chunks if isinstance(column, pa.ChunkedArray) else [column])
        read += sum(len(buffer) for buffer in parts[-1].buffers() if buffer)
        if read > limit * 1.1:
            break
    if not parts:
        raise SystemExit(f"{folder}: no Parquet files")
    batch = TextBatch.of(pa.concat_arrays(parts))
    last = int(np.searchsorted(batch.offsets, batch.offsets[0] + limit, side="right")) - 1
    return batch.slice(0, max(last, 1))


def describe(folder: Path | None, batch: TextBatch) -> Figures:
    """What the figures were taken on."""
    first, last = batch.offsets[0], batch.offsets[-1]
    return {
        "corpus": str(folder) if folder else "the demo corpus: what `gneiss sample` harvests here",
        "corpus_bytes": batch.size_bytes,
        "corpus_documents": len(batch),
        "corpus_sha256": hashlib.sha256(batch.data[first:last].tobytes()).hexdigest(),
        "machine": f"{platform.machine()}, Python {platform.python_version()}, one thread",
        "counted": "CPU seconds of this process (time.process_time), median of repeats that take turns; anchors and "
        "suffix array: find_spans, from texts in memory to the table of spans, policy protect; divsufsort: its call",
    }


def batch_of(documents: list[bytes]) -> TextBatch:
    """A batch of documents."""
    offsets = np.concatenate([[0], np.cumsum([len(document) for document in documents])]).astype(np.int64)
    return TextBatch(np.frombuffer(b"".join(documents), np.uint8), offsets)


def timed(function: Callable[[], Result]) -> tuple[float, Result]:
    """CPU seconds of a call, and what it returned."""
    start = time.process_time()
    result = function()
    return time.process_time() - start, result


def same(one: Spans, other: Spans, where: str) -> None:
    """Stop if two engines disagree."""
    if not one.table.equals(other.table):
        raise SystemExit(f"the engines disagree on {where}")


# The engines


def engines_part(batch: TextBatch, quick: bool, before: Figures) -> Figures:
    """Both engines and divsufsort alone."""
    from pydivsufsort import divsufsort

    warm = batch.slice(0, min(len(batch), 200))
    for engine in ("anchors", "suffix-array"):
        find_spans(warm, min_length=100, engine=engine)
    values = np.array(batch.data[batch.offsets[0] : batch.offsets[-1]])
    sorting: list[float] = []
    anchors: dict[int, list[float]] = {length: [] for length in LENGTHS}
    for _repeat in range(2 if quick else 3):
        sorting.append(timed(lambda: divsufsort(values) is None)[0])
        for length in LENGTHS:
            anchors[length] += [timed(lambda: find_spans(batch, min_length=length))[0] for _ in range(3)]  # noqa: B023
    figures: Figures = {"divsufsort_seconds": median(sorting)}
    for length in LENGTHS:
        seconds = median(anchors[length])
        figures |= {
            f"anchors_mb_per_s_l{length}": batch.size_bytes / seconds / 1e6,
            f"anchors_over_divsufsort_l{length}": median(sorting) / seconds,
        }
        if length == 200 or not quick:
            reference, expected = timed(lambda: find_spans(batch, min_length=length, engine="suffix-array"))  # noqa: B023
            found = find_spans(batch, min_length=length)
            same(found, expected, f"the corpus at {length} bytes")
            _, start, end, _, _ = found.arrays()
            figures |= {
                f"anchors_over_suffix_array_l{length}": reference / seconds,
                f"cut_fraction_l{length}": float((end - start).sum() / batch.size_bytes),
            }
    figures["anchors_over_google_by_conversion_l100"] = (
        figures["anchors_over_divsufsort_l100"] * GOOGLE_SECONDS / DIVSUFSORT_SECONDS
    )
    return figures


@dataclass(frozen=True, eq=False)
class Given:
    """A tokenizer that has its answer already, so that deduplication is timed without it."""

    answer: Tokens

    def tokens(self, batch: TextBatch) -> Tokens:
        """The answer."""
        return self.answer


def tokens_part(batch: TextBatch, quick: bool, before: Figures) -> Figures:
    """The anchors over tokens, which are given: 50 of them, of the tokenizer that a package ships."""
    from gneiss.filters.tokenizer import BUILTIN, load_tokenizer

    batch = batch.slice(0, int(np.searchsorted(batch.offsets, batch.offsets[0] + QUICK_BYTES, side="right")) - 1)
    tokenizer = Given(load_tokenizer(BUILTIN).tokens(batch))

    def spans(engine: str) -> Spans:
        return find_spans(batch, min_length=TOKENS, unit="tokens", tokenizer=tokenizer, engine=engine)  # type: ignore[arg-type]

    spans("anchors")
    seconds = median(timed(lambda: spans("anchors"))[0] for _ in range(3 if quick else 7))
    reference, expected = timed(lambda: spans("suffix-array"))
    same(spans("anchors"), expected, f"the corpus at {TOKENS} tokens")
    return {
        f"anchors_mb_per_s_{TOKENS}_tokens": batch.size_bytes / seconds / 1e6,
        f"anchors_over_suffix_array_{TOKENS}_tokens": reference / seconds,
        "tokens_counted": f"{batch.size_bytes} bytes, {len(tokenizer.answer.ids)} tokens of {BUILTIN}, tokenizing not "
        "counted, checking the offsets and mapping back to bytes counted",
    }


# Memory


def memory_part(batch: TextBatch, quick: bool, before: Figures) -> Figures:
    """Peak memory beyond the text, each in a fresh process."""
    cases = [("anchors", 200), ("anchors", 100), ("suffix-array", 200)]
    context = multiprocessing.get_context("spawn")
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "data.npy", batch.data[batch.offsets[0] : batch.offsets[-1]])
        np.save(Path(folder) / "offsets.npy", batch.offsets - batch.offsets[0])
        for engine, length in cases[: 2 if quick else 3]:
            with context.Pool(1) as pool:
                peak = pool.apply(peak_bytes, (folder, engine, length))
            name = f"{engine.replace('-', '_')}_bytes_per_byte"
            figures[name if length == 200 else f"{name}_l{length}"] = peak / batch.size_bytes
    figures["memory_counted"] = (
        "highest resident set during find_spans less the resident set just before, kernels warm, over bytes of text; "
        "200 bytes where no length is named"
    )
    return figures


def peak_bytes(folder: str, engine: str, length: int) -> int:
    """Memory that find_spans takes at its peak beyond what was held before."""
    batch = TextBatch(np.load(f"{folder}/data.npy"), np.load(f"{folder}/offsets.npy"))
    find_spans(batch.slice(0, min(len(batch), 200)), min_length=length, engine=engine)  # type: ignore[arg-type]
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = resident("VmRSS")
    spans = find_spans(batch, min_length=length, engine=engine)  # type: ignore[arg-type]
    peak = resident("VmHWM")
    del spans
    return peak - before


def resident(field: str) -> int:
    """A memory figure of this process, in bytes."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


# Worst cases


def fibonacci(length: int) -> bytes:
    """The Fibonacci word: aperiodic, and every window recurs soon."""
    shorter, word = b"a", b"ab"
    while len(word) < length:
        shorter, word = word, word + shorter
    return word[:length]


def thue_morse(length: int) -> bytes:
    """The Thue–Morse word: free of overlaps, and deadly to polynomial hashes modulo a power of two."""
    word = np.zeros(1, np.uint8)
    while len(word) < length:
        word = np.concatenate([word, 1 - word])
    return (word[:length] + ord("a")).tobytes()


def letters(random: np.random.Generator, length: int, alphabet: int = 26) -> bytes:
    """Random letters."""
    return (random.integers(0, alphabet, length, np.uint8) + ord("a")).tobytes()


def hard_corpora(size: int, text: bytes) -> dict[str, list[bytes]]:
    """Corpora of about `size` bytes on which engines slow down: those that the target names, then others of ours.

    `text`: any, repeated where it is too short; for what is to look like text.
    """
    random = np.random.default_rng(1)
    text = (text * (size // max(len(text), 1) + 1))[:size]
    boilerplate = b"All rights reserved. Terms of use apply to this page, too. \n"
    tenth = text[: size // 10]
    shard = [tenth[at : at + 3000] for at in range(0, len(tenth), 3000)]
    return {
        "boilerplate": [boilerplate * (size // 60)],
        "boilerplate between other text": [b"".join(boilerplate + letters(random, 40) for _ in range(size // 100))],
        "one byte": [b"=" * size],
        "one document": [text],
        "identical shards": shard * 10,
        "Fibonacci word": [fibonacci(size)],
        "Thue–Morse word": [thue_morse(size)],
        "ours: documents of one byte": [b"=" * 1000] * (size // 1000),
        "ours: a long phrase between other text": [
            b"".join(phrase + letters(random, 50) for phrase in [letters(random, 250)] * (size // 300))
        ],
        "ours: period 9": [letters(random, 9) * (size // 9)],
        "ours: period 45": [letters(random, 45) * (size // 45)],
        "ours: dashes of any length": [
            b"".join(b"-" * int(random.integers(50, 300)) + letters(random, 30) for _ in range(size // 205))
        ],
        "ours: a table": [
            b"".join(
                b"| %6d | %6d |         |         |          |\n" % tuple(random.integers(0, 50, 2))
                for _ in range(size // 52)
            )
        ],
    }


def worst_case_part(batch: TextBatch, quick: bool, before: Figures) -> Figures:
    """Seconds per byte on hard corpora over those on the real one."""
    size = 2_000_000 if quick else 10_000_000
    first, last = int(batch.offsets[0]), int(batch.offsets[-1])
    text = batch.data[first:last].tobytes()
    cases = hard_corpora(size, text)
    if not quick:
        cases["one document"] = [text[:50_000_000]]
    found: Figures = {}
    for name, documents in cases.items():
        case = batch_of(documents)
        for length in (100, 200):
            spans = find_spans(case, min_length=length)  # also takes the pages from the operating system
            seconds = median(timed(lambda: find_spans(case, min_length=length))[0] for _ in range(3))  # noqa: B023
            base = 1e-6 / before[f"anchors_mb_per_s_l{length}"]
            found[f"worst_case_ratio_l{length}: {name}"] = seconds / case.size_bytes / base
            same(spans, find_spans(case, min_length=length, engine="suffix-array"), f"{name} at {length} bytes")
    return found | {
        "worst_case_ratio": max(ratio for name, ratio in found.items() if ": ours" not in name),
        "worst_case_ratio_ours": max(ratio for name, ratio in found.items() if ": ours" in name),
        "worst_case_counted": f"{size} bytes each ({'all' if quick else 'one document: 50 MB'}), 100 and 200 bytes, "
        "equal to the suffix array on each",
    }


# Scaling


def corpus_part(batch: TextBatch, quick: bool, before: Figures) -> Figures:
    """What corpus scope sends at 200 bytes: all exchange files of the stages before `curate`, as written."""
    from gneiss.curate.loaded_models import prepare
    from gneiss.input.shard import cut_shards
    from gneiss.recipe.recipe import Recipe
    from gneiss.stages.corpus import Corpus
    from gneiss.stages.of_recipe import StageWork, stages_before

    phase = {"name": "only", "dedup": {"min_length": 200, "scope": "corpus"}}
    recipe = Recipe.model_validate({"name": "bench", "input": {"id": None}, "phases": [phase]})
    shards, partitions = 10, 16
    with tempfile.TemporaryDirectory() as folder:
        texts = batch.to_arrow()
        step = -(-len(texts) // shards)
        for number in range(shards):
            table = pa.table({"text": texts.slice(number * step, step)})
            pq.write_table(table, f"{folder}/{number:02d}.parquet", compression="zstd")
        corpus = Corpus(recipe, prepare(recipe), cut_shards(folder, text="text").shards, place_of(folder), partitions)
        sent = {}
        start = time.process_time()
        for stage in stages_before(corpus):
            work = StageWork(corpus, stage.name).open()
            for task in range(stage.tasks):
                work(task)
            sent |= {part.name: corpus.exchange.size_bytes(part.name) for part in stage.parts}
        seconds = time.process_time() - start
    return {
        "corpus_sent_per_byte": sum(sent.values()) / batch.size_bytes,
        **{f"corpus_sent_per_byte_{name}": size / batch.size_bytes for name, size in sent.items()},
        "corpus_mb_per_s": batch.size_bytes / seconds / 1e6,
        "corpus_counted": (
            f"size of all exchange files, {shards} shards, {partitions} partitions, L = 200, protect; CPU time of all"
            " stages, kernels compiled on the way, Parquet and zstd included"
        ),
    }


def scaling_part(batch: TextBatch, quick: bool, before: Figures) -> Figures:
    """The exponent of time over size, on generated corpora of a fixed duplication."""
    sizes = [16 << 20 << step for step in ((0, 1, 2, 3) if quick else (0, 1, 2, 3, 4, 5, 6))]
    seconds = []
    for size in sizes:
        corpus = generated(batch, size)
        find_spans(corpus, min_length=200)
        seconds.append(min(timed(lambda: find_spans(corpus, min_length=200))[0] for _ in range(3)))  # noqa: B023
    exponent = float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])
    return {
        **{f"scaling_seconds_{size >> 20}_mb": value for size, value in zip(sizes, seconds, strict=True)},
        "scaling_exponent": exponent,
        "scaling_counted": "anchors, 200 bytes, best of 3; paragraphs of the corpus in which a fresh number at every "
        "100th byte makes each new, a quarter of the bytes copies of earlier ones, five paragraphs a document",
    }


def generated(batch: TextBatch, size: int) -> TextBatch:
    """A corpus of real paragraphs, each made unique, of which a quarter of the bytes are copies of earlier ones."""
    random = np.random.default_rng(size)
    first, last = int(batch.offsets[0]), int(batch.offsets[-1])
    text = batch.data[first:last]
    text = text[text < 0x80]  # an overwritten byte must not split a character
    ends = np.flatnonzero(text == ord("\n"))
    lengths = np.diff(ends)
    lengths = np.minimum(lengths[lengths >= 300], 5000) if (lengths >= 300).any() else np.array([1000])
    data: npt.NDArray[np.uint8] = np.resize(text, size)
    marks = np.arange(0, size - 8, 100)
    for digit in range(8):
        data[marks + digit] = ord("a") + marks // 26**digit % 26
    starts = [0]
    while starts[-1] < size - 5000:
        at, length = starts[-1], int(lengths[random.integers(len(lengths))])
        # copies are a quarter of the paragraphs and as long as they
        if len(starts) > 1 and random.random() < 0.25:
            source = starts[random.integers(len(starts) - 1)]
            length = min(length, at - source)
            data[at : at + length] = data[source : source + length]
        starts.append(at + length)
    return TextBatch(data, np.array([*starts[::5], size], np.int64))


if __name__ == "__main__":
    main()
