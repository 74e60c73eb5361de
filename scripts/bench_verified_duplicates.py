"""What verified near-duplicates find, against all pairs; what they cost, against datatrove; how labelled pairs fare.

    python scripts/bench_verified_duplicates.py --corpus DIR [--part NAME]... [--quick] [--json FILE]
        [--text-dedup PYTHON]

DIR holds Parquet files with columns `text`, `id` and `url`. Parts: `truth` compares with the Jaccard similarity of all
pairs, by Python and SciPy; `templates` does so on a corpus that it makes: the same frame with other data, licences,
very short documents, documents of boilerplate alone, edited copies; `cost` measures `verify`; `labels` takes the same
page of two editions of a manual for a labelled pair; `datatrove` runs its four steps (words by `str.split`, which costs
less than spaCy) and gneiss, each from Parquet to Parquet. With `--text-dedup`, the interpreter of an environment that
has text-dedup 0.4.1, it is compared as datatrove is. CPU time, one worker.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import re
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlparse

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from bench_filters import Figures, describe, first_bytes, read_corpus, timed
from bench_near_duplicates import UNSPACED, joined_shingles, sign

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import gneiss
from gneiss.batch import TextBatch
from gneiss.dedup import find_near_duplicates
from gneiss.dedup.minhash.bands import match_probability
from gneiss.dedup.minhash.criteria import NearDuplicates, Verification
from gneiss.dedup.minhash.in_memory import clusters_within, verified_within
from gneiss.dedup.minhash.keys import shard_keys
from gneiss.dedup.minhash.matching import matched
from gneiss.dedup.minhash.normalization import normalized
from gneiss.recipe.recipe import Recipe
from tests.runs import InThisProcess

VERIFICATION = Verification(at_least=0.8)
NEAR = NearDuplicates(verify=VERIFICATION)
UNVERIFIED = NearDuplicates()
QUICK_BYTES = 6_000_000
RECIPE = """
name: near-duplicates
input: {text: text, id: id}
phases:
  - name: near_duplicates
    near_duplicates: {verify: VERIFY}
    rules: {first_of_its_kind: near_first}
"""
Pair = tuple[int, int]


def main() -> None:
    """Measure the parts and print their figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="folder of Parquet files with text, id and url")
    parser.add_argument("--part", action="append", choices=list(PARTS), help="default: all")
    parser.add_argument("--quick", action="store_true", help="the first 6 MB")
    parser.add_argument("--text-dedup", type=Path, help="a Python with text-dedup 0.4.1, to compare with")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    limit = QUICK_BYTES if arguments.quick else None
    figures = describe(arguments.corpus, read_corpus(arguments.corpus, limit))
    parts = [PARTS[part] for part in arguments.part or (PARTS if arguments.text_dedup is None else ())]
    if arguments.text_dedup is not None:
        parts.append(partial(text_dedup_part, arguments.text_dedup))
    for part in parts:
        found = part(arguments.corpus, limit)
        for name, value in found.items():
            print(f"{name:45} {value:.4g}" if isinstance(value, float) else f"{name:45} {value}", flush=True)
        figures |= found
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")


def truth_part(corpus: Path, limit: int | None) -> Figures:
    """On the corpus itself."""
    return against_truth("truth", read_corpus(corpus, limit))


def templates_part(corpus: Path, limit: int | None) -> Figures:
    """On templates."""
    return against_truth("templates", TextBatch.of(templated()))


