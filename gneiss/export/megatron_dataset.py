"""Megatron's dataset of a GPT, with the prior weight and the document of every token. Needs megatron-core."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from megatron.core.datasets.gpt_dataset import GPTDataset

_Base: Any = GPTDataset  # Any keeps type checkers from requiring it


class WeightedGPTDataset(_Base):  # type: ignore[misc]
    """A `GPTDataset` over a part that `export_megatron` wrote; samples have two more columns, a value a label.

    `log_prior`, float32 (sequence_length,): the log of the prior weight of the document that the label is in;
    `document`, int64: its dense index, that of the weights layer; 0 and -1 where the label is padding, which Megatron
    masks. Multiply the losses of tokens by `log_prior.exp()`, not Megatron's loss mask, whose sum counts tokens.

    >>> builder = BlendedMegatronDatasetBuilder(WeightedGPTDataset, sizes, is_built, config)  # doctest: +SKIP
    """

    def __init__(self, dataset: Any, dataset_path: str, *arguments: Any, **options: Any) -> None:
        super().__init__(dataset, dataset_path, *arguments, **options)
        self._log_prior, self._document = (
            np.load(f"{dataset_path}.{name}.npy", mmap_mode="r", allow_pickle=False)
            for name in ("log_prior", "document")
        )

    def __getitem__(self, idx: int | None) -> dict[str, Any]:
        """Megatron's sample, with `log_prior` and `document`."""
        sample: dict[str, Any] = super().__getitem__(idx)
        at = 0 if idx is None else idx
        text, places = self._query_document_sample_shuffle_indices(at)
        lengths = self.dataset.sequence_lengths[places].astype(np.int64)
        lengths[0] -= self.sample_index[self.shuffle_index[at]][1]
        owner = np.repeat(places, lengths)[1 : len(text)]  # of each label; what is left is padding
        log_prior = np.zeros(len(sample["labels"]), np.float32)
        document = np.full(len(log_prior), -1, np.int64)
        log_prior[: len(owner)], document[: len(owner)] = self._log_prior[owner], self._document[owner]
        return {**sample, "log_prior": torch.from_numpy(log_prior), "document": torch.from_numpy(document)}
