"""What the stages of a run cost, by stage, in this checkout and in another one, in turn on the same input.

    python scripts/bench_stages.py --corpus DIR [--against CHECKOUT] [--megabytes 45] [--runs 2] [--recipe NAME ...]

DIR holds Parquet files with columns `text` and `id`; about as many MB of text as asked for are cut into ten shards.
Recipes: `fineweb` and `three-phase` (commoncrawl-to-gneissweb without its fastText models: near-duplicates behind
heuristics, and dedup behind both) and `tokens` (dedup of 50 cl100k_base tokens at corpus scope). A figure is the sum of
the CPU seconds in the ledger's receipts, one worker; `stages` is all but `curate`. CHECKOUT runs with the libraries of
this environment.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from bench_filters import read_corpus

ROOT = Path(__file__).resolve().parent.parent
SHARDS = 10
#: What a ledger holds besides receipts of tasks.
NOTES = ("begun", "predicted", "ended", "summed", "usable")


def main() -> None:
    """Run the recipes in turn and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="folder of Parquet files with columns text and id")
    parser.add_argument("--against", type=Path, help="another checkout of gneiss")
    parser.add_argument("--megabytes", type=int, default=45, help="of text")
    parser.add_argument("--runs", type=int, default=2, help="of each recipe and checkout; the least of them counts")
    parser.add_argument("--recipe", action="append", choices=["fineweb", "three-phase", "tokens"])
    arguments = parser.parse_args()
    checkouts = {"here": ROOT, **({"there": arguments.against.resolve()} if arguments.against else {})}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        figures: dict[str, object] = _write_input(arguments.corpus, arguments.megabytes * 1_000_000, folder / "input")
        for name in arguments.recipe or ["fineweb", "three-phase", "tokens"]:
            (folder / f"{name}.yaml").write_text(yaml.safe_dump(_recipe(name), sort_keys=False), "utf-8")
            seconds: dict[str, list[Counter[str]]] = {which: [] for which in checkouts}
            for run in range(arguments.runs):
                for which, checkout in checkouts.items():
                    seconds[which].append(_seconds(checkout, folder, name, f"{name}-{which}-{run}"))
            figures |= _figures(name, seconds)
    print(json.dumps(figures, indent=1))


def _write_input(corpus: Path, size_bytes: int, folder: Path) -> dict[str, object]:
    texts = read_corpus(corpus, size_bytes).to_arrow()
    folder.mkdir()
    step = -(-len(texts) // SHARDS)
    for number in range(SHARDS):
        part = texts.slice(number * step, step)
        ids = [f"{number}-{i}" for i in range(len(part))]
        pq.write_table(pa.table({"id": ids, "text": part}), folder / f"{number:02d}.parquet", compression="zstd")
    digest = hashlib.sha256(b"".join(part.read_bytes() for part in sorted(folder.iterdir()))).hexdigest()
    return {
        "input": str(corpus),
        "text_bytes": pa.compute.sum(pa.compute.binary_length(texts)).as_py(),
        "sha256": digest,
    }


def _recipe(name: str) -> dict[str, object]:
    if name == "tokens":
        dedup = {"min_length": 50, "unit": "tokens", "tokenizer": "builtin:cl100k_base", "scope": "corpus"}
        return {"name": name, "phases": [{"name": "only", "dedup": dedup}]}
    from gneiss.recipe.recipe import Recipe

    recipe = Recipe.load("fineweb" if name == "fineweb" else "commoncrawl-to-gneissweb").canonical()
    if name == "three-phase":
        last = recipe["phases"][-1]
        last["annotate"] = [entry for entry in last["annotate"] if "fasttext" not in entry]
        last["annotate"][-1]["tokens"]["tokenizer"] = "builtin:cl100k_base"
        last["dedup"]["tokenizer"] = "builtin:cl100k_base"
        last["rules"], last["keep"] = {"readable": "eflaw < 70"}, None
    return recipe


def _seconds(checkout: Path, folder: Path, name: str, output: str) -> Counter[str]:
    """CPU seconds by stage."""
    command = [sys.executable, "-m", "gneiss", "run", f"{name}.yaml", "--input", "input", "--output", output]
    command += ["--workers", "1", "--backend", "local"]
    environment = {**os.environ, "PYTHONPATH": str(checkout), "RAYON_NUM_THREADS": "1"}
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    seconds: Counter[str] = Counter()
    for segment in (folder / output / "_gneiss/ledger").glob("*.jsonl"):
        for line in segment.read_text("utf-8").splitlines():
            receipt = json.loads(line)
            stage = receipt.get("stage") or receipt["step"]
            if stage not in NOTES:
                seconds[stage] += receipt["cost"]["cpu_seconds"]
    return seconds


def _figures(name: str, seconds: dict[str, list[Counter[str]]]) -> dict[str, object]:
    figures: dict[str, object] = {}
    least = {which: min(runs, key=lambda run: run.total()) for which, runs in seconds.items()}
    for which, least_seconds in least.items():
        figures[f"{name}_{which}_stages_seconds"] = round(least_seconds.total() - least_seconds["curate"], 2)
        figures[f"{name}_{which}_curate_seconds"] = round(least_seconds["curate"], 2)
        figures[f"{name}_{which}_by_stage"] = {stage: round(value, 2) for stage, value in least_seconds.items()}
    if "there" in least:
        here, there = least["here"], least["there"]
        figures[f"{name}_stages_here_over_there"] = round(
            (here.total() - here["curate"]) / (there.total() - there["curate"]), 3
        )
        figures[f"{name}_all_here_over_there"] = round(here.total() / there.total(), 3)
    return figures


if __name__ == "__main__":
    main()
