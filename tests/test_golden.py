"""The bytes of an output stay what they were: recipes over a small corpus, hashed file by file against golden.json.

A change of these hashes is a change of the product: write the new ones with `python -m tests.test_golden`, and say in
the changelog why. Of a Parquet file the pages and the schema count; its footer holds the receipt, which is the
ledger's. They hold for the locked versions of the libraries that shape bytes, on x86-64.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from packaging.requirements import Requirement

import gneiss
from gneiss.extraction.job import extract
from gneiss.input.plan import BYTE_SHAPING
from gneiss.layers.weights import write_weights
from gneiss.recipe.recipe import Recipe
from tests import runs
from tests.extraction import archives

pytestmark = pytest.mark.processes

GOLDEN = Path(__file__).with_name("golden.json")
LOCK = GOLDEN.parent.parent / "requirements.lock"
LIBRARIES = (*BYTE_SHAPING, "endec", "resiliparse", "trafilatura")
RECIPE_NAMES = ("shard", "corpus-bytes", "corpus-tokens", "group", "crawl", "from-pages")
NOT_PROMISED = ("_gneiss/ledger/", "_gneiss/run.json", "_gneiss/lock", "_gneiss/logs/", "_gneiss/layers/", "README.md")


def write_inputs(folder: Path) -> None:
    """Small models, shards with every kind of trouble, and a crawl of their texts."""
    for name, labels in {"quality": ("hq", "cc"), "science": ("science", "cc"), "language": ("en", "xx")}.items():
        runs.train(folder / f"{name}.bin", labels)
    for number, name in enumerate(("a", "deep/b", "c", "d")):
        runs.write_corpus(folder / f"input/{name}.parquet", runs.documents(50, seed=number), row_group_size=20)
    texts = [text for text in runs.documents(60, seed=9) if text and b"\xff" not in text]
    pages = [archives.response(b"<html><body><p>" + text + b"</p></body></html>", i) for i, text in enumerate(texts)]
    (folder / "crawl").mkdir()
    (folder / "crawl/a.warc.gz").write_bytes(b"".join(map(archives.gz, pages[:30])) + b"GARBAGE" * 5)
    (folder / "crawl/b.warc").write_bytes(b"".join(pages[20:]))


def recipe_of(name: str, folder: Path) -> dict[str, Any]:
    """A recipe as plain values; models lie in the folder."""
    if name in ("crawl", "from-pages"):
        recipe = Recipe.load("commoncrawl-to-gneissweb").canonical()
        heuristics, _, last = recipe["phases"]
        heuristics["annotate"][0]["language"]["model"] = str(folder / "language.bin")
        heuristics["rules"] |= {
            "english": "language_score > 0",
            "gopher_length": "gopher_words > 5",
            "gopher_stop_words": "gopher_distinct_stop_words >= 0",
            "gopher_ngrams_differ": "repeated_5gram_char_fraction <= 0.9",
            "gopher_no_top_ngram": "top_2gram_char_fraction <= 0.9",
            "c4_enough_sentences": "c4_sentences >= 1",
            "fineweb_lines_differ": "fineweb_line_feeds_per_word < 2",
            "fineweb_punctuated": "fineweb_short_line_fraction >= 0",
        }
    else:
        recipe = Recipe.load("gneissweb-bytes").canonical()
        recipe["shard_max_bytes"] = 12_000
        (last,) = recipe["phases"]
        last["dedup"] = {
            "shard": {"min_length": 80},
            "corpus-bytes": {"min_length": 60, "scope": "corpus", "policy": "union", "boundary": "word"},
            "corpus-tokens": {"min_length": 20, "unit": "tokens", "scope": "corpus"},
            "group": {"min_length": 80, "scope": "group", "group_by": "^.", "group_max_bytes": 40_000},
        }[name]
    models = next(iter(last["annotate"][0].values()))["models"]
    for label, model in models.items():
        model["source"] = str(folder / f"{'quality' if label in ('dclm', 'cosmo') else 'science'}.bin")
        model["label"] = "hq" if label in ("dclm", "cosmo") else "science"
    last["annotate"][2]["tokens"]["tokenizer"] = "builtin:cl100k_base"
    if last["dedup"].get("unit") == "tokens":
        last["dedup"]["tokenizer"] = "builtin:cl100k_base"
    if name != "shard":
        last["rules"] |= {"quality": "dclm > 0.5", "tokens_normal": "tokens_per_char BETWEEN 0.1 AND 0.4"}
    return {**recipe, "budgets": {"documents": 1}}


def hashes(folder: Path) -> dict[str, dict[str, str]]:
    """Recipe → file → hash, of runs in a folder."""
    write_inputs(folder)
    found: dict[str, dict[str, str]] = {}
    for name in RECIPE_NAMES:
        source, output = folder / "input", folder / "outputs" / name
        if name == "from-pages":
            source = folder / "outputs/extracted"
            here = runs.InThisProcess()
            extract(folder / "crawl", source, extractor="resiliparse", max_quarantined=1, backend=here)
            found["extracted"] = promised(source)
            source = source / "data"
        recipe = Recipe.parse(yaml.safe_dump(recipe_of(name, folder), sort_keys=False))
        gneiss.run(recipe, source, output, backend=runs.InThisProcess())
        if name == "shard":
            write_weights(output, quality="dclm")
        found[name] = promised(output, str(folder))
    return found


def promised(output: Path, folder: str = "\0") -> dict[str, str]:
    """File → hash of what is promised of it; the folder that models lie in counts as `.`."""
    files = {name: path for name, path in runs.files(output).items() if not name.startswith(NOT_PROMISED)}
    return {name: _hash(path, folder) for name, path in files.items()}


def _hash(path: Path, folder: str) -> str:
    content = path.read_bytes()
    if path.suffix == ".parquet":
        footer = int.from_bytes(content[-8:-4], "little") + 8
        schema = pq.read_schema(path).remove_metadata()
        return f"{_sha256(content[:-footer])} {_sha256(str(schema).encode())[:8]}"
    return _sha256(content.replace(folder.encode(), b"."))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def locked() -> dict[str, str]:
    """The versions in requirements.lock of the libraries that shape bytes."""
    lines = map(Requirement, LOCK.read_text("utf-8").splitlines())
    versions = {line.name: str(line.specifier)[2:] for line in lines if line.marker is None or line.marker.evaluate()}
    return {name: versions[name] for name in LIBRARIES}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="bytes are promised for x86-64")
def test_the_bytes_of_an_output_are_what_they_were(tmp_path: Path) -> None:
    golden = json.loads(GOLDEN.read_text())
    installed = {name: version(name) for name in LIBRARIES}
    if installed != locked():
        pytest.skip("other versions of libraries that shape bytes than those of requirements.lock")
    assert golden["versions"] == installed, "write the hashes anew for these versions"
    found = hashes(tmp_path)
    for name, files in golden["hashes"].items():
        assert found[name] == files, name
    assert found.keys() == golden["hashes"].keys()


def test_the_golden_corpus_has_what_it_is_for() -> None:
    """Documents that are kept, dropped, quarantined and cut, in every recipe: else the hashes say little."""
    golden = json.loads(GOLDEN.read_text())
    for name in RECIPE_NAMES:
        counts = golden["counts"][name]
        troubled = ("kept", "dropped") if name == "from-pages" else ("kept", "dropped", "quarantined", "dedup_bytes")
        assert min(counts[what] for what in troubled) > 0, name


def main() -> None:
    """Write golden.json anew."""
    with tempfile.TemporaryDirectory() as folder:
        found = hashes(Path(folder))
        counts = {
            name: json.loads((Path(folder) / "outputs" / name / "_gneiss/statistics.json").read_text())["statistics"][
                "counts"
            ]
            for name in RECIPE_NAMES
        }
    golden = {"versions": {name: version(name) for name in LIBRARIES}, "counts": counts, "hashes": found}
    GOLDEN.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
