"""The trainers' own formats, and annotations as attributes of Dolma and Marin."""

from gneiss.export.dolma import export_dolma
from gneiss.export.files import tokenized
from gneiss.export.hf_datasets import export_hf
from gneiss.export.jsonl import export_jsonl
from gneiss.export.marin import export_marin
from gneiss.export.mds import export_mds
from gneiss.export.megatron import export_megatron
from gneiss.export.olmo import export_olmo, instance_log_priors

__all__ = [
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
