"""Layers that gneiss writes beside a finished run: weights before training, losses after it."""

from gneiss.layers.loss_log import LossLog

__all__ = ["LossLog"]
