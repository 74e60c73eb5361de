"""From WARC files to a GneissWeb-quality corpus: every record accounted for, all the way, and the same bytes again."""

from __future__ import annotations

import html
import json
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

import gneiss
from gneiss.extraction.job import Extraction, extract
from gneiss.extraction.sandbox import Limits
from gneiss.output.finished_run import FinishedRun
from gneiss.recipe.recipe import Recipe
from tests import runs
from tests.extraction import archives, hostile
from tests.pipelines.test_gneissweb import MODELS

pytestmark = pytest.mark.processes

PAGES = 60
EXTRACTION: Any = {
    "extractor": hostile.Attacked(),
    "limits": Limits(deadline_seconds=0.5, memory_bytes=400_000_000),
    "max_quarantined": 1,
}


def descriptions() -> list[str]:
    """Prose of what is installed: licences and descriptions of packages, in order of their names."""
    texts = {}
    for distribution in distributions():
        for file in distribution.files or []:
            if (
                file.name.upper().startswith(("LICENSE", "NOTICE", "COPYING"))
                and (path := Path(str(file.locate()))).is_file()
            ):
                texts[f"{distribution.name} {file}"] = path.read_text("utf-8", errors="replace")
        texts[f"{distribution.name}"] = str(distribution.metadata.get_payload() or "")
    return [texts[name] for name in sorted(texts) if 600 < len(texts[name]) < 20_000]


def as_page(text: str) -> bytes:
    paragraphs = "".join(f"<p>{html.escape(part)}</p>\n" for part in text.split("\n\n"))
    return f"<html><head><title>A page</title></head><body><main>{paragraphs}</main></body></html>".encode()


