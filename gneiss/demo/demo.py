"""The demo: a real corpus from this installation, two small models trained on it, and a recipe that curates it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template

import pyarrow as pa
import pyarrow.parquet as pq

from gneiss.annotation import annotate
from gneiss.demo.models import DemoModels, train_demo_models
from gneiss.demo.sample import Manifest, write_sample
from gneiss.errors import OutputError
from gneiss.filters.readability import eflaw
from gneiss.filters.tokens import Tokens
from gneiss.jobs.progress import Progress, Silent
from gneiss.output.finished_run import FinishedRun
from gneiss.pipelines.run import run

PARTS = (
    "sample", "models", "curated", "demo.yaml",
    "labels", "judge.yaml", "scored", "scored.yaml", "fused", "fused.yaml", "routed", "routed.yaml", "models.png",
)  # fmt: skip


@dataclass(frozen=True)
class Thresholds:
    """The values in the demo's rules: models with their thresholds, and quantiles of this corpus.

    eflaw: quantiles 0.85 and 0.95; tokens_per_char: quantiles 0.05 and 0.95.
    """

    models: DemoModels
    eflaw: tuple[float, float]
    tokens_per_char: tuple[float, float]


@dataclass(frozen=True)
class Demo:
    """A demo in a folder: sample/, models/, demo.yaml and curated/, created in this order by its three steps."""

    folder: Path

    @classmethod
    def in_empty(cls, folder: Path) -> Demo:
        """A demo in an empty folder, or replacing a previous one. Raises OutputError for anything else in it."""
        if folder.is_dir() and (foreign := sorted({entry.name for entry in folder.iterdir()} - set(PARTS))):
            raise OutputError(
                f"{folder}: expected an empty folder or a previous demo, found {foreign[0]!r}; choose another folder"
            )
        for part in PARTS:
            path = folder / part
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        return cls(folder)

    @property
    def sample(self) -> Path:
        """The corpus: a folder of Parquet files."""
        return self.folder / "sample"

    @property
    def first_shard(self) -> Path:
        """One file of the corpus."""
        return min(self.sample.glob("*.parquet"))

    @property
    def recipe(self) -> Path:
        """The recipe, a YAML file."""
        return self.folder / "demo.yaml"

    @property
    def curated(self) -> Path:
        """The output of the run."""
        return self.folder / "curated"

    def harvest(self) -> Manifest:
        """Write the corpus."""
        return write_sample(self.sample, shards=4)

    def write_recipe(self) -> Thresholds:
        """Train the models, compute the quantiles, write the recipe."""
        models = train_demo_models(self.sample, self.folder / "models")
        shards = sorted(self.sample.glob("*.parquet"))
        texts = pa.concat_tables([pq.read_table(path, columns=["text"]) for path in shards])["text"]
        readable = _quantiles(eflaw(texts), 0.85, 0.95)
        tokens = _quantiles(annotate(Tokens(), texts)["tokens_per_char"], 0.05, 0.95)
        template = resources.files("gneiss.demo").joinpath("demo.template.yaml").read_text("utf-8")
        recipe = Template(template).substitute(
            prose=models.quality.threshold,
            eflaw=readable[0],
            eflaw_technology=readable[1],
            tokens_low=tokens[0],
            tokens_high=tokens[1],
        )
        self.recipe.write_text(recipe, "utf-8")
        return Thresholds(models, readable, tokens)

    def curate(self, progress: Progress = Silent()) -> FinishedRun:  # noqa: B008
        """Run the recipe over the corpus, in local processes."""
        return run(self.recipe, self.sample, self.curated, backend="local", progress=progress)


def _quantiles(values: pa.Array | pa.ChunkedArray, low: float, high: float) -> tuple[float, float]:
    found = pa.compute.quantile(values, [low, high], interpolation="lower").to_pylist()
    return round(found[0], 4), round(found[1], 4)