@dataclass(frozen=True)
class Truth:
    """All pairs of documents with a Jaccard similarity of at least 0.8, by the pair, the earlier first."""

    similarity: dict[Pair, float]

    @classmethod
    def of(cls, texts: Sequence[str]) -> Truth:
        """By a product of sparse matrices, of documents and their shingles as text."""
        from scipy.sparse import csr_array, triu

        numbers: dict[bytes, int] = {}
        sets = [
            {numbers.setdefault(joined_shingle, len(numbers)) for joined_shingle in joined_shingles(text)}
            for text in texts
        ]
        sizes = np.array([len(shingles) for shingles in sets])
        ends = np.append(0, np.cumsum(sizes))
        places = np.fromiter((place for shingles in sets for place in shingles), np.int64, ends[-1])
        matrix = csr_array((np.ones(ends[-1], np.int32), places, ends), shape=(len(texts), len(numbers)))
        shared = triu(matrix @ matrix.T, k=1).tocoo()
        one, other = shared.coords
        similarity = shared.data / (sizes[one] + sizes[other] - shared.data)
        alike = similarity >= VERIFICATION.at_least
        pairs = zip(one[alike].tolist(), other[alike].tolist(), strict=True)
        return cls(dict(zip(pairs, similarity[alike].tolist(), strict=True)))


def against_truth(name: str, batch: TextBatch) -> Figures:
    """Precision of pairs that are joined, and recall of similar pairs beside what the curve of the bands predicts."""
    truth = Truth.of(batch.texts()).similarity
    clusters, pairs = verified_within(batch, NEAR, VERIFICATION)
    joined = list(zip(clusters["first_row"].to_pylist(), clusters["row"].to_pylist(), strict=True))
    joined = [pair for pair in joined if pair[0] != pair[1]]
    compared = set(zip(pairs["first_row"].to_pylist(), pairs["row"].to_pylist(), strict=True))
    keys = UNVERIFIED.keys(batch, np.ones(len(batch), np.bool_))
    bands = np.zeros((len(batch), NEAR.bands), np.uint64)
    bands[keys.row[:: NEAR.bands]] = keys.high.reshape(-1, NEAR.bands)
    words = normalized(batch, NEAR.normalize).texts()
    unlike = [pair for pair in truth if words[pair[0]] != words[pair[1]]]
    likely = [match_probability(truth[pair], NEAR.bands, NEAR.rows) for pair in unlike]
    return {
        f"{name}_documents": len(batch),
        f"{name}_joined": len(joined),
        f"{name}_precision": sum(pair in truth for pair in joined) / max(1, len(joined)),
        f"{name}_similar_pairs": len(truth),
        f"{name}_of_other_words": len(unlike),
        f"{name}_recall_predicted": sum(likely) / max(1, len(likely)),
        f"{name}_recall_by_bands": share(unlike, lambda pair: bool((bands[pair[0]] == bands[pair[1]]).any())),
        f"{name}_recall_compared": share(unlike, lambda pair: pair in compared),
        f"{name}_left_but_similar": left_but_similar(truth, clusters, len(batch)),
    }


def share(pairs: Sequence[Pair], is_so: Callable[[Pair], bool]) -> float:
    """Of pairs."""
    return sum(map(is_so, pairs)) / max(1, len(pairs))


def left_but_similar(truth: Iterable[Pair], clusters: pa.RecordBatch, documents: int) -> float:
    """The share of kept documents to which an earlier kept one is similar: what was not found."""
    kept = np.ones(documents, np.bool_)
    dropped = clusters["row"].to_numpy()[clusters["row"].to_numpy() != clusters["first_row"].to_numpy()]
    kept[dropped] = False
    return len({other for one, other in truth if kept[one] and kept[other]}) / int(kept.sum())


