"""What duplicate documents cost, against datasketch and rensa: ratios of CPU time in one run, one thread.

    python scripts/bench_near_duplicates.py --corpus DIR [--quick] [--json FILE]

DIR holds Parquet files with a column `text`. Every part measures and checks, and returns flat figures. rensa is
optional (`pip install rensa`): a figure without its peer is null.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash
from bench_filters import Figures, describe, first_bytes, read_corpus, timed

from gneiss.arrays import UInt32Array
from gneiss.batch import TextBatch
from gneiss.dedup.minhash.criteria import ExactDuplicates, NearDuplicates
from gneiss.dedup.minhash.joining import clusters
from gneiss.dedup.minhash.keys import shard_keys
from gneiss.dedup.minhash.matching import matched
from gneiss.dedup.minhash.normalization import normalized
from gneiss.dedup.minhash.normalization_kernel import REMOVED_RANGES
from gneiss.dedup.minhash.shingles import BASE, SHINGLE_FACTOR, SHINGLE_SEED, WORD_FACTOR, WORD_SEED
from gneiss.dedup.minhash.signatures import signatures
from gneiss.dedup.minhash.unspaced import UNSPACED_RANGES

NEAR = NearDuplicates()
PEER_BYTES, QUICK_PEER_BYTES = 20_000_000, 6_000_000
SHARDS, PARTITIONS = 8, 16
MEMORY_KEYS = 8_000_000
EDGES = ["shard", "row", "first_shard", "first_row"]


def main() -> None:
    """Measure every part and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="folder of Parquet files with a column `text`")
    parser.add_argument("--quick", action="store_true", help="fewer documents and repetitions")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    batch = read_corpus(arguments.corpus, None)
    figures = describe(arguments.corpus, batch)
    for part in (minhash_part, exact_part, rounds_part, memory_part):
        figures |= part(batch, arguments.quick)
    for name, value in figures.items():
        print(f"{name:45} {value:.4g}" if isinstance(value, float) else f"{name:45} {value}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")


def minhash_part(batch: TextBatch, quick: bool) -> Figures:
    """Signatures of 112 permutations over 5-grams of words, from text, against datasketch and rensa.

    datasketch gets the same words, its own default scheme (ours, too), xxh32 as hash function and its permutations
    ready made. That it gives the same signatures by our hash function is checked on some documents.
    """
    batch = first_bytes(batch, QUICK_PEER_BYTES if quick else PEER_BYTES)
    texts, megabytes = batch.texts(), batch.size_bytes / 1e6
    sign(batch.slice(0, 1))
    ours, theirs, given, hashed = [], [], [], []
    for _ in range(1 if quick else 3):
        for _ in range(3):
            seconds, own = timed(lambda: sign(batch))
            ours.append(seconds)
        preparing, shingles = timed(lambda: [joined_shingles(text) for text in texts])
        seconds, _ = timed(lambda: [by_datasketch(each) for each in shingles])  # noqa: B023 - called at once
        theirs.append(preparing + seconds)
        given.append(seconds)
        hashes = [[xxhash.xxh32_intdigest(shingle) for shingle in each] for each in shingles]
        seconds, _ = timed(lambda: [by_datasketch(each, int) for each in hashes])  # noqa: B023
        hashed.append(seconds)
    if own[:40].tolist() != [by_datasketch(split_shingles(text), hash_shingle) for text in texts[:40]]:
        raise SystemExit("signatures differ from datasketch's")
    figures: Figures = {
        "minhash_documents": len(batch),
        "minhash_bytes": batch.size_bytes,
        "minhash_mb_per_s": megabytes / median(ours),
        "minhash_datasketch_mb_per_s": megabytes / median(theirs),
        "minhash_over_datasketch": median(theirs) / median(ours),
        "minhash_over_datasketch_given_shingles": median(given) / median(ours),
        "minhash_over_datasketch_given_hashes": median(hashed) / median(ours),
        "minhash_counted": (
            "ours from text to signatures; datasketch the same, then with shingles as bytes ready made, then with "
            "their hashes; signatures equal to datasketch's, given our hash function, on 40 documents"
        ),
    }
    return figures | rensa_figures(batch, median(ours))


def rensa_figures(batch: TextBatch, seconds: float) -> Figures:
    """rensa's full-set signatures of the same shingles; its other kinds look at a part of them."""
    if not importlib.util.find_spec("rensa"):
        return {"minhash_over_rensa": None, "minhash_missing": "rensa is not installed"}
    os.environ["RAYON_NUM_THREADS"] = "1"
    from rensa import RMinHash

    preparing, shingles = timed(lambda: [joined_shingles(text) for text in batch.texts()])
    taken, matrix = timed(lambda: RMinHash.digest_matrix_from_token_byte_sets(shingles, NEAR.permutations.count, 1))
    return {
        "minhash_rensa_mb_per_s": batch.size_bytes / (preparing + taken) / 1e6,
        "minhash_over_rensa": (preparing + taken) / seconds,
        "minhash_over_rensa_given_shingles": taken / seconds,
        "minhash_rensa_signatures": matrix.len(),
    }