@pytest.fixture(scope="module")
def crawl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The crawl with all kinds of trouble, and archives of prose with copies and near-copies in others of them."""
    folder = tmp_path_factory.mktemp("commoncrawl")
    archives.write_crawl(folder, archives.documentation_pages())
    (folder / "d.warc.gz").unlink()  # the one that cannot be read at all
    prose = descriptions()[:PAGES]
    assert len(prose) == PAGES
    spam = [text.replace(".", " {") for text in prose[:6]]  # what the heuristics drop, with the words of others
    for number, texts in enumerate(
        (spam + prose[:30], prose[20:50], [f"Seen again. {text}" for text in prose[:PAGES:2]])
    ):
        responses = [archives.response(as_page(text), 1000 * (number + 1) + i) for i, text in enumerate(texts)]
        (folder / f"p{number}.warc.gz").write_bytes(b"".join(map(archives.gz, responses)))
    return folder


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """The packaged recipe with small models and another tokenizer, thresholds that both answers meet, and no more."""
    folder = tmp_path_factory.mktemp("models")
    written = Recipe.load("commoncrawl-to-gneissweb").canonical()
    heuristics, _, gneissweb = written["phases"]
    fasttext_models, _, tokens = (next(iter(entry.values())) for entry in gneissweb["annotate"])
    for name, model in fasttext_models["models"].items():
        model["source"] = str(folder / f"{name}.bin")
        runs.train(folder / f"{name}.bin", labels=(MODELS[name][0], "cc"))
    tokens["tokenizer"] = "builtin:cl100k_base"
    gneissweb["dedup"] |= {"tokenizer": "builtin:cl100k_base"}
    gneissweb["rules"]["quality"] = "dclm > 0.5 OR cosmo > 0.5"
    runs.train(folder / "language.bin", labels=("en", "xx"))
    heuristics["annotate"][0]["language"]["model"] = str(folder / "language.bin")
    heuristics["rules"]["english"] = "language_score > 0"
    written["budgets"]["documents"] = 0.01
    return Recipe.parse(yaml.safe_dump(written, sort_keys=False))


@pytest.fixture(scope="module")
def done(crawl: Path, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> tuple[Extraction, FinishedRun]:
    folder = tmp_path_factory.mktemp("done")
    extracted = extract(crawl, folder / "extracted", workers=1, **EXTRACTION)
    curated = gneiss.run(recipe, folder / "extracted/data", folder / "curated", backend=runs.InThisProcess())
    return extracted, curated


def test_every_record_is_accounted_for(done: tuple[Extraction, FinishedRun]) -> None:
    extracted, curated = done
    assert extracted.records == extracted.documents + extracted.skipped.total() + extracted.quarantined.total()
    assert not extracted.unreadable
    assert extracted.skipped["not HTML"] == 1
    reasons = ("deadline", "memory", "crash", "extractor failed", "cannot be decoded", "damaged archive", "cut short")
    assert set(extracted.quarantined) == set(reasons)
    counts = curated.statistics.counts
    assert counts["rows"] == extracted.documents == counts["kept"] + counts["dropped"] + counts["quarantined"]
    assert counts["quarantined"] == 0
    ids = runs.annotations(curated.folder)["id"].to_pylist()
    given = [row for path in sorted(Path(extracted.output / "data").rglob("*.parquet")) for row in read(path, "id")]
    assert ids == given
    kept = [row for path in sorted(Path(curated.folder / "data").rglob("*.parquet")) for row in read(path, "id")]
    assert kept == [
        id_
        for id_, status in zip(ids, runs.annotations(curated.folder)["status"].to_pylist(), strict=True)
        if status == "kept"
    ]
    assert len(kept) == counts["kept"] > 5


def read(path: Path, column: str) -> list[Any]:
    return pq.read_table(path)[column].to_pylist()


def test_each_phase_sees_what_the_one_before_kept(done: tuple[Extraction, FinishedRun]) -> None:
    found = runs.annotations(done[1].folder)
    for phase, column in (("heuristics", "near_first"), ("near_duplicates", "dclm")):
        dropped = found.filter(pc.equal(found["dropped_in"], phase))
        assert dropped.num_rows > 5, phase
        assert dropped[column].null_count == dropped.num_rows, (
            f"nothing of a later phase is known of what {phase} dropped"
        )
    last = found.filter(pc.or_(pc.equal(found["status"], "kept"), pc.equal(found["dropped_in"], "gneissweb")))
    assert last["dclm"].null_count == 0


def test_no_first_copy_sits_in_a_document_that_was_dropped(done: tuple[Extraction, FinishedRun]) -> None:
    """Of every cluster the first that reached the phase stays, and it alone."""
    found = runs.annotations(done[1].folder)
    reached = found.filter(pc.is_valid(found["near_first"]))
    clusters: dict[str, list[bool]] = {}
    for name, is_first, phase in zip(
        *(reached[c].to_pylist() for c in ("near_cluster", "near_first", "dropped_in")), strict=True
    ):
        if name is not None:
            clusters.setdefault(name, []).append(phase != "near_duplicates")
            assert is_first == (phase != "near_duplicates") or phase is None
    assert len(clusters) > 5
    assert all(stays[0] and not any(stays[1:]) for stays in clusters.values())


@pytest.mark.exhaustive
def test_the_same_bytes_with_other_workers(
    done: tuple[Extraction, FinishedRun], crawl: Path, recipe: Recipe, tmp_path: Path
) -> None:
    extracted, curated = done
    again = extract(crawl, tmp_path / "extracted", workers=2, **EXTRACTION)
    assert runs.promised(again.output) == runs.promised(extracted.output)
    gneiss.run(recipe, tmp_path / "extracted/data", tmp_path / "curated", workers=2, backend="local")
    assert runs.promised(tmp_path / "curated") == runs.promised(curated.folder)


def test_what_the_summary_says_is_what_lies_there(done: tuple[Extraction, FinishedRun]) -> None:
    told = json.loads((done[0].output / "_gneiss/extraction.json").read())
    for folder, expected in (("skipped", told["skipped"]), ("quarantine", told["quarantined"])):
        tables = [pq.read_table(path) for path in sorted(Path(done[0].output / folder).rglob("*.parquet"))]
        reasons = pa.concat_tables(tables)["reason"].to_pylist()
        assert {reason: reasons.count(reason) for reason in reasons} == expected
