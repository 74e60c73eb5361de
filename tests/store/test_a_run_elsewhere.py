"""A run, and all that is made of it, over a store that is none of a file system: the same bytes as on a disk."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import gneiss
from gneiss.errors import InputError, OutputError
from gneiss.export.hf_datasets import export_hf
from gneiss.extraction.job import extract
from gneiss.input import plan
from gneiss.layers.loss_log import LossLog
from gneiss.layers.losses import consolidate
from gneiss.layers.weights import write_weights
from gneiss.loader.packed_files import pack, packed
from gneiss.loader.packing import sequences
from gneiss.loader.reader import documents
from gneiss.mixture import plan_mixture
from gneiss.output.finished_run import open_run
from gneiss.output.verification import verify
from gneiss.pipelines.reshard import reshard
from gneiss.store import place as places
from gneiss.store.place import STORES, Place, place_of
from tests import runs
from tests.extraction import archives
from tests.store.memory import MemoryStore
from tests.support import recipe_of

RECIPE = """
- name: first
  annotate: [readability]
  rules: {readable: eflaw < 30}
- name: only
  dedup: {min_length: 60, scope: corpus}
  annotate: [{tokens: {tokenizer: "builtin:cl100k_base"}}]
  rules: {tokens_normal: tokens_per_char < 2}
"""
NOT_PROMISED = ("_gneiss/ledger/", "_gneiss/run.json", "_gneiss/lock", "README.md")


@pytest.fixture(params=["memory", pytest.param("s3", marks=pytest.mark.processes)])
def bucket(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A folder of a store of one's own, with the line that it takes, and of S3."""
    if request.param == "s3":
        return place_of(request.getfixturevalue("s3_folder"))
    monkeypatch.setattr(places, "STORES", (*STORES, MemoryStore()))
    return place_of("memory://bucket")


@pytest.fixture
def disk(tmp_path: Path) -> Place:
    """A folder with an input, and a crawl."""
    for number, name in enumerate(("a", "deep/b")):
        runs.write_corpus(tmp_path / f"input/{name}.parquet", runs.documents(40, seed=number))
    (tmp_path / "crawl").mkdir()
    texts = [text for text in runs.documents(30, seed=9) if text and b"\xff" not in text]
    pages = [archives.response(b"<html><body><p>" + text + b"</p></body></html>", i) for i, text in enumerate(texts)]
    (tmp_path / "crawl/a.warc.gz").write_bytes(b"".join(map(archives.gz, pages)))
    return place_of(tmp_path)


def copy(source: Place, target: Place) -> Place:
    for file in source.files():
        with (target / file.name).create() as copied:
            copied.write((source / file.name).read())
    return target


def contents(folder: Place) -> dict[str, bytes]:
    names = (file.name for file in folder.files() if not any(name in file.name for name in NOT_PROMISED))
    return {name: (folder / name).read() for name in names}


def everything(source: Place, output: Place) -> None:
    """A run, its layers, packed sequences, exports, and other decisions."""
    recipe = recipe_of(RECIPE, budgets="{documents: 1}", shard_max_bytes=12_000)
    gneiss.run(recipe, source, output / "curated", backend=runs.InThisProcess())
    write_weights(output / "curated")
    kept = documents(output / "curated")
    pack(sequences(kept, "builtin:cl100k_base", 64), output / "packed")
    with LossLog(output / "losses") as log:
        batch = list(packed(output / "packed"))[:4]
        log.add(1, batch, [[0.5] * 64] * 4)
    consolidate(output / "curated", [output / "losses"])
    export_hf(kept, output / "exported")
    for seed in (None, 1):
        to = output / f"resharded-{seed}"
        reshard(output / "curated", to, shard_bytes=9_000, shuffle_seed=seed, backend=runs.InThisProcess())
    changes = {"phases.only.annotate": [{"gopher_quality": {}}], "phases.only.rules": {"long": "gopher_words > 20"}}
    changed = recipe.changed(changes)
    gneiss.update_annotations(output / "curated", changed, backend=runs.InThisProcess())
    gneiss.decide(changed, output / "curated", output / "again", backend=runs.InThisProcess())


