"""Time and memory of `gneiss report` over synthetic annotations: `python scripts/bench_report.py --documents 10000000`.

The output has the columns of the recipe `gneissweb`, rules decided as a run decides them, and documents of two
words. It is written into `--folder` by a process per CPU, unless it is there; the report runs in a process of its own,
whose wall time, CPU time and peak of memory are printed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gneiss.annotation import arrow_type
from gneiss.arrays import BoolArray
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
        _, status, used = os.wait4(subprocess.Popen(command).pid, 0)
        wall = time.monotonic() - begun
        if status:
            sys.exit(f"gneiss report ended with status {status}")
        print(
            f"{given.documents:,} documents: {wall:.1f} s wall, {used.ru_utime + used.ru_stime:.1f} s CPU,"
            f" {used.ru_maxrss / 2**20:.2f} GiB at most"
        )


def write_output(output: Place, documents: int) -> None:
    """An output of the recipe `gneissweb` with synthetic annotations."""
    recipe, total = Recipe.load("gneissweb"), Statistics()
    rows = [min(SHARD_ROWS, documents - first) for first in range(0, documents, SHARD_ROWS)]
    with ProcessPoolExecutor() as workers:
        for counted in workers.map(partial(write_shard, output, recipe), range(len(rows)), rows):
            total += counted
    stored = {"statistics": total.to_json(), "samples": {}, "quarantined_shards": {}}
    write_bytes(json.dumps(stored).encode(), output, layout.STATISTICS_FILE)
    write_bytes(recipe.to_yaml().encode(), output, layout.RECIPE_FILE)
    write_bytes(json.dumps({"run_key": "synthetic"}).encode(), output, layout.RUN_FILE)


def write_shard(output: Place, recipe: Recipe, number: int, rows: int) -> Statistics:
    """Write the annotations of one shard, and return its counts."""
    (phase,) = recipe.phases
    id_, draw = f"shard-{number:05d}", np.random.default_rng(number)
    columns = {column.name: values_of(column.name, column.type, rows, draw) for column in recipe.columns}
    with locked_connection() as connection:
        verdicts = evaluate(connection, phase.decision, pa.table(columns))
    keep, names = verdicts.keep, list(phase.rules)
    hashes = pa.py_buffer(draw.bytes(16 * rows))
    table = pa.table(
        {
            "row": pa.array(np.arange(rows)),
            "id": [f"<urn:uuid:{id_}-{row}>" for row in range(rows)],
            "status": pc.if_else(pa.array(keep), "kept", "dropped"),
            "reason": pa.nulls(rows, pa.string()),
            "dropped_in": pc.if_else(pa.array(keep), pa.scalar(None, pa.string()), phase.name),
            "failed": names_where(names, verdicts.truth != TRUE),
            "decisive": names_where(names, verdicts.decisive),
            "content_hash": pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), rows, [None, hashes]),
            **columns,
            phase.evidence[0].name: pa.nulls(rows, phase.evidence[0].type),
        }
    )
    kept = int(keep.sum())
    receipt = Receipt(id_, COMMITTED, "", rows, {"kept": kept, "dropped": rows - kept, "quarantined": 0})
    documents = table.select(["id"]).filter(pa.array(keep)).append_column("text", pa.array(["Some text."] * kept))
    write_parquet([documents], documents.schema, output, layout.data_path(id_))
    write_parquet([table], table.schema, output, layout.annotations_path(id_), {FOOTER_KEY: receipt.footer()})
    patterns = Counter(map(bytes, verdicts.truth.view(np.uint8)))
    marked = {"".join(MARKS[mark] for mark in np.frombuffer(of, np.int8).tolist()): n for of, n in patterns.items()}
    return Statistics(
        counts=Counter(rows=rows, kept=kept, dropped=rows - kept, quarantined=0),
        dropped_in=Counter({phase.name: rows - kept}),
        patterns={phase.name: Counter(marked)},
        decisive=Counter(dict(zip(phase.rules, verdicts.decisive.sum(axis=0).tolist(), strict=True))),
        columns={column.name: Measurable.of(table[column.name]).measured(keep) for column in recipe.columns},
    )


def names_where(names: list[str], flags: BoolArray) -> pa.ListArray:
    """For each row of `flags` (rows, names) the list of names whose flag is set."""
    offsets = np.concatenate([[0], np.cumsum(flags.sum(axis=1))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(names).take(pa.array(np.nonzero(flags)[1])))


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
