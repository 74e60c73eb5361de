"""Training with importance weights computed from losses.

Modules that work on losses need torch (`pip install 'gneiss-curation[train]'`); importing this package does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gneiss.reweight.distributed import sum_over_ranks, tokens_per_rank
    from gneiss.reweight.huggingface import ReweightedTrainerMixin
    from gneiss.reweight.position import PositionBaseline
    from gneiss.reweight.pruning import pruning_weights
    from gneiss.reweight.reweighter import SampleReweighter
    from gneiss.reweight.schedules import Anneal
    from gneiss.reweight.tokens import document_ids, document_losses, positions_of, samples_of, token_losses
    from gneiss.reweight.torchtitan import torchtitan_loss
    from gneiss.reweight.trainers import ReweightedLoss, reweighted_loss, two_pass_weights, weighted_sum

__all__ = [
    "Anneal",
    "PositionBaseline",
    "ReweightedLoss",
    "ReweightedTrainerMixin",
    "SampleReweighter",
    "document_ids",
    "document_losses",
    "positions_of",
    "pruning_weights",
    "reweighted_loss",
    "samples_of",
    "sum_over_ranks",
    "token_losses",
    "tokens_per_rank",
    "torchtitan_loss",
    "two_pass_weights",
    "weighted_sum",
]
#: Name → its module.
_HOMES = {
    "Anneal": "schedules",
    "PositionBaseline": "position",
    "ReweightedLoss": "trainers",
    "ReweightedTrainerMixin": "huggingface",
    "SampleReweighter": "reweighter",
    "document_ids": "tokens",
    "document_losses": "tokens",
    "positions_of": "tokens",
    "pruning_weights": "pruning",
    "reweighted_loss": "trainers",
    "samples_of": "tokens",
    "sum_over_ranks": "distributed",
    "token_losses": "tokens",
    "tokens_per_rank": "distributed",
    "torchtitan_loss": "torchtitan",
    "two_pass_weights": "trainers",
    "weighted_sum": "trainers",
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
