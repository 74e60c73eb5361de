"""Layers of a finished run: weights before training, losses after it, and all annotations of a row together."""

from gneiss.layers.loss_log import LossLog
from gneiss.layers.losses import consolidate
from gneiss.layers.weights import write_weights

__all__ = ["LossLog", "consolidate", "write_weights"]
