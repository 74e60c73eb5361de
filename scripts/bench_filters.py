"""What the filters cost, against the libraries that they must equal: ratios of CPU time in one run, one thread.

    python scripts/bench_filters.py --corpus DIR [--quick] [--json FILE]

DIR holds Parquet files with a column `text`. Each part measures and checks equality, and returns flat figures.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gneiss.batch import TextBatch

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
    for part in (eflaw_part, token_part):
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
