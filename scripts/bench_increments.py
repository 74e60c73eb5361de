"""What new shards of a finished output cost, over one run with all: CPU time of all tasks; and what an index takes.

    PYTHONPATH=. python scripts/bench_increments.py --corpus DIR [--megabytes N] [--files N]

DIR holds Parquet files with a column `text`. Its documents are cut into files, ten by default, the last of which is
new. CPU time is that of the tasks of all stages, as the ledger has it, in this process; what new shards get is compared
with one run.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from bench_filters import Figures, describe, first_bytes, read_corpus

from gneiss.batch import TextBatch
from gneiss.output import ledger
from gneiss.pipelines.run import run
from gneiss.recipe.recipe import Recipe
from gneiss.store.place import place_of
from tests import runs

STEPS: dict[str, dict[str, Any]] = {
    "exact": {"exact_duplicates": {}},
    "near": {"near_duplicates": {}},
    "verified": {"near_duplicates": {"verify": 0.8}},
    "substring": {"dedup": {"scope": "corpus"}},
}


def main() -> None:
    """Measure every kind of duplicates, or some, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="folder of Parquet files with a column `text`")
    parser.add_argument("--megabytes", type=int, default=100, help="of text, from the first document on")
    parser.add_argument("--files", type=int, default=10, help="into which the documents are cut, each a shard")
    parser.add_argument("--kinds", nargs="+", choices=STEPS, default=list(STEPS))
    arguments = parser.parse_args()
    batch = first_bytes(read_corpus(arguments.corpus, None), arguments.megabytes * 1_000_000)
    figures = describe(arguments.corpus, batch)
    for kind in arguments.kinds:
        phase = {"name": "duplicates", **STEPS[kind], "rules": {}}
        recipe = Recipe.model_validate({"name": kind, "input": {"id": None}, "phases": [phase]})
        with tempfile.TemporaryDirectory(prefix="gneiss-increments-") as folder:
            found = measured(recipe, batch, arguments.files, Path(folder))
            figures |= {f"{kind}_{name}": value for name, value in found.items()}
    for name, value in figures.items():
        print(f"{name:45} {value:.4g}" if isinstance(value, float) else f"{name:45} {value}", flush=True)


def measured(recipe: Recipe, batch: TextBatch, files: int, folder: Path) -> Figures:
    """One run with all documents, one without the last file, and the same again with it."""
    bounds = [len(batch) * number // files for number in range(files + 1)]
    (folder / "in").mkdir()

    def write(number: int) -> None:
        texts = batch.slice(bounds[number], bounds[number + 1]).to_arrow()
        pq.write_table(pa.table({"text": texts}), folder / f"in/{number}.parquet")

    for number in range(files - 1):
        write(number)
    run(recipe, folder / "in", folder / "grown", backend=runs.InThisProcess(), keep_index=True)
    before, index = cpu_seconds(folder / "grown"), index_bytes(folder / "grown")
    write(files - 1)
    run(recipe, folder / "in", folder / "grown", backend=runs.InThisProcess())
    run(recipe, folder / "in", folder / "whole", backend=runs.InThisProcess())
    own, other = (pq.read_table(folder / f"{run}/annotations/base/{files - 1}.parquet") for run in ("grown", "whole"))
    increment, whole = cpu_seconds(folder / "grown") - before, cpu_seconds(folder / "whole")
    return {
        "whole_cpu_seconds": whole,
        "increment_cpu_seconds": increment,
        "increment_over_whole": increment / whole,
        "increment_over_whole_with_index": increment / (before * files / (files - 1)),  # as the first run went
        "index_bytes_per_byte": index / int(batch.offsets[bounds[files - 1]] - batch.offsets[0]),
        "decided_alike": own.equals(other),
    }


def cpu_seconds(output: Path) -> float:
    """CPU time of all tasks that an output knows of."""
    return sum(receipt.cost.get("cpu_seconds", 0.0) for receipt in ledger.entries(place_of(output)) if receipt.files)


def index_bytes(output: Path) -> int:
    """Size of all files of an index."""
    return sum(path.stat().st_size for path in (output / "_gneiss/index").rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