def templated() -> list[str]:
    """Texts of made-up words, in any order."""
    choose = random.Random(1)
    words = ["".join(choose.choices("abcdefghijklmnoprstuvwxyz", k=choose.randint(2, 9))) for _ in range(4000)]

    def some(count: int) -> list[str]:
        return choose.choices(words, k=count)

    texts = []
    for _ in range(20):  # the same frame, other data
        frame, data = some(choose.randint(80, 300)), choose.randint(4, 60)
        for _ in range(30):
            at = choose.randrange(len(frame))
            texts.append([*frame[:at], *some(data), *frame[at:]])
    for _ in range(10):  # licences: another holder
        licence = some(choose.randint(150, 600))
        for _ in range(20):
            holder = some(3)
            texts.append([*licence[:10], *holder, *licence[10:-30], *holder, *licence[-30:]])
    texts += [choose.choices(words[:40], k=choose.randint(1, 6)) for _ in range(1000)]  # very short
    boilerplate = [some(30) for _ in range(12)]
    for _ in range(600):  # boilerplate alone
        texts.append([word for part in choose.sample(boilerplate, choose.randint(3, 6)) for word in part])
    for _ in range(300):  # edited copies
        original = some(choose.randint(60, 500))
        for rate in (0.0, 0.002, 0.005, 0.01, 0.02, 0.04):
            texts.append([choose.choice(words) if choose.random() < rate else word for word in original])
    choose.shuffle(texts)
    return [" ".join(text) for text in texts]


def cost_part(corpus: Path, limit: int | None) -> Figures:
    """From texts to clusters in memory, with and without `verify`."""
    batch = read_corpus(corpus, limit)
    for work in (
        lambda batch: clusters_within(batch, UNVERIFIED),
        lambda batch: verified_within(batch, NEAR, VERIFICATION),
    ):
        work(TextBatch.of(["compiled before it is measured"] * 3))
    unverified, verified = [], []
    for _ in range(3):
        unverified.append(timed(lambda: clusters_within(batch, UNVERIFIED))[0])
        verified.append(timed(lambda: verified_within(batch, NEAR, VERIFICATION))[0])
    return {
        "cost_unverified_ms_per_mb": median(unverified) * 1e9 / batch.size_bytes,
        "cost_verified_over_unverified": median(verified) / median(unverified),
    }


def labels_part(corpus: Path, limit: int | None) -> Figures:
    """The same page of several editions of a manual; the baseline: datasketch, words between spaces, not verified."""
    tables = [pq.read_table(path, columns=["text", "url"]) for path in sorted(corpus.glob("*.parquet"))]
    table = pa.concat_tables(tables)
    pages: dict[str, list[int]] = defaultdict(list)
    for row, url in enumerate(table["url"].to_pylist()):
        parsed = urlparse(url)
        package = str(parsed.hostname).partition(".deb.")[0]
        pages[re.sub("amd64|arm64|i386|[0-9.]+", "", package) + parsed.path.replace(package, "")].append(row)
    editions = [rows for rows in pages.values() if len(rows) > 1]
    rows = sorted(row for edition in editions for row in edition)
    place = {row: number for number, row in enumerate(rows)}
    labelled = {pair for edition in editions for pair in combinations(sorted(place[row] for row in edition), 2)}
    batch = TextBatch.of(table["text"].take(rows).combine_chunks())
    if limit is not None:
        batch = first_bytes(batch, limit)
        labelled = {pair for pair in labelled if pair[1] < len(batch)}
    texts = batch.texts()
    unspaced = {number for number, text in enumerate(texts) if len(UNSPACED.findall(text)) > len(text) / 3}
    figures: Figures = {"labels_documents": len(batch), "labels_pairs": len(labelled)}
    for name, found in (
        ("verified", in_clusters(find_near_duplicates(texts, verify=0.8))),
        ("unverified", in_clusters(find_near_duplicates(texts))),
        ("baseline", baseline(texts)),
    ):
        figures |= scores(f"labels_{name}", found, labelled)
        figures |= scores(
            f"labels_{name}_unspaced", *({p for p in pairs if p[1] in unspaced} for pairs in (found, labelled))
        )
    return figures


def in_clusters(table: pa.Table) -> set[Pair]:
    """All pairs of documents in one cluster."""
    members = defaultdict(list)
    for document, first in zip(table["document"].to_pylist(), table["first"].to_pylist(), strict=True):
        members[first].append(document)
    return {pair for member in members.values() for pair in combinations(member, 2)}