def exact_part(batch: TextBatch, quick: bool) -> Figures:
    """The keys of exact duplicates, for each normalization."""
    figures: Figures = {}
    for normalize in ("none", "spaces", "words"):
        criterion = ExactDuplicates(normalize)  # type: ignore[arg-type]
        shard_keys(batch.slice(0, 1), criterion)
        seconds = [timed(lambda: shard_keys(batch, criterion))[0] for _ in range(3 if quick else 7)]  # noqa: B023
        figures[f"exact_keys_mb_per_s_{normalize}"] = batch.size_bytes / median(seconds) / 1e6
    return figures


def rounds_part(batch: TextBatch, quick: bool) -> Figures:
    """All rounds, with what travels as it would be written: Arrow with zstd."""
    places = [len(batch) * shard // SHARDS for shard in range(SHARDS + 1)]
    shards = [batch.slice(start, stop) for start, stop in pairwise(places)]
    clusters(matched(shard_keys(TextBatch.of(["Compiled before", "it is measured."] * 2), NEAR)), [4])
    figures: Figures = {"rounds_shards": SHARDS, "rounds_partitions": PARTITIONS}
    for name, criterion in (("near", NEAR), ("exact", ExactDuplicates())):
        of_keys, keys = timed(lambda: [shard_keys(shard, criterion, PARTITIONS) for shard in shards])  # noqa: B023
        by_partition = list(zip(*keys, strict=True))
        of_edges, edges = timed(lambda: [e for sent in by_partition for e in matched(sent)])  # noqa: B023
        of_clusters, found = timed(lambda: clusters(edges, [len(shard) for shard in shards]))  # noqa: B023
        count = sum(each.num_rows for each in edges)
        figures |= {
            f"{name}_keys_ms_per_mb": of_keys * 1e9 / batch.size_bytes,
            f"{name}_matched_ns_per_key": of_edges * 1e9 / sum(b.num_rows for each in keys for b in each),
            f"{name}_clusters_ns_per_edge": of_clusters * 1e9 / max(1, count),
            f"{name}_keys_bytes_per_document": sum(map(written_bytes, keys)) / len(batch),
            f"{name}_edges_bytes_per_document": written_bytes(edges) / len(batch),
            f"{name}_in_clusters": sum(each.num_rows for each in found),
            f"{name}_dropped_if_first_is_kept": dropped(found),
        }
    return figures


def memory_part(batch: TextBatch, quick: bool) -> Figures:
    """Peak of the reducers, in processes of their own: a partition of random keys, a corpus of random edges."""
    keys = MEMORY_KEYS // (4 if quick else 1)
    context = multiprocessing.get_context("spawn")
    with context.Pool(1, maxtasksperchild=1) as pool:
        distinct, half, edges = (
            pool.apply(work, (keys,)) for work in (matching_distinct, matching_repeated, clustering)
        )
    return {
        "memory_keys": keys,
        "memory_matched_bytes_per_key_distinct": distinct / keys,
        "memory_matched_bytes_per_key_repeated": half / keys,
        "memory_clusters_bytes_per_document": edges / keys,
    }


def sign(batch: TextBatch) -> UInt32Array:
    """From text to signatures."""
    return signatures(normalized(batch, NEAR.normalize), NEAR.shingle_words, NEAR.permutations)[0]


def removed() -> dict[int, None]:
    """What the normalization `words` removes, as `str.translate` wants it."""
    bounds = [[int(end, 16) for end in item.split("-")] for item in REMOVED_RANGES.split()]
    return {code: None for ends in bounds for code in range(ends[0], ends[-1] + 1)}


REMOVED = removed()
DIGITS = re.compile("[0-9]+")
UNSPACED = re.compile(
    f"([{''.join(re.sub('[0-9A-F]+', lambda code: chr(int(code[0], 16)), UNSPACED_RANGES).split())}])"
)
UPPER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


def split_shingles(text: str) -> list[tuple[str, ...]]:
    """The same words as ours, in 5-grams; two characters of a script without spaces count as a word."""
    words = DIGITS.sub("0", text.translate(REMOVED | UPPER)).split()
    if UNSPACED.search(text):
        return shingles_with_unspaced([part for word in words for part in UNSPACED.split(word) if part])
    if len(words) < NEAR.shingle_words:
        return [tuple(words)] if words else []
    return list(zip(*(words[offset:] for offset in range(NEAR.shingle_words)), strict=False))


def shingles_with_unspaced(words: list[str]) -> list[tuple[str, ...]]:
    """Of words and characters: the shortest up to each of them that weigh enough."""
    weights = [1 if UNSPACED.fullmatch(word) else 2 for word in words]
    found, start, weight = [], 0, 0
    for end, added in enumerate(weights, 1):
        weight += added
        while weight - weights[start] >= 2 * NEAR.shingle_words:
            weight -= weights[start]
            start += 1
        if weight >= 2 * NEAR.shingle_words:
            found.append(tuple(words[start:end]))
    return found or ([tuple(words)] if words else [])


def joined_shingles(text: str) -> list[bytes]:
    """The same as bytes."""
    return [" ".join(shingle).encode() for shingle in split_shingles(text)]


def by_datasketch(shingles: list[Any], hash_function: Callable[[Any], int] = xxhash.xxh32_intdigest) -> list[int]:
    """A signature by datasketch."""
    from datasketch import MinHash

    sketch = MinHash(NEAR.permutations.count, hashfunc=hash_function, permutations=PERMUTATIONS, scheme="affine32")
    sketch.update_batch(shingles)
    return sketch.hashvalues.tolist()


PERMUTATIONS = np.array([NEAR.permutations.factors, NEAR.permutations.summands])


def hash_shingle(shingle: tuple[str, ...]) -> int:
    """Our hash of a shingle, in Python."""
    polynomial = 0
    for word in shingle:
        value, octets = WORD_SEED, word.encode() + b" "
        for start in range(0, len(octets), 8):
            value = fold(value ^ int.from_bytes(octets[start : start + 8], "little"), WORD_FACTOR)
        polynomial = (polynomial * BASE + value) % 2**64
    return fold(polynomial ^ SHINGLE_SEED, SHINGLE_FACTOR) >> 32


def fold(one: int, other: int) -> int:
    """The halves of a product of two 64-bit words, exclusive-ored."""
    return (one * other ^ one * other >> 64) % 2**64


def written_bytes(batches: list[pa.RecordBatch]) -> int:
    """The size of a file of batches."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batches[0].schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return int(sink.getvalue().size)


def dropped(found: list[pa.RecordBatch]) -> int:
    """Documents of clusters that are not the first."""
    count = 0
    for shard, batch in enumerate(found):
        row, first_shard, first_row = (batch.column(name).to_numpy() for name in ("row", "first_shard", "first_row"))
        count += int(((first_shard != shard) | (first_row != row)).sum())
    return count


@dataclass(frozen=True)
class RandomKeys:
    """Batches of random keys as a partition gets them; each `copies` times."""

    keys: int
    copies: int

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        size = 100_000
        for shard in range(self.keys // size):
            random = np.random.default_rng(shard % max(1, self.keys // size // self.copies))
            high, low = random.integers(0, 2**64, (2, size), np.uint64)
            yield pa.record_batch([high, low, np.ones(size, np.uint32)], names=["high", "low", "row_step"])


def matching_distinct(keys: int) -> int:
    """Bytes that `matched` takes at most where no key repeats."""
    return peak(lambda: list(matched(RandomKeys(keys, 1))))


def matching_repeated(keys: int) -> int:
    """The same where nearly every key repeats: each comes ten times."""
    return peak(lambda: list(matched(RandomKeys(keys, 10))))


def clustering(documents: int) -> int:
    """Bytes that `clusters` takes at most for so many documents in random pairs."""

    def edges() -> Iterator[pa.RecordBatch]:
        for turn in range(documents // 200_000):
            row = np.random.default_rng(turn).integers(0, documents, (2, 100_000), np.uint32)
            place = row[0] // 10_000, row[0] % 10_000, row[1] // 10_000, row[1] % 10_000
            yield pa.record_batch(list(place), names=EDGES)

    return peak(lambda: sum(batch.num_rows for batch in clusters(edges(), [10_000] * (documents // 10_000))))


def peak(work: Callable[[], Any]) -> int:
    """Growth of the largest size that this process had."""
    one = np.ones(1, np.uint32)
    list(matched([pa.record_batch([one.astype(np.uint64)] * 2 + [one], names=["high", "low", "row_step"])]))
    clusters([pa.record_batch([one * 0] * 4, names=EDGES)], [1])
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = resident("VmRSS")
    work()
    return resident("VmHWM") - before


def resident(field: str) -> int:
    """A field of this process' status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


if __name__ == "__main__":
    main()
