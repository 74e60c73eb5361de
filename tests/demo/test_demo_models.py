"""The demo's models: learnable labels, honest counts, the same bytes again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import fasttext
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gneiss.demo.models import TECHNOLOGY_PACKAGES, DemoModels, train_demo_models
from gneiss.demo.sample import write_sample
from gneiss.errors import InputError
from gneiss.filters import fasttext_scores

# A part of the corpus, for time: some of each label. fastText's description has example labels in its text.
REQUIREMENTS = ("aiohttp", "fasttext-community", "google-auth", "huggingface-hub", "numba", "numpy", "pydantic", "rich")


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder, shards=2, requirements=REQUIREMENTS)
    return folder


@pytest.fixture(scope="module")
def models(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> DemoModels:
    return train_demo_models(sample, tmp_path_factory.mktemp("models") / "new")


def rows(sample: Path) -> list[dict[str, str]]:
    tables = [pq.read_table(path, columns=["text", "kind", "package"]) for path in sorted(sample.glob("*.parquet"))]
    return list(pa.concat_tables(tables).to_pylist())


@pytest.mark.exhaustive
def test_the_models_have_the_published_labels_and_are_small(models: DemoModels) -> None:
    for model, positive in ((models.quality, "hq"), (models.technology, "technology")):
        path = model.classifier.path
        assert model.classifier.positive == positive
        assert sorted(fasttext.load_model(str(path)).labels) == sorted([f"__label__{positive}", "__label__cc"])
        assert path.stat().st_size < 5_000_000
        assert {file.name for file in path.parent.iterdir()} == {path.name, "MODEL.md"}


@pytest.mark.exhaustive
def test_the_labels_are_learnable(models: DemoModels) -> None:
    for model, better_than in ((models.quality, 0.92), (models.technology, 0.8)):
        held_out = model.classifier.held_out
        assert held_out.by_label.accuracy > max(held_out.baseline.accuracy, better_than)
        assert min(held_out.by_label.precision or 0, held_out.by_label.recall) > 0.6


@pytest.mark.exhaustive
def test_labels_are_of_kinds_and_packages(sample: Path, models: DemoModels) -> None:
    documents = rows(sample)
    for classifier, positives in (
        (models.quality.classifier, [row["kind"] for row in documents if row["kind"] != "docstring"]),
        (models.technology.classifier, [row["package"] for row in documents if row["package"] in TECHNOLOGY_PACKAGES]),
    ):
        assert set(classifier.rule.values) == set(positives)
        assert classifier.rows == len(documents)


@pytest.mark.exhaustive
def test_a_threshold_keeps_what_its_quantile_says(sample: Path, models: DemoModels) -> None:
    texts = [row["text"] for row in rows(sample)]
    for model in (models.quality, models.technology):
        scores = fasttext_scores(texts, model.classifier.path, model.classifier.positive).to_pylist()
        kept = sum(score > model.threshold for score in scores) / len(scores)
        assert kept == pytest.approx(1 - model.quantile, abs=0.01)


@pytest.mark.exhaustive
@pytest.mark.processes
def test_another_process_trains_the_same_bytes(sample: Path, models: DemoModels, tmp_path: Path) -> None:
    program = "import sys; from pathlib import Path; from gneiss.demo.models import train_demo_models as train; "
    program += "print(train(Path(sys.argv[1]), Path('other')).quality.threshold)"
    changed = {
        "PYTHONHASHSEED": "7",
        "LC_ALL": "C",
        "OMP_NUM_THREADS": "2",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    run = subprocess.run(
        [sys.executable, "-c", program, str(sample)],
        cwd=tmp_path,
        env=os.environ | changed,
        check=True,
        capture_output=True,
        text=True,
    )
    assert run.stdout == f"{models.quality.threshold}\n"
    assert run.stderr == ""
    for model in (models.quality, models.technology):
        path = model.classifier.path
        assert (tmp_path / "other" / path.parent.name / path.name).read_bytes() == path.read_bytes()


def test_what_is_no_sample_gets_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no Parquet file"):
        train_demo_models(tmp_path, tmp_path)
    path = tmp_path / "sample-00000.parquet"
    pq.write_table(pa.table({"text": ["a"], "kind": ["text"]}), path)
    with pytest.raises(InputError, match=r"expected files written by gneiss sample: .*package"):
        train_demo_models(tmp_path, tmp_path)
    pq.write_table(pa.table({"text": ["a"] * 9, "kind": ["text"] * 9, "package": ["ray"] * 9}), path)
    with pytest.raises(InputError, match="all are"):
        train_demo_models(tmp_path, tmp_path)
    path.write_bytes(b"PAR1 truncated")
    with pytest.raises(InputError, match="expected files written by gneiss sample: "):
        train_demo_models(tmp_path, tmp_path)
