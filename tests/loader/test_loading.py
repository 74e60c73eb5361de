"""Loaders: the real DataLoader and StatefulDataLoader over the reader, in this process and in workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gneiss.loader.loading import batch_of, torch_dataset
from gneiss.loader.packing import Sequences, sequences
from gneiss.loader.reader import documents


@pytest.fixture(scope="module")
def source(released: Path) -> Sequences:
    return sequences(documents(released, block_documents=30), "builtin:cl100k_base", 64)


def ids(batch: Any) -> list[int]:
    return [sequence.id for sequence in batch.sequences]


@pytest.mark.processes
def test_workers_share_the_documents(source: Sequences) -> None:
    data = pytest.importorskip("torch.utils.data", reason="torch is not installed")
    expected = [s.id for worker in range(2) for s in source.of_worker(worker, 2)]
    for context in ("fork", "spawn"):
        loader = data.DataLoader(
            torch_dataset(source), 4, num_workers=2, collate_fn=batch_of, multiprocessing_context=context
        )
        assert sorted(i for batch in loader for i in ids(batch)) == sorted(expected)


@pytest.mark.processes
@pytest.mark.filterwarnings("ignore:'set_vital'")
@pytest.mark.parametrize("workers", [2, *(pytest.param(count, marks=pytest.mark.exhaustive) for count in (0, 1))])
def test_a_stateful_loader_resumes_in_mid_epoch(source: Sequences, workers: int) -> None:
    loading = pytest.importorskip("torchdata.stateful_dataloader", reason="torchdata is not installed")

    def loader() -> Any:
        return loading.StatefulDataLoader(torch_dataset(source), 4, num_workers=workers, collate_fn=batch_of)

    whole = [ids(batch) for batch in loader()]
    for steps in (1, 7, len(whole) - 1):
        first = loader()
        iterator = iter(first)
        before = [ids(next(iterator)) for _ in range(steps)]
        state = first.state_dict()
        second = loader()
        second.load_state_dict(state)
        assert before + [ids(batch) for batch in second] == whole
        assert [ids(batch) for batch in second] == whole  # the next epoch is a whole one
