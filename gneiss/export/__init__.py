"""The trainers' own formats."""

from gneiss.export.files import tokenized
from gneiss.export.hf_datasets import export_hf
from gneiss.export.mds import export_mds
from gneiss.export.megatron import export_megatron
from gneiss.export.olmo import export_olmo, instance_log_priors

__all__ = ["export_hf", "export_mds", "export_megatron", "export_olmo", "instance_log_priors", "tokenized"]
