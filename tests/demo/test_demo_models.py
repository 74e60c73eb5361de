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

from gneiss.demo.models import NEGATIVE, TECHNOLOGY_PACKAGES, DemoModel, DemoModels, one_line, train_demo_models
from gneiss.demo.sample import write_sample
from gneiss.errors import InputError

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


def scores(model: DemoModel, texts: list[str]) -> list[float]:
    loaded = fasttext.load_model(str(model.path))
    found = []
    for text in texts:
        labels, probabilities = loaded.predict(text.replace("\n", " "), k=-1)
        found.append(float(dict(zip(labels, probabilities, strict=True))[f"__label__{model.positive}"]) - 1e-5)
    return found


def test_the_models_have_the_published_labels_and_are_small(models: DemoModels) -> None:
    for model, positive in ((models.quality, "hq"), (models.technology, "technology")):
        assert model.positive == positive
        assert sorted(fasttext.load_model(str(model.path)).labels) == sorted([f"__label__{positive}", "__label__cc"])
        assert model.path.stat().st_size < 5_000_000
        assert not list(model.path.parent.glob(".*"))
    assert NEGATIVE == "cc"


def test_the_labels_are_learnable(models: DemoModels) -> None:
    for model, better_than in ((models.quality, 0.92), (models.technology, 0.8)):
        held_out = model.by_label
        majority = max(held_out.positives, held_out.documents - held_out.positives) / held_out.documents
        assert held_out.accuracy > max(majority, better_than)
        assert min(held_out.precision, held_out.recall) > 0.6


def test_a_threshold_keeps_what_its_quantile_says(sample: Path, models: DemoModels) -> None:
    texts = [row["text"] for row in rows(sample)]
    for model in (models.quality, models.technology):
        found = sorted(scores(model, texts))
        assert sum(score > model.threshold for score in found) / len(found) == pytest.approx(
            1 - model.quantile, abs=0.01
        )
        assert list(model.quantiles) == [tenth / 10 for tenth in range(1, 10)]
        assert list(model.quantiles.values()) == sorted(model.quantiles.values())
        assert model.quantiles[0.5] == pytest.approx(found[len(found) // 2], abs=1e-6)


def test_held_out_documents_are_counted_as_an_oracle_counts_them(sample: Path, models: DemoModels) -> None:
    import hashlib

    documents = rows(sample)
    chosen = [row for row in documents if int(hashlib.sha256(row["text"].encode()).hexdigest()[:8], 16) < 0.2 * 2**32]
    texts = [row["text"] for row in chosen]
    for model, labels in (
        (models.quality, [row["kind"] in {"description", "licence", "text", "html"} for row in chosen]),
        (models.technology, [row["package"] in TECHNOLOGY_PACKAGES for row in chosen]),
    ):
        assert model.trained_documents == len(documents) - len(chosen)
        for threshold, found in ((0.5, model.by_label), (model.threshold, model.by_threshold)):
            verdicts = [score > threshold for score in scores(model, texts)]
            right = [label for label, verdict in zip(labels, verdicts, strict=True) if label and verdict]
            assert (found.documents, found.positives) == (len(chosen), sum(labels))
            assert found.precision == len(right) / sum(verdicts)
            assert found.recall == len(right) / sum(labels)
            equal = [label == verdict for label, verdict in zip(labels, verdicts, strict=True)]
            assert found.accuracy == sum(equal) / len(chosen)


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
        assert (tmp_path / "other" / model.path.name).read_bytes() == model.path.read_bytes()


def test_a_text_is_one_line_as_in_the_published_models() -> None:
    assert one_line("a\nb\r\nc") == "a b\r c"


def test_what_is_no_sample_gets_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no Parquet file"):
        train_demo_models(tmp_path, tmp_path)
    path = tmp_path / "sample-00000.parquet"
    pq.write_table(pa.table({"text": ["a"], "kind": ["text"]}), path)
    with pytest.raises(InputError, match="column package is missing"):
        train_demo_models(tmp_path, tmp_path)
    pq.write_table(pa.table({"text": ["a"] * 9, "kind": ["text"] * 9, "package": ["ray"] * 9}), path)
    with pytest.raises(InputError, match="one label only"):
        train_demo_models(tmp_path, tmp_path)
    path.write_bytes(b"PAR1 truncated")
    with pytest.raises(InputError, match="magic bytes not found"):
        train_demo_models(tmp_path, tmp_path)
