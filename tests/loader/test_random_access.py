"""Random access: every item of the order once, whoever asks, and Grain over it."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gneiss.errors import InputError
from gneiss.loader import documents, packed, random_access_source, sequence_features, sequences
from gneiss.loader.packed_files import pack

TOKENIZER = "builtin:cl100k_base"


@pytest.fixture(scope="module")
def packing(released: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("random") / "packed"
    pack(sequences(documents(released, seed=5), TOKENIZER, 48), folder)
    return folder


def test_positions_are_those_of_the_order(released: Path) -> None:
    source = documents(released, seed=3, epoch=2, block_documents=32)
    expected = [document.index for document in source]
    found = random_access_source(source, kept_blocks=2)
    assert len(found) == len(expected) == len(source)
    assert [found[i].index for i in range(len(found))] == expected
    assert [found[np.int64(i)].index for i in reversed(range(len(found)))] == expected[::-1]
    assert found[-1].index == expected[-1]
    assert found[0].epoch == 2
    for beyond in (len(found), -len(found) - 1):
        with pytest.raises(IndexError, match="items"):
            found[beyond]


def test_what_is_asked_for_in_turn_is_read_once(released: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = documents(released, block_documents=32)
    read: list[int] = []
    plain = type(source).read
    monkeypatch.setattr(type(source), "read", lambda *a: (read.append(a[2]), plain(*a))[1])
    found = random_access_source(source, kept_blocks=1)
    assert len([found[i] for i in range(len(found))]) == source.total
    assert read == list(range(0, source.total, 32))


def test_threads_and_other_processes_may_ask(released: Path) -> None:
    source = documents(released, block_documents=16)
    found = random_access_source(source, kept_blocks=2)
    expected = [document.index for document in source]
    with ThreadPoolExecutor(8) as threads:
        assert [item.index for item in threads.map(found.__getitem__, range(len(found)))] == expected
    sent = pickle.loads(pickle.dumps(found))  # noqa: S301 - as Grain sends it to its workers
    assert sent[5].index == expected[5]
    assert repr(sent) == repr(found)


def test_features_are_the_packing_map(packing: Path) -> None:
    for sequence in packed(packing):
        found = sequence_features(sequence, 48)
        size = len(sequence.tokens)
        assert found["tokens"][:size].tolist() == sequence.tokens.tolist()
        assert (found["document"][size:] == -1).all()
        for i, start in enumerate(sequence.spans.start.tolist()):
            of = slice(start, start + int(sequence.spans.length[i]))
            assert (found["document"][of] == sequence.spans.document[i]).all()
            first = int(sequence.spans.document_start[i])
            assert found["position"][of].tolist() == list(range(first, first + int(sequence.spans.length[i])))
    with pytest.raises(InputError, match="expected at most 1 tokens"):
        sequence_features(sequence, 1)


def test_shares_are_left_to_the_loader(released: Path) -> None:
    with pytest.raises(InputError, match="expected rank=0 and world_size=1"):
        random_access_source(documents(released, rank=1, world_size=2))
    with pytest.raises(InputError, match="kept_blocks 0"):
        random_access_source(documents(released), kept_blocks=0)


def test_grain_reads_every_sequence_once_and_resumes(packing: Path) -> None:
    grain: Any = pytest.importorskip("grain", reason="needs Grain: pip install grain")
    source = random_access_source(packed(packing, seed=1))
    expected = [sequence.id for sequence in packed(packing, seed=1)]
    dataset = grain.MapDataset.source(source).map(lambda sequence: sequence_features(sequence, 48))
    shards = [[int(item["sequence"]) for item in dataset[rank::3]] for rank in range(3)]
    assert [shards[i % 3][i // 3] for i in range(len(expected))] == expected
    batches = [batch["sequence"].tolist() for batch in dataset.batch(4)]
    assert [id for batch in batches for id in batch] == expected
    reader = iter(dataset.to_iter_dataset())
    read = [int(next(reader)["sequence"]) for _ in range(5)]
    resumed = iter(dataset.to_iter_dataset())
    resumed.set_state(reader.get_state())
    assert read + [int(item["sequence"]) for item in resumed] == expected
    shuffled = [int(item["sequence"]) for item in dataset.shuffle(seed=4)]
    assert sorted(shuffled) == sorted(expected) != shuffled
