"""For data loaders: a torch dataset over a reader, and batches of sequences as arrays. Imports torch when called."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from gneiss.arrays import Float32Array, Int64Array
from gneiss.loader import packing

#: Label of a position without a loss, PyTorch's ignore_index.
NO_LABEL = -100


class Shared(Protocol):
    """Divisible among the loader workers of a rank: Documents, Sequences, PackedSequences."""

    def __iter__(self) -> Iterator[Any]:
        """The share of this consumer."""

    def of_worker(self, worker: int, workers: int) -> Shared:
        """The dataset with one worker's share."""


@dataclass(frozen=True, eq=False)
class Batch:
    """A batch of sequences. tokens, labels: int64 (samples, tokens); log_prior: float32 (samples,).

    Labels are the tokens themselves (not shifted); short sequences are padded with label -100 and token 0.
    """

    tokens: Int64Array
    labels: Int64Array
    log_prior: Float32Array
    sequences: Sequence[packing.Sequence]


def batch_of(sequences: Sequence[packing.Sequence]) -> Batch:
    """Sequences as arrays, padded to the longest; a `collate_fn` for torch's DataLoader.

    >>> spans = packing.Spans(*(np.zeros(1, np.int64) for _ in range(5)))
    >>> batch = batch_of([packing.Sequence(0, np.array([5, 6, 7], np.int32), spans, 0.0),
    ...                   packing.Sequence(1, np.array([8], np.int32), spans, 0.5)])
    >>> batch.tokens.tolist(), batch.labels.tolist(), batch.log_prior.tolist()
    ([[5, 6, 7], [8, 0, 0]], [[5, 6, 7], [8, -100, -100]], [0.0, 0.5])
    """
    width = max(len(sequence.tokens) for sequence in sequences)
    tokens = np.zeros((len(sequences), width), np.int64)
    labels = np.full((len(sequences), width), NO_LABEL, np.int64)
    for i, sequence in enumerate(sequences):
        tokens[i, : len(sequence.tokens)] = labels[i, : len(sequence.tokens)] = sequence.tokens
    return Batch(tokens, labels, np.array([s.log_prior for s in sequences], np.float32), sequences)


def torch_dataset(source: Shared) -> Iterable[Any]:
    """A torch IterableDataset over a reader, for DataLoader or torchdata's StatefulDataLoader.

    Every `iter()` in a loader worker takes that worker's share and returns a stateful iterator, so a StatefulDataLoader
    resumes in mid-epoch, and its next epoch is complete. Give the loader `batch_size=None`, or a `collate_fn` such as
    `batch_of`. Needs torch.

    >>> loader = StatefulDataLoader(torch_dataset(source), 8, collate_fn=batch_of)  # doctest: +SKIP
    """
    from torch.utils.data import IterableDataset, get_worker_info

    def iterate(_: object) -> Iterator[Any]:
        info = get_worker_info()
        return iter(source if info is None else source.of_worker(info.id, info.num_workers))

    def reduce(_: object) -> tuple[Any, ...]:  # spawned workers cannot find the class by name
        return torch_dataset, (source,)

    dataset: Iterable[Any] = type("ReaderDataset", (IterableDataset,), {"__iter__": iterate, "__reduce__": reduce})()
    return dataset
