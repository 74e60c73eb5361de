"""Read a part with megatron-core, write it anew, and sample from it as its trainer does: PREFIX TARGET. Prints JSON."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import numpy as np
import torch
from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig
from megatron.core.datasets.indexed_dataset import DType, IndexedDataset, IndexedDatasetBuilder
from megatron.core.datasets.utils import Split

from gneiss.export import WeightedGPTDataset


def main(prefix: str, target: str) -> None:
    """Copy, and tell documents, their bounds, and samples with the documents that Megatron looks up for them."""
    dataset = IndexedDataset(prefix)
    builder = IndexedDatasetBuilder(f"{target}.bin", dtype=dataset.index.dtype)
    found = []
    for i in range(len(dataset)):
        tokens = np.array(dataset[i])
        builder.add_document(torch.from_numpy(tokens.astype(np.int32)), [len(tokens)])
        found.append(tokens.tolist())
    builder.finalize(f"{target}.idx")
    told = {"tokens": found, "bounds": dataset.document_indices.tolist()}
    told |= {"weighted": weighted(prefix, dataset, f"{target}-weighted-cache")}
    told |= {"code": DType.code_from_dtype(dataset.index.dtype), "samples": samples(prefix, dataset, f"{target}-cache")}
    print(json.dumps(told))


def weighted(prefix: str, dataset: IndexedDataset, cache: str) -> list[dict[str, list[float]]]:
    """The samples of gneiss's dataset: labels, loss mask, and of each label its document and the log of its weight."""
    config = configuration(prefix, cache)
    whole = WeightedGPTDataset(dataset, prefix, np.arange(len(dataset)), None, Split.train, config)
    names = ("labels", "loss_mask", "document", "log_prior")
    return [{name: whole[i][name].tolist() for name in names} for i in (None, *range(len(whole)))]


def samples(prefix: str, dataset: IndexedDataset, cache: str) -> list[tuple[list[int], list[int]]]:
    """Tokens of training samples, and the indices of the documents in each, which GPTDataset then drops."""
    config = configuration(prefix, cache)
    whole = GPTDataset(dataset, prefix, np.arange(len(dataset)), None, Split.train, config)
    looked_up = (whole._query_document_sample_shuffle_indices(i) for i in range(len(whole)))
    return [(tokens.tolist(), documents.tolist()) for tokens, documents in looked_up]


def configuration(prefix: str, cache: str) -> GPTDatasetConfig:
    """Of samples of 3000 tokens."""
    tokenizer = SimpleNamespace(eod=256, pad=-1, vocab_size=257, unique_identifiers={})
    switches = dict.fromkeys(("reset_position_ids", "reset_attention_mask", "eod_mask_loss"), False)
    return GPTDatasetConfig(
        random_seed=1,
        sequence_length=3000,
        blend=([prefix], None),
        split="1,0,0",
        tokenizer=tokenizer,
        path_to_cache=cache,
        mid_level_dataset_surplus=0.0,
        **switches,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
