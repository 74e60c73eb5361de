"""The reader: every document once with its own annotations, whatever the ranks and workers; states; no torch."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gneiss import run
from gneiss.errors import InputError
from gneiss.loader.order import Share
from gneiss.loader.reader import Document, documents
from gneiss.recipe.recipe import Recipe
from tests import runs

Copy = Callable[[Path], Path]
COLUMNS = ("log_prior", "prose", "url")


def fields_of(document: Document) -> tuple[Any, ...]:
    return (document.index, document.shard, document.row, document.id, document.text, *document.values.values())


@pytest.fixture(scope="module")
def slowly_joined(released: Path) -> dict[int, tuple[Any, ...]]:
    """Dense index → what a document should be, by the plainest join there is."""
    found = {}
    folder = released / "annotations/base"
    for path in sorted(folder.rglob("*.parquet"), key=lambda p: p.relative_to(folder).as_posix().encode()):
        name = path.relative_to(folder)
        base, layer = (
            pq.read_table(path).to_pylist(),
            pq.read_table(released / "annotations/weights" / name).to_pylist(),
        )
        data = iter(pq.read_table(released / "data" / name).to_pylist())
        for row, weight in zip(base, layer, strict=True):
            if row["status"] == "kept":
                document = next(data)
                values = (weight["log_prior"], row["prose"], document["url"])
                shard = name.as_posix().removesuffix(".parquet")
                found[len(found)] = (len(found), shard, row["row"], document["id"], document["text"], *values)
    return found


@pytest.mark.parametrize("block", [1, 7, 50, 1000])
@pytest.mark.parametrize("shuffled", [True, False])
def test_every_document_comes_once_with_its_own_annotations(
    block: int, shuffled: bool, released: Path, slowly_joined: dict[int, tuple[Any, ...]]
) -> None:
    found = list(documents(released, columns=COLUMNS, block_documents=block, shuffled=shuffled))
    assert {document.index: fields_of(document) for document in found} == slowly_joined
    assert len(found) == len(slowly_joined) == 132
    order = [document.index for document in found]
    assert (order == sorted(order)) is not shuffled


@pytest.mark.parametrize(("ranks", "workers"), [(1, 4), (2, 1), (3, 2), (7, 3), (140, 1)])
@pytest.mark.slow
def test_ranks_and_workers_share_one_order(ranks: int, workers: int, released: Path) -> None:
    whole = documents(released, block_documents=20, seed=3)
    consumers = [(rank, worker) for rank in range(ranks) for worker in range(workers)]
    parts = [
        [document.index for document in replace(whole, share=Share(rank, ranks)).of_worker(worker, workers)]
        for rank, worker in consumers
    ]
    assert [index for part in parts for index in part] == [document.index for document in whole]
    even = [replace(whole, share=Share(rank, ranks, drop_uneven=True)) for rank in range(ranks)]
    assert {len(source) for source in even} == {132 // ranks}
    last = documents(released, rank=ranks - 1, world_size=ranks, block_documents=20, seed=3).of_worker(
        workers - 1, workers
    )
    assert [document.index for document in last] == parts[-1]


def test_epochs_follow_each_other_each_in_an_order_of_its_own(released: Path) -> None:
    twice = [(document.epoch, document.index) for document in documents(released, epoch=4, epochs=2)]
    assert [epoch for epoch, _ in twice] == [4] * 132 + [5] * 132
    assert [index for epoch, index in twice if epoch == 5] == [d.index for d in documents(released, epoch=5)]
    assert [index for epoch, index in twice if epoch == 4] != [index for epoch, index in twice if epoch == 5]
    endless = iter(documents(released, epochs=None))
    assert [next(endless).epoch for _ in range(300)][-1] == 2


@pytest.mark.parametrize("at", [0, 1, 19, 20, 65, 66, 67, 131])
def test_a_stream_goes_on_where_its_state_was_saved(at: int, released: Path) -> None:
    source = documents(released, columns=COLUMNS, block_documents=20, epochs=2, rank=1, world_size=2)
    stream = iter(source)
    for _ in range(at):
        next(stream)
    state = json.loads(json.dumps(stream.state_dict()))
    other = iter(source)
    other.load_state_dict(state)
    assert [fields_of(document) for document in other] == [fields_of(document) for document in stream]
    assert list(other) == []


def test_a_state_of_something_else_is_refused(released: Path) -> None:
    source = documents(released, rank=1, world_size=2)
    state = iter(source).state_dict()
    for other in (
        documents(released, rank=0, world_size=2),
        documents(released, rank=1, world_size=3),
        documents(released, rank=1, world_size=2, seed=1),
        replace(source, shuffled=False),
        source.of_worker(0, 2),
    ):
        with pytest.raises(InputError, match="it was saved with"):
            iter(other).load_state_dict(state)
    with pytest.raises(InputError, match="no such place"):
        iter(source).load_state_dict({**state, "position": 1000})


def rewritten(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.read_table(path)), path)


def other_value(name: str, row: int, value: str) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        values = table[name].to_pylist()
        values[row] = value
        index = table.schema.get_field_index(name)
        return table.set_column(index, table.schema.field(name), pa.array(values, table.schema.field(name).type))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_value("id", 3, "another"), "the id of row 4 is .* but another here"),
        (other_value("text", 3, "another"), "the text .* of row 4 is"),
        (lambda table: table.slice(1), "expected .* documents, as annotations/base has"),
        (lambda table: table.drop_columns(["id"]), "no column 'id'"),
    ],
)
def test_data_that_are_not_the_annotated_ones_are_refused_and_named(
    change: Callable[[pa.Table], pa.Table], message: str, released: Path, copy_of: Copy
) -> None:
    output = copy_of(released)
    rewritten(output / "data/a.parquet", change)
    with pytest.raises(InputError, match=rf"data/a\.parquet: .*{message}"):
        list(documents(output))


def test_a_column_may_have_another_type_in_each_file(tmp_path: Path) -> None:
    """Each value comes as its own file has it: nothing is promoted, and so nothing is rounded."""
    columns = {
        "a": pa.array(["u", "v"], pa.string()),
        "b": pa.array(["w", None], pa.large_string()),
        "c": pa.array([2**62 + 1, 3], pa.int64()),
        "d": pa.array([0.5, None], pa.float32()),
        "e": pa.array([None, None], pa.null()),
        "f": pa.array([[1], []], pa.list_(pa.int8())),
        "g": pa.array(["x", "y"], pa.string()).dictionary_encode(),
    }
    (tmp_path / "in").mkdir()
    for name, extra in columns.items():
        table = pa.table({"id": [f"{name}0", f"{name}1"], "text": [f"one {name}", f"two {name}"], "extra": extra})
        pq.write_table(table, tmp_path / "in" / f"{name}.parquet")
    recipe = Recipe.parse("name: plain\nphases: [{name: only, rules: {sane: text_chars >= 0}}]\n")
    run(recipe, tmp_path / "in", tmp_path / "out", backend=runs.InThisProcess())
    found = {d.id: d.values["extra"] for d in documents(tmp_path / "out", layers=(), columns=["extra"])}
    assert found == {
        f"{name}{i}": value for name, column in columns.items() for i, value in enumerate(column.to_pylist())
    }


def test_unfit_arguments_are_refused(curated: Path, released: Path) -> None:
    with pytest.raises(InputError, match="`gneiss weights` writes weights"):
        documents(curated)
    assert next(iter(documents(curated, layers=(), columns=()))).log_prior == 0
    with pytest.raises(InputError, match="no column 'log_priar'; did you mean 'log_prior'"):
        documents(released, columns=["log_priar"])
    with pytest.raises(InputError, match="block_documents 0"):
        documents(released, block_documents=0)


def test_the_global_random_state_is_left_alone(released: Path) -> None:
    np.random.seed(0)
    expected = np.random.random()
    np.random.seed(0)
    list(documents(released))
    assert np.random.random() == expected


@pytest.mark.processes
def test_no_torch_is_needed(released: Path) -> None:
    code = f"""
import sys
sys.modules["torch"] = None  # importing it fails
from gneiss.loader.order import Share
from gneiss.loader.reader import documents
from gneiss.loader.packing import sequences
from gneiss.loader.loading import batch_of
made = list(sequences(documents({str(released)!r}), "builtin:cl100k_base", 64))
print(batch_of(made[:2]).tokens.shape)
"""
    ended = runs.python("-c", code)
    assert ended.stdout == "(2, 64)\n", ended.stderr