def baseline(texts: Sequence[str]) -> set[Pair]:
    """Components of the matches of datasketch's index of 14 bands of 8 rows, over 5-grams of `str.split`."""
    from datasketch import MinHash, MinHashLSH
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    index, matches = MinHashLSH(num_perm=112, params=(14, 8)), []
    for number, text in enumerate(texts):
        words = text.lower().split()
        grams = {" ".join(words[at : at + 5]).encode() for at in range(max(1, len(words) - 4))}
        sketch = MinHash(112)
        sketch.update_batch(list(grams))
        matches += [(number, other) for other in index.query(sketch)]
        index.insert(number, sketch)
    one, other = np.array(matches).reshape(-1, 2).T
    graph = coo_array((np.ones(len(one)), (one, other)), shape=(len(texts), len(texts)))
    members = defaultdict(list)
    for number, label in enumerate(connected_components(graph)[1].tolist()):
        members[label].append(number)
    return {pair for member in members.values() for pair in combinations(member, 2)}


def scores(name: str, found: set[Pair], labelled: set[Pair]) -> Figures:
    """Precision, recall and F1 of pairs."""
    right = len(found & labelled)
    precision, recall = right / max(1, len(found)), right / max(1, len(labelled))
    return {
        f"{name}_precision": precision,
        f"{name}_recall": recall,
        f"{name}_f1": 2 * precision * recall / max(1e-9, precision + recall),
    }


