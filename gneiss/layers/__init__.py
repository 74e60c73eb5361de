"""Layers of a finished run: weights before training, losses after it, annotations that others published."""

from gneiss.layers.loss_log import LossLog
from gneiss.layers.losses import consolidate
from gneiss.layers.published import annotate_from
from gneiss.layers.weights import write_weights

__all__ = ["LossLog", "annotate_from", "consolidate", "write_weights"]