@pytest.mark.slow
def test_a_run_and_all_that_follows_have_the_bytes_that_they_have_on_a_disk(
    bucket: Place, disk: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "_fingerprint", lambda _: "ETags differ, and with them the id of a run at corpus scope")
    copy(disk / "input", bucket / "input")
    everything(disk / "input", disk / "out")
    everything(bucket / "input", bucket / "out")
    assert contents(bucket / "out") == contents(disk / "out")
    assert (bucket / "out/curated/_gneiss/layers/updated.json").find()
    expected = {
        "curated/data/deep/b",
        "again/annotations/base/a",
        "exported/train",
        "resharded-None/data/train",
        "resharded-1/data/train",
    }
    assert expected <= {re.sub(r"\.g00000.parquet$|-0000.*", "", name) for name in contents(bucket / "out")}
    assert not any(name.startswith("curated/_gneiss/exchange/") for name in contents(bucket / "out"))
    assert [d.id for d in documents(bucket / "out/curated")] == [d.id for d in documents(disk / "out/curated")]


@pytest.mark.parametrize(
    "bucket",
    ["memory", pytest.param("s3", marks=[pytest.mark.processes, pytest.mark.exhaustive])],
    indirect=True,
)
@pytest.mark.slow
def test_a_run_elsewhere_is_resumed_and_refused_as_on_a_disk(bucket: Place, disk: Place) -> None:
    recipe = recipe_of(RECIPE, budgets="{documents: 1}")
    copy(disk / "input", bucket / "input")
    here = runs.InThisProcess()
    first = gneiss.run(recipe, bucket / "input", bucket / "out", backend=here)
    assert first.finished_before == 0
    assert gneiss.run(recipe, str(bucket / "input"), str(bucket / "out"), backend=here).finished_before == 2
    (bucket / "out/data/a.parquet").delete()
    assert gneiss.run(recipe, bucket / "input", bucket / "out", backend=here).finished_before == 1
    assert open_run(str(bucket / "out")).documents == first.documents
    with pytest.raises(OutputError, match=r"//.*/input/out: the output and the input .* overlap"):
        gneiss.run(recipe, bucket / "input", bucket / "input/out", backend=here)
    with pytest.raises(InputError, match=r"//.*/nothing: no such file or directory"):
        gneiss.run(recipe, bucket / "nothing", bucket / "other", backend=here)
    with (bucket / "out/_gneiss/lock").lock(), pytest.raises(OutputError, match="another run is writing here"):
        gneiss.run(recipe, bucket / "input", bucket / "out", backend=here)


@pytest.mark.slow
def test_a_mixture_of_a_run_here_and_one_elsewhere_has_the_bytes_that_it_has_on_a_disk(
    bucket: Place, disk: Place
) -> None:
    recipe = recipe_of("  - {name: only, annotate: [tokens]}", budgets="{documents: 1}", shard_max_bytes=12_000)
    gneiss.run(recipe, disk / "input", disk / "curated", backend=runs.InThisProcess())
    copy(disk / "curated", bucket / "curated")
    for other in (disk, bucket):
        mixture = plan_mixture({"here": disk / "curated", "there": other / "curated"}, 9_000)
        mixture.write(other / "mixed", shard_bytes=4_000, backend=runs.InThisProcess())
    assert contents(bucket / "mixed") == contents(disk / "mixed")
    assert verify(bucket / "mixed").problems == ()
    assert open_run(str(bucket / "mixed")).documents == open_run(disk / "mixed").documents > 60


@pytest.mark.processes
def test_an_extraction_elsewhere_has_the_bytes_that_it_has_on_a_disk(bucket: Place, disk: Place) -> None:
    copy(disk / "crawl", bucket / "crawl")
    for place in (disk, bucket):
        extract(place / "crawl", place / "out", extractor="resiliparse", backend=runs.InThisProcess())
    found, expected = contents(bucket / "out"), contents(disk / "out")
    assert "data/a-00000.parquet" in found
    # its footer has the receipt, in which an archive is known by its ETag where that proves its bytes
    skipped = "skipped/a.parquet"
    assert pq.read_table(pa.BufferReader(found.pop(skipped))).equals(
        pq.read_table(pa.BufferReader(expected.pop(skipped)))
    )
    assert found == expected
