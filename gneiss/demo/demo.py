"""The demo: harvest a real corpus, train two small models on it, curate it, say what happened."""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path
from string import Template

import pyarrow as pa
import pyarrow.parquet as pq

from gneiss.annotation import annotate
from gneiss.cli.printing import print_run
from gneiss.demo.models import DemoModel, train_demo_models
from gneiss.demo.sample import write_sample
from gneiss.errors import OutputError
from gneiss.filters.readability import eflaw
from gneiss.filters.tokens import Tokens
from gneiss.jobs.progress import PrintedProgress
from gneiss.pipelines.run import Run, run

PARTS = ("sample", "models", "curated", "demo.yaml")


def run_demo(folder: Path) -> Run:
    """Make a demo in a folder: sample/, models/, demo.yaml and curated/; a former demo there is replaced.

    Raises OutputError when the folder holds something else.
    """
    _clear(folder)
    print(f"1. harvesting a corpus from this Python installation into {folder / 'sample'}", flush=True)
    manifest = write_sample(folder / "sample", shards=4)
    print(f"   {manifest.documents:,} documents, {manifest.text_bytes / 1e6:.1f} MB, {manifest.duplicates:,} copies")
    print("2. training two small models on it, and taking quantiles for thresholds", flush=True)
    models = train_demo_models(folder / "sample", folder / "models")
    shards = sorted((folder / "sample").glob("*.parquet"))
    texts = pa.concat_tables([pq.read_table(path, columns=["text"]) for path in shards])["text"]
    readable = _quantiles(eflaw(texts), 0.85, 0.95)
    tokens = _quantiles(annotate(Tokens(), texts)["tokens_per_char"], 0.05, 0.95)
    _tell("prose against reference documentation", models.quality)
    _tell("technology by package", models.technology)
    print(f"   readable: eflaw below {readable[0]} (quantile 0.85), in technology below {readable[1]} (0.95)")
    print(f"   tokens_normal: {tokens[0]} to {tokens[1]} tokens of cl100k_base per character (quantiles 0.05 and 0.95)")
    template = resources.files("gneiss.demo").joinpath("demo.template.yaml").read_text("utf-8")
    recipe = Template(template).substitute(
        prose=models.quality.threshold,
        eflaw=readable[0],
        eflaw_technology=readable[1],
        tokens_low=tokens[0],
        tokens_high=tokens[1],
    )
    (folder / "demo.yaml").write_text(recipe, "utf-8")
    print(
        f"3. curating: gneiss run {folder / 'demo.yaml'} --input {folder / 'sample'} --output {folder / 'curated'}",
        flush=True,
    )
    print("   (the first run compiles the kernels, which takes about half a minute, once)", flush=True)
    finished = run(
        folder / "demo.yaml", folder / "sample", folder / "curated", backend="local", progress=PrintedProgress()
    )
    print_run(finished)
    print(f"\nlook closer:     gneiss dry-run {shards[0]} --recipe {folder / 'demo.yaml'}")
    finished.check_budgets()
    return finished


def _clear(folder: Path) -> None:
    if folder.is_dir() and (foreign := sorted({entry.name for entry in folder.iterdir()} - set(PARTS))):
        raise OutputError(
            f"{folder}: expected an empty folder or a former demo, found {foreign[0]!r}; choose another folder"
        )
    for part in PARTS:
        path = folder / part
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _quantiles(values: pa.Array | pa.ChunkedArray, low: float, high: float) -> tuple[float, float]:
    found = pa.compute.quantile(values, [low, high], interpolation="lower").to_pylist()
    return round(found[0], 4), round(found[1], 4)


def _tell(what: str, model: DemoModel) -> None:
    held_out = model.by_label
    print(
        f"   {model.path.name}, {what}: accuracy {held_out.accuracy:.2f} on {held_out.documents:,} documents held"
        f" out; threshold {model.threshold} (quantile {model.quantile})"
    )
