"""Time and memory of `gneiss report` over synthetic annotations: `python scripts/bench_report.py --documents 10000000`.

The output has the columns of the recipe `gneissweb`, rules decided as a run decides them, and documents of two
words. It is written once into `--folder`, by this process; the report runs in a process of
its own, whose wall time, CPU time and peak of memory are printed.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gneiss.annotation import arrow_type
from gneiss.curate.measure import Measurable
from gneiss.curate.statistics import Statistics
from gneiss.output import layout
from gneiss.output.ledger import COMMITTED, FOOTER_KEY, Receipt
from gneiss.output.parquet import write_bytes, write_parquet
from gneiss.recipe.recipe import Recipe
from gneiss.recipe.rule import TRUE, evaluate, locked_connection
from gneiss.store.place import Place, place_of

SHARD_ROWS = 50_000
MARKS = {0: "0", 1: "1", -1: "?", -2: "!"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where the output is, or is written; by default a temporary one")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        output = place_of(folder / f"annotated-{given.documents}")
        if (output / layout.STATISTICS_FILE).find() is None:
            write_output(output, given.documents)
        command = [sys.executable, "-m", "gneiss", "report", str(output), "--output", str(folder / "report.html")]
        begun = time.monotonic()
        subprocess.run(command, check=True)
        wall, used = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
        print(
            f"{given.documents:,} documents: {wall:.1f} s wall, {used.ru_utime + used.ru_stime:.1f} s CPU,"
            f" {used.ru_maxrss / 2**20:.2f} GiB at most"
        )


def write_output(output: Place, documents: int) -> None:
    """An output of the recipe `gneissweb` with synthetic annotations."""
    recipe = Recipe.load("gneissweb")
    draw, total = np.random.default_rng(0), Statistics()
    for number, first in enumerate(range(0, documents, SHARD_ROWS)):
        write_shard(output, recipe, f"shard-{number:05d}", min(SHARD_ROWS, documents - first), draw, total)
    stored = {"statistics": total.to_json(), "samples": {}, "quarantined_shards": {}}
    write_bytes(json.dumps(stored).encode(), output, layout.STATISTICS_FILE)
    write_bytes(recipe.to_yaml().encode(), output, layout.RECIPE_FILE)
    write_bytes(json.dumps({"run_key": "synthetic"}).encode(), output, layout.RUN_FILE)


def write_shard(
    output: Place, recipe: Recipe, id_: str, rows: int, draw: np.random.Generator, total: Statistics
) -> None:
    """Annotations of one shard, and its counts."""
    (phase,) = recipe.phases
    columns = {column.name: values_of(column.name, column.type, rows, draw) for column in recipe.columns}
    with locked_connection() as connection:
        verdicts = evaluate(connection, phase.decision, pa.table(columns))
    names = np.array(list(phase.rules))
    keep = verdicts.keep
    cuts = pa.nulls(rows, phase.evidence[0].type)
    table = pa.table(
        {
            "row": pa.array(np.arange(rows)),
            "id": [f"<urn:uuid:{id_}-{row}>" for row in range(rows)],
            "status": pc.if_else(pa.array(keep), "kept", "dropped"),
            "reason": pa.nulls(rows, pa.string()),
            "dropped_in": pc.if_else(pa.array(keep), pa.scalar(None, pa.string()), phase.name),
            "failed": pa.array([names[its != TRUE].tolist() for its in verdicts.truth], pa.list_(pa.string())),
            "decisive": pa.array([names[its].tolist() for its in verdicts.decisive], pa.list_(pa.string())),
            "content_hash": pa.array([draw.bytes(16) for _ in range(rows)], pa.binary(16)),
            **columns,
            phase.evidence[0].name: cuts,
        }
    )
    kept = int(keep.sum())
    receipt = Receipt(id_, COMMITTED, "", rows, {"kept": kept, "dropped": rows - kept, "quarantined": 0})
    documents = table.select(["id"]).filter(pa.array(keep)).append_column("text", pa.array(["Some text."] * kept))
    write_parquet([documents], documents.schema, output, layout.data_path(id_))
    write_parquet([table], table.schema, output, layout.annotations_path(id_), {FOOTER_KEY: receipt.footer()})
    patterns, counts = np.unique(verdicts.truth, axis=0, return_counts=True)
    marked = ("".join(MARKS[int(its)] for its in pattern) for pattern in patterns)
    total += Statistics(
        counts=Counter(rows=rows, kept=kept, dropped=rows - kept, quarantined=0),
        dropped_in=Counter({phase.name: rows - kept}),
        patterns={phase.name: Counter(dict(zip(marked, counts.tolist(), strict=True)))},
        decisive=Counter(dict(zip(phase.rules, verdicts.decisive.sum(axis=0).tolist(), strict=True))),
        columns={column.name: Measurable.of(table[column.name]).measured(keep) for column in recipe.columns},
    )


def values_of(name: str, type_: str, rows: int, draw: np.random.Generator) -> pa.Array:
    """Values as documents of a crawl have them, more or less."""
    if type_ == "string":
        label = name.removesuffix("_label")
        return pa.array(np.where(draw.random(rows) < 0.1, label, "cc"), pa.string())
    if type_ == "int64":
        return pa.array(draw.lognormal(7, 1, rows).astype(np.int64))
    if name == "eflaw":
        return pa.array(draw.gamma(6, 4, rows))
    if name == "tokens_per_char":
        return pa.array(draw.normal(0.25, 0.03, rows))
    return pa.array(draw.beta(0.3, 3, rows), arrow_type("float64"))


if __name__ == "__main__":
    main()
