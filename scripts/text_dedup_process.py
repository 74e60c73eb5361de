"""What text-dedup 0.4.1 takes and finds, in a Python that has it (3.12 or later), for bench_verified_duplicates.py.

    python scripts/text_dedup_process.py FOLDER

FOLDER holds `few.parquet` and `all.parquet`, with texts, and `bands.parquet`, with the bands of other signatures, as
text-dedup's `fingerprint` returns them. The last line of the output has the figures, as JSON.
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import sys
from pathlib import Path
from typing import Any

CONFIG = """
[input]
input_type = "local_files"
[input.read_arguments]
path = "parquet"
data_files = "{given}"
split = "train"
[algorithm]
algorithm_name = "minhash"
text_column = "text"
num_perm = 112
bands = 14
rows = 8
ngram_size = 5
min_length = 5
threshold = 0.8
check_false_positive = {verify}
num_proc = 1
[output]
output_dir = "{output}"
save_clusters = true
[debug]
enable_profiling = false
"""


def main() -> None:
    """Run it with and without verification, and its clustering alone."""
    folder = Path(sys.argv[1])
    os.environ |= {"HF_HOME": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}  # read when its libraries are imported
    figures: dict[str, Any] = {}
    for name in ("unverified", "verified"):
        few, whole = (cpu_seconds(folder, of, is_verified=name == "verified") for of in ("few", "all"))
        figures[f"{name}_cpu_s"] = whole - few
    figures |= of_joined(folder)
    figures["pairs"], figures["clusters"] = of_bands(folder)
    print(json.dumps(figures))


def config_for(folder: Path, given: str, *, is_verified: bool) -> Any:
    """Its configuration, for a file in the folder."""
    from text_dedup.config.base import load_config_from_toml

    path, output = folder / "config.toml", output_of(folder, is_verified=is_verified)
    path.write_text(
        CONFIG.format(given=folder / f"{given}.parquet", verify=str(is_verified).lower(), output=output), "utf-8"
    )
    return load_config_from_toml(path)


def output_of(folder: Path, *, is_verified: bool) -> Path:
    """Where its output lies."""
    return folder / ("verified" if is_verified else "unverified")


def cpu_seconds(folder: Path, given: str, *, is_verified: bool) -> float:
    """User and system time of a run, and of the processes that it starts for its output."""
    from text_dedup import minhash

    config = config_for(folder, given, is_verified=is_verified)
    before = used()
    minhash.main(config)
    return used() - before


def used() -> float:
    """User and system time of this process and of those that it started and that have ended."""
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def of_joined(folder: Path) -> dict[str, int]:
    """How many documents its verified output joins to the first of their cluster, and how many of them resemble it."""
    import pyarrow.parquet as pq
    from text_dedup.utils.jaccard import jaccard_similarity

    algorithm = config_for(folder, "all", is_verified=True).algorithm
    shingles = algorithm.get_ngrams_func()
    texts = pq.read_table(folder / "all.parquet")["text"]
    with (output_of(folder, is_verified=True) / "clusters.pickle").open("rb") as file:
        firsts: dict[int, int] = pickle.load(file)  # noqa: S301  # of our own run
    joined = [(document, first) for document, first in firsts.items() if document != first]
    similar = [
        jaccard_similarity(*(set(shingles(texts[number].as_py())) for number in pair)) >= algorithm.threshold
        for pair in joined
    ]
    return {"joined": len(joined), "joined_and_similar": sum(similar)}


def of_bands(folder: Path) -> tuple[list[list[int]], dict[int, int]]:
    """The pairs that it makes of given bands, and the number of the cluster of each document in a pair."""
    from datasets import Dataset
    from text_dedup import minhash

    pairs: list[list[int]] = []
    merge = minhash.super_merger

    def noted(table: Any, **columns: str) -> Any:
        pairs.extend(map(list, table.select("src", "dst").unique().iter_rows()))
        return merge(table, **columns)

    minhash.super_merger = noted
    bands = Dataset.from_parquet(str(folder / "bands.parquet"))
    return pairs, minhash.cluster(config_for(folder, "all", is_verified=False), bands)


if __name__ == "__main__":
    main()