def datatrove_part(corpus: Path, limit: int | None) -> Figures:
    """From Parquet to Parquet, in a process that has done so before with 50 documents; equal clusters."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        batch = read_corpus(corpus, limit)
        table = pa.table({"id": [f"{number}" for number in range(len(batch))], "text": batch.to_arrow().cast("string")})
        for name, rows in (("few", 50), ("all", len(batch))):
            (folder / name).mkdir()
            pq.write_table(table.slice(0, rows), folder / name / "00000.parquet")
        unverified, verified = gneiss_cpu_seconds(folder)
        datatrove = cpu_seconds(run_datatrove, *[(folder / of, folder / f"datatrove-{of}") for of in ("few", "all")])
        run_datatrove_on_our_signatures(folder / "all", folder / "same")
        same = clusters_of_datatrove(folder / "same/clusters")
        buckets = buckets_of_datatrove(folder / "same/buckets")
    pairs = Counter((members[0], later) for members in buckets for later in members[1:])
    matches = pa.Table.from_batches(matched(shard_keys(batch, UNVERIFIED)))
    own_pairs = Counter(zip(matches["first_row"].to_pylist(), matches["row"].to_pylist(), strict=True))
    if pairs != own_pairs:
        raise SystemExit(
            f"{(pairs - own_pairs).total()} pairs are datatrove's only, {(own_pairs - pairs).total()} ours"
        )
    if our_clusters(batch) != same:
        raise SystemExit("datatrove makes other clusters of the same signatures")
    return {
        "datatrove_buckets_of_our_signatures": len(buckets),
        "datatrove_and_our_pairs_in_these": sum(len(members) * (len(members) - 1) // 2 for members in buckets),
        "datatrove_and_our_pairs_that_differ": len({*combined(buckets)} ^ {*combined(our_buckets(batch))}),
        "datatrove_clusters_of_our_signatures": len(same),
        "datatrove_cpu_s_per_mb": datatrove / batch.size_bytes * 1e6,
        "datatrove_over_gneiss_unverified": datatrove / unverified,
        "datatrove_over_gneiss_verified": datatrove / verified,
        "gneiss_run_verified_over_unverified": verified / unverified,
    }


def text_dedup_part(python: Path, corpus: Path, limit: int | None) -> Figures:
    """From Parquet to its files, in its own process, less what 50 documents take; equal pairs and clusters."""
    batch = read_corpus(corpus, limit)
    table = pa.table({"id": [f"{number}" for number in range(len(batch))], "text": batch.to_arrow().cast("string")})
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name, rows in (("few", 50), ("all", len(batch))):
            (folder / name).mkdir()
            pq.write_table(table.slice(0, rows), folder / name / "00000.parquet")
            pq.write_table(table.slice(0, rows), folder / f"{name}.parquet")
        pq.write_table(bands_for_text_dedup(batch), folder / "bands.parquet")
        unverified, verified = gneiss_cpu_seconds(folder)
        command = [python, Path(__file__).with_name("text_dedup_process.py"), folder]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    theirs = json.loads(done.stdout.splitlines()[-1])
    own_pairs, own = {*combined(our_buckets(batch))}, our_clusters(batch)
    of_theirs = defaultdict(set)
    for document, number in theirs["clusters"].items():
        of_theirs[number].add(int(document))
    if own != {*map(frozenset, of_theirs.values())}:
        raise SystemExit("text-dedup makes other clusters of the same signatures")
    return {
        "text_dedup_pairs_of_our_signatures": len(theirs["pairs"]),
        "text_dedup_and_our_pairs_that_differ": len({*map(tuple, theirs["pairs"])} ^ own_pairs),
        "text_dedup_clusters_of_our_signatures": len(own),
        "text_dedup_joined": theirs["joined"],
        "text_dedup_precision": theirs["joined_and_similar"] / max(1, theirs["joined"]),
        "text_dedup_unverified_cpu_s_per_mb": theirs["unverified_cpu_s"] / batch.size_bytes * 1e6,
        "text_dedup_over_gneiss_unverified": theirs["unverified_cpu_s"] / unverified,
        "text_dedup_over_gneiss_verified": theirs["verified_cpu_s"] / verified,
    }


def bands_for_text_dedup(batch: TextBatch) -> pa.Table:
    """The bands of our signatures, as it has those of its own."""
    keys = UNVERIFIED.keys(batch, np.ones(len(batch), np.bool_))
    values = np.stack([keys.high, keys.low], axis=1).tobytes()
    columns = {
        "__band_idx__": np.arange(len(keys.row)) % UNVERIFIED.bands,
        "__band_val__": [values[start : start + 16] for start in range(0, len(values), 16)],
        "__INDEX__": keys.row,
    }
    return pa.table(columns)


def gneiss_cpu_seconds(folder: Path) -> tuple[float, float]:
    """Of runs over the Parquet files in `few` and `all`, not verified and verified."""
    unverified, verified = (
        cpu_seconds(run_gneiss, *[(folder / of, folder / f"{name}-{of}", verify) for of in ("few", "all")])
        for name, verify in (("unverified", "null"), ("verified", "0.8"))
    )
    return unverified, verified


def cpu_seconds(work: Callable[..., None], few: Sequence[Any], whole: Sequence[Any]) -> float:
    """User and system time of the work in a new process, after it was done once with less: imports do not count."""
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        return float(pool.apply(_timed_here, (work, few, whole)))


def _timed_here(work: Callable[..., None], few: Sequence[Any], whole: Sequence[Any]) -> float:
    work(*few)
    before = time.process_time()
    work(*whole)
    return time.process_time() - before


def run_gneiss(given: Path, output: Path, verify: str) -> None:
    """A run in this process."""
    gneiss.run(Recipe.parse(RECIPE.replace("VERIFY", verify)), given, output, backend=InThisProcess())


def run_datatrove(given: Path, output: Path) -> None:
    """Its four steps."""
    from datatrove.pipeline.dedup import MinhashDedupFilter, minhash
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.writers import ParquetWriter

    minhash.load_word_tokenizer = lambda language: BySpaces()
    minhash.create_hash_func = lambda config: lambda text: xxhash.xxh64_intdigest(text.encode())  # 4.0 takes bytes only
    datatrove_clusters(given, output, minhash.MinhashDedupSignature)
    reader = ParquetReader(str(given), text_key="text", id_key="id")
    run_alone([reader, MinhashDedupFilter(str(output / "clusters")), ParquetWriter(str(output / "data"))], output)


def run_datatrove_on_our_signatures(given: Path, output: Path) -> None:
    """Its steps up to the clusters."""
    from datatrove.pipeline.dedup import minhash

    class OurSignatures(minhash.MinhashDedupSignature):  # type: ignore[misc]
        def get_shingles(self, text: str) -> Any:
            return sign(TextBatch.of([text]))[0] if joined_shingles(text) else np.empty(0)

        def get_signature(self, shingles: Any) -> list[list[int]]:
            return [band.tolist() for band in np.split(shingles, UNVERIFIED.bands)]

    minhash.load_word_tokenizer = lambda language: BySpaces()
    datatrove_clusters(given, output, OurSignatures)


def datatrove_clusters(given: Path, output: Path, signature: Any) -> None:
    """Signatures, buckets, clusters."""
    from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster
    from datatrove.pipeline.readers import ParquetReader

    of_step = {name: str(output / name) for name in ("signatures", "buckets", "clusters")}
    run_alone([ParquetReader(str(given), text_key="text", id_key="id"), signature(of_step["signatures"])], output)
    run_alone([MinhashDedupBuckets(of_step["signatures"], of_step["buckets"])], output, UNVERIFIED.bands)
    run_alone([MinhashDedupCluster(of_step["buckets"], of_step["clusters"], save_cluster_id=True)], output)


def run_alone(pipeline: list[Any], output: Path, tasks: int = 1) -> None:
    """By datatrove's executor, in this process."""
    from datatrove.executor import LocalPipelineExecutor

    LocalPipelineExecutor(
        pipeline, tasks=tasks, workers=1, skip_completed=False, logging_dir=str(output / "logs")
    ).run()


