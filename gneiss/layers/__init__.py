"""Layers that gneiss itself writes beside a finished run: weights before training, losses after it."""
