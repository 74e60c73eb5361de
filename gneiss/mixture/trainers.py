"""Mixture files of trainers: which share or how many repetitions of each folder of a corpus that was written apart.

OLMo-core, Megatron-LM, NeMo Automodel and MosaicML streaming read tokens or samples that their own tools, or ours, make
of each folder; the files name them under a root, by the names of the folders.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from gneiss.errors import InputError, did_you_mean
from gneiss.mixture.corpus import MixedCorpus
from gneiss.mixture.mixing import Group
from gneiss.output.layout import DATA
from gneiss.output.parquet import write_bytes
from gneiss.recipe.yaml_text import write_yaml
from gneiss.store.place import Place

#: Groups of files, and the folder that has a folder for each, in; the content of a file out.
Write: TypeAlias = Callable[[Sequence[Group], str], str]
#: OLMo-core refuses a source with a token too few: a tokenizer may count by so much less.
_ROOM = 1.05


def olmo(groups: Sequence[Group], root: str) -> str:
    """A `SourceMixtureList` of OLMo-core: the share of each source, and how often it may be repeated at most.

    `requested_tokens` of a `SourceMixtureDatasetConfig` is the mixture's. A source's files are `<root>/<name>/*.npy`.
    """
    total = sum(group.mixed_tokens for group in groups)
    sources = [
        {
            "source_name": group.name,
            "target_ratio": group.mixed_tokens / total,
            "paths": [f"{root}/{group.name}/*.npy"],
            "max_repetition_ratio": max(1.0, math.ceil(_ROOM * 1000 * group.mixed_tokens / group.tokens) / 1000),
        }
        for group in groups
    ]
    return write_yaml({"sources": sources})


def megatron(groups: Sequence[Group], root: str) -> str:
    """What Megatron-LM's `--per-split-data-args-path` reads: weights, by tokens, and prefixes `<root>/<name>`."""
    total = sum(group.mixed_tokens for group in groups)
    blend = [text for group in groups for text in (repr(group.mixed_tokens / total), f"{root}/{group.name}")]
    return json.dumps({"train": blend}, indent=1) + "\n"


def automodel(groups: Sequence[Group], root: str) -> str:
    """The `dataset.paths` and `domain_mixture` of a recipe of NeMo Automodel: importance weights w / q of tokens.

    Domains are drawn by q, their shares of what is there, so that each document is read once; the loss of a token
    counts w / q, where w is the domain's share of the mixture. Prefixes are `<root>/<name>`. Raises InputError for one
    domain, which Automodel refuses. Source: nemo_automodel/components/training/domain_mixture.py (0.7.0).
    """
    if len(groups) < 2:
        raise InputError("automodel: expected two buckets or factors or more, found one: nothing to weigh")
    there, mixed = sum(group.tokens for group in groups), sum(group.mixed_tokens for group in groups)
    domains = [
        {
            "name": group.name,
            "path": f"{root}/{group.name}",
            "sampling_weight": group.tokens / there,
            "objective_weight": group.mixed_tokens / mixed,
        }
        for group in groups
    ]
    blend = [text for domain in domains for text in (repr(domain["sampling_weight"]), domain["path"])]
    return write_yaml({"dataset": {"paths": {"train": blend}}, "domain_mixture": {"domains": domains}})


def mds(groups: Sequence[Group], root: str) -> str:
    """The settings of each `Stream` of MosaicML streaming: how often `<root>/<name>` is repeated in an epoch."""
    streams = [{"local": f"{root}/{group.name}", "repeat": group.mixed_documents / group.documents} for group in groups]
    return json.dumps(streams, indent=1) + "\n"


def grain(groups: Sequence[Group], root: str) -> str:
    """What `grain.MapDataset.mix` needs: the weight of each folder, its planned documents, and those of the mixture."""
    parts = [{"path": f"{root}/{group.name}", "weight": group.mixed_documents} for group in groups]
    return json.dumps({"documents": sum(group.mixed_documents for group in groups), "parts": parts}, indent=1) + "\n"


def hf(groups: Sequence[Group], root: str) -> str:
    """A module whose `mixture(seed)` interleaves the folders with Hugging Face datasets, by shares of documents.

    Documents are drawn with these probabilities until the largest number that was planned; a folder that ends begins
    again. So shares are those of the plan on average, and the order is the library's.
    """
    total = sum(group.mixed_documents for group in groups)
    folders = [f"{root}/{group.name}" for group in groups]
    probabilities = [group.mixed_documents / total for group in groups]
    return (
        '"""A mixture: the documents of each folder by their share of the planned documents."""\n\n'
        "import datasets\n\n"
        f"FOLDERS = {json.dumps(folders, indent=4)}\n"
        f"PROBABILITIES = {json.dumps(probabilities, indent=4)}\n"
        f"DOCUMENTS = {total}\n\n\n"
        "def mixture(seed: int = 0) -> datasets.IterableDataset:\n"
        '    """The documents of the mixture, without end but for `take`."""\n'
        "    parts = [\n"
        '        datasets.load_dataset("parquet", data_files=f"{folder}/*.parquet", split="train", streaming=True)\n'
        "        for folder in FOLDERS\n"
        "    ]\n"
        "    repeated = [part.repeat(None) for part in parts]\n"
        "    return datasets.interleave_datasets(repeated, probabilities=PROBABILITIES, seed=seed).take(DOCUMENTS)\n"
    )


#: Trainer → the name of its file, and what writes it.
FORMATS: Mapping[str, tuple[str, Write]] = {
    "olmo": ("mixture.yaml", olmo),
    "megatron": ("blend.json", megatron),
    "automodel": ("automodel.yaml", automodel),
    "mds": ("streams.json", mds),
    "hf": ("mixture.py", hf),
    "grain": ("grain.json", grain),
}
#: Formats whose trainers read Parquet files as they are, or with your own loader.
_OF_DOCUMENTS = ("hf", "grain")


def write_mixture_file(corpus: MixedCorpus, format: str, root: str | None = None) -> Place:
    """Write the mixture file of a trainer into a corpus that was written apart. Raises InputError, OutputError.

    Parameters: `format`: a name in `FORMATS`; `root`: the folder that has a folder for each in `data/`, by default
    `data` itself for `hf` and `grain`, which read documents, and `tokens` beside it for the others.
    """
    if format not in FORMATS:
        raise InputError(f"format {format!r}: no trainer of this name{did_you_mean(format, FORMATS)}")
    if any(not group.name for group in corpus.groups):
        raise InputError(f"{corpus.folder}: its buckets are mixed already; write it with apart=True")
    name, write = FORMATS[format]
    content = write(corpus.groups, root or f"{corpus.folder}/{DATA if format in _OF_DOCUMENTS else 'tokens'}")
    write_bytes(content.encode(), corpus.folder, name)
    return corpus.folder / name