class BySpaces:
    """Words between white space."""

    def word_tokenize(self, text: str) -> list[str]:
        """As datatrove asks for them."""
        return text.split()


def clusters_of_datatrove(folder: Path) -> set[frozenset[int]]:
    """The documents of each cluster, of one input file."""
    members = defaultdict(set)
    (file,) = folder.glob("*.clusters")
    for document, cluster in struct.iter_unpack("<II", file.read_bytes()):
        members[cluster].add(document)
    return {frozenset(member) for member in members.values()}


def buckets_of_datatrove(folder: Path) -> list[list[int]]:
    """The documents that share a band, for each band and value of it, of one input file: pairs of neighbours in it."""
    buckets = []
    for file in sorted(folder.glob("*.dups")):
        of_last: dict[int, list[int]] = {}
        for _, one, _, other in struct.iter_unpack("<4I", file.read_bytes()):
            members = of_last.pop(one, None)
            if members is None:
                buckets.append(members := [one])
            members.append(other)
            of_last[other] = members
    return buckets


def our_clusters(batch: TextBatch) -> set[frozenset[int]]:
    """The documents of each of our clusters, not verified."""
    found = clusters_within(batch, UNVERIFIED)
    members = defaultdict(set)
    for row, first in zip(found["row"].to_pylist(), found["first_row"].to_pylist(), strict=True):
        members[first].add(row)
    return {*map(frozenset, members.values())}


def our_buckets(batch: TextBatch) -> list[list[int]]:
    """The same, by the keys of our documents."""
    keys = UNVERIFIED.keys(batch, np.ones(len(batch), np.bool_))
    members = defaultdict(list)
    for row, *key in zip(keys.row.tolist(), keys.high.tolist(), keys.low.tolist(), strict=True):
        members[*key].append(row)
    return [rows for rows in members.values() if len(rows) > 1]


def combined(buckets: Iterable[Sequence[int]]) -> Iterable[Pair]:
    """All pairs within buckets, the earlier first."""
    return (pair for members in buckets for pair in combinations(sorted(members), 2))


PARTS: dict[str, Callable[[Path, int | None], Figures]] = {
    "truth": truth_part,
    "templates": templates_part,
    "cost": cost_part,
    "labels": labels_part,
    "datatrove": datatrove_part,
}

if __name__ == "__main__":
    main()
