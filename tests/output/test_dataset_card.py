"""The front matter of a dataset card: `datasets` loads `data/` and nothing else, whatever shards are called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import gneiss
from gneiss.errors import RecipeError
from gneiss.recipe.recipe import Recipe
from gneiss.recipe.yaml_text import read_yaml
from tests import runs

NAMES = (
    "test-00000",
    "validation/part",
    "train/test/dev",
    "annotations/base/x",
    "a [b]*? {c}",
    "eval: - 'x'\"#",
    "_k=1/x",
)


def recipe(card: dict[str, Any] | None = None) -> Recipe:
    phases = [{"name": "only", "rules": {"long_enough": "text_chars > 3"}}]
    given = {"name": "short", "budgets": {"documents": 1}, "phases": phases, **({"card": card} if card else {})}
    return Recipe.parse(json.dumps(given))


def write(folder: Path, names: tuple[str, ...] = NAMES, bad: bool = False) -> Path:
    for name in names:
        texts = ["long", "hi", *([None] if bad else [])]
        path = folder / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"id": [f"{name} {i}" for i in range(len(texts))], "text": texts}), path)
    return folder


def front_matter(folder: Path) -> dict[str, Any]:
    _, front, rest = (folder / "README.md").read_text().split("---\n", 2)
    assert rest.lstrip().startswith("# ")
    found: dict[str, Any] = read_yaml(front)
    return found


def loaded(folder: Path, cache: Path, name: str | None = None) -> Any:
    """What `datasets` loads of a folder; it is told by nothing but the card which files to take."""
    import datasets

    return datasets.load_dataset(str(folder), name, cache_dir=str(cache), download_mode="force_redownload")


@pytest.mark.slow
@pytest.mark.parametrize("names", [NAMES, ("test",), (".hidden/__x=1/y", "a"), ("__x=1/y",)])
def test_datasets_loads_the_kept_documents_as_one_split(
    tmp_path: Path, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    write(tmp_path / "in", names, bad=True)
    hidden = any(name.startswith((".", "__")) for name in names)
    source = tmp_path / "in" / ".hidden/*/*.parquet" if names[0].startswith(".") else tmp_path / "in"
    out = tmp_path / "out"
    gneiss.run(recipe(), source, out, backend=runs.InThisProcess())
    found = loaded(out, tmp_path / "cache")
    assert list(found) == ["train"]
    expected = [f"{name} 0" for name in names if name != "a" or not hidden]
    assert sorted(found["train"]["id"]) == sorted(expected)
    annotations = loaded(out, tmp_path / "cache", "annotations")["train"]
    assert sorted(annotations["status"]) == sorted(["kept", "dropped", "quarantined"] * len(expected))
    assert list(loaded(out, tmp_path / "cache", "quarantine")) == ["train"]


def test_the_front_matter_says_what_is_known(tmp_path: Path) -> None:
    write(tmp_path / "in", ("a",))
    gneiss.run(recipe(), tmp_path / "in", tmp_path / "out", backend=runs.InThisProcess())
    assert front_matter(tmp_path / "out") == {
        "size_categories": ["n<1K"],
        "tags": ["gneiss"],
        "configs": [
            {"config_name": "default", "data_files": [{"split": "train", "path": "data/**"}]},
            {"config_name": "annotations", "data_files": [{"split": "train", "path": "annotations/base/**"}]},
        ],
    }


def test_the_card_of_a_recipe_is_in_the_front_matter_and_changes_no_run(tmp_path: Path) -> None:
    write(tmp_path / "in", ("a",))
    gneiss.run(recipe(), tmp_path / "in", tmp_path / "out", backend=runs.InThisProcess())
    said = recipe({"license": "odc-by", "language": ["no", "en"]})
    finished = gneiss.run(said, tmp_path / "in", tmp_path / "out", backend=runs.InThisProcess())
    assert finished.finished_before == 1
    found = front_matter(tmp_path / "out")
    assert (found["license"], found["language"]) == ("odc-by", ["no", "en"])
    assert finished.recipe.card == said.card
    assert "card" not in recipe().canonical()


@pytest.mark.parametrize("card", [{"license": "Apache 2.0\n"}, {"language": ["English"]}, {"licence": "mit"}])
def test_a_card_that_the_hub_would_not_know_is_refused(card: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="card"):
        recipe(card)
