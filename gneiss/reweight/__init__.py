"""Training with samples weighted by their loss.

Modules that work on losses need torch (`pip install 'gneiss-curation[train]'`); importing this package does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gneiss.reweight.huggingface import ReweightedTrainerMixin
    from gneiss.reweight.pruning import pruning_weights
    from gneiss.reweight.reweighter import SampleReweighter
    from gneiss.reweight.torchtitan import torchtitan_loss
    from gneiss.reweight.trainers import ReweightedLoss, reweighted_loss, two_pass_weights

__all__ = [
    "ReweightedLoss",
    "ReweightedTrainerMixin",
    "SampleReweighter",
    "pruning_weights",
    "reweighted_loss",
    "torchtitan_loss",
    "two_pass_weights",
]
#: Name → the module that it comes from.
_HOMES = {
    "ReweightedLoss": "trainers",
    "ReweightedTrainerMixin": "huggingface",
    "SampleReweighter": "reweighter",
    "pruning_weights": "pruning",
    "reweighted_loss": "trainers",
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
        packages = {"torch": "'gneiss-curation[train]'", "transformers": "transformers accelerate"}
        if missing.name not in packages:
            raise
        raise ImportError(f"{name} needs {missing.name}: pip install {packages[missing.name]}") from missing
