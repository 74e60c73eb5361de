"""What a run asks of an object store: the requests that docs/stores.md states, and no more."""

from __future__ import annotations

import io
import random
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import gneiss
from gneiss.store import ranged
from gneiss.store.place import Place, place_of
from tests import runs
from tests.store.faults import Proxy

pytestmark = pytest.mark.processes

RECIPE = """
name: requests
phases: [{name: only, annotate: [readability], rules: {readable: eflaw < 30}}]
budgets: {documents: 0.5}
"""
#: Row groups of the input's files, and the size of their texts.
GROUPS, ROWS, TEXT_BYTES = 4, 100, 8000
#: Requests of a whole run that do not grow with its shards, with those of a few seconds more for the ledger.
ONCE = 36


@pytest.fixture
def crawl(s3_folder: str) -> Place:
    """Three shards of four row groups, one of a document, and one with a document that is quarantined."""
    folder, draw = place_of(s3_folder) / "input", random.Random(0)
    texts = [draw.randbytes(TEXT_BYTES // 2).hex() for _ in range(GROUPS * ROWS)]
    for name in "abc":
        put(folder / f"{name}.parquet", texts)
    put(folder / "small.parquet", ["A document."])
    put(folder / "worse.parquet", ["A document.", None])
    return folder


def put(place: Place, texts: list[str | None] | list[str]) -> None:
    sink, names = io.BytesIO(), [f"{number}" for number in range(len(texts))]
    table = pa.table({"id": names, "text": texts, "label": names})
    pq.write_table(table, sink, row_group_size=ROWS, compression=None)
    with place.create() as file:
        file.write(sink.getvalue())


@pytest.mark.parametrize("is_large", [False, True], ids=["small", "large"])
def test_a_run_asks_for_no_more_than_is_stated(
    proxy: Proxy, crawl: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_large: bool
) -> None:
    if is_large:
        monkeypatch.setattr(ranged, "WHOLE_BYTES", 1 << 20)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    output, before = crawl.parent / "output", len(proxy.requests)
    done = gneiss.run(tmp_path / "recipe.yaml", crawl, output, backend=runs.InThisProcess())
    assert (done.statistics.counts["rows"], done.statistics.counts["quarantined"]) == (3 * GROUPS * ROWS + 3, 1)
    of_shards, once = dict[str, Counter[str]](), Counter[str]()
    for request in proxy.requests[before:]:
        name = request.key.rpartition("/")[2].partition(".")[0]
        if request.key.endswith((".parquet", f"/statistics/{name}.json")):
            of_shards.setdefault(name, Counter())[request.operation] += 1
        else:
            once[request.operation] += 1
    small = {
        "GetObject": 3,
        "PutObject": 3,
    }  # in the plan, by the worker, its statistics; data, annotations, statistics
    large = {"GetObject": 3 + GROUPS, "PutObject": 3}
    assert of_shards == {
        **dict.fromkeys("abc", large if is_large else small), "small": small, "worse": {"GetObject": 3, "PutObject": 4}
    }  # fmt: skip
    assert once.total() <= ONCE, once
