"""From a curated corpus to training: samples weighted by their loss, and the corpus as a trainer reads it.

Modules that work on losses need torch (`pip install 'gneiss[train]'`); importing this package does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gneiss.reweight.huggingface import ReweightedTrainerMixin
    from gneiss.loader.loading import batch_of, torch_dataset
    from gneiss.layers.loss_log import LossLog
    from gneiss.loader.packing import sequences
    from gneiss.reweight.pruning import pruning_weights
    from gneiss.loader.reader import documents
    from gneiss.reweight.reweighter import SampleReweighter
    from gneiss.reweight.torchtitan import torchtitan_loss
    from gneiss.reweight.trainers import ReweightedLoss, reweighted_loss, two_pass_weights

__all__ = [
    "LossLog",
    "ReweightedLoss",
    "ReweightedTrainerMixin",
    "SampleReweighter",
    "batch_of",
    "documents",
    "pruning_weights",
    "reweighted_loss",
    "sequences",
    "torch_dataset",
    "torchtitan_loss",
    "two_pass_weights",
]
#: Name → the module that it comes from.
_HOMES = {
    "LossLog": "loss_log",
    "ReweightedLoss": "trainers",
    "ReweightedTrainerMixin": "huggingface",
    "SampleReweighter": "reweighter",
    "batch_of": "loading",
    "documents": "reader",
    "pruning_weights": "pruning",
    "reweighted_loss": "trainers",
    "sequences": "packing",
    "torch_dataset": "loading",
    "torchtitan_loss": "torchtitan",
    "two_pass_weights": "trainers",
}


def __getattr__(name: str) -> Any:
    # torch and transformers are imported where they are used, not by `import gneiss.reweight`
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    except ModuleNotFoundError as missing:
        packages = {"torch": "'gneiss[train]'", "transformers": "transformers accelerate"}
        if missing.name not in packages:
            raise
        raise ImportError(f"{name} needs {missing.name}: pip install {packages[missing.name]}") from missing
