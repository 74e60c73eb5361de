"""The trainers' own formats, and annotations as attributes of Dolma and Marin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gneiss.export.arrayrecord import export_arrayrecord
from gneiss.export.dolma import export_dolma
from gneiss.export.files import tokenized
from gneiss.export.hf_datasets import export_hf
from gneiss.export.jsonl import export_jsonl
from gneiss.export.marin import export_marin
from gneiss.export.mds import export_mds
from gneiss.export.megatron import export_megatron
from gneiss.export.olmo import export_olmo, instance_log_priors

if TYPE_CHECKING:
    from gneiss.export.megatron_dataset import WeightedGPTDataset

__all__ = [
    "WeightedGPTDataset",
    "export_arrayrecord",
    "export_dolma",
    "export_hf",
    "export_jsonl",
    "export_marin",
    "export_mds",
    "export_megatron",
    "export_olmo",
    "instance_log_priors",
    "tokenized",
]


def __getattr__(name: str) -> Any:
    # megatron-core and torch are imported by what needs them, not by an export
    if name != "WeightedGPTDataset":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from gneiss.export.megatron_dataset import WeightedGPTDataset
    except ModuleNotFoundError as missing:
        if missing.name not in ("megatron", "torch"):
            raise
        raise ImportError(f"{name} needs {missing.name}: pip install megatron-core torch") from missing
    return WeightedGPTDataset
