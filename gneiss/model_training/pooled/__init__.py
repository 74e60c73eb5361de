"""Pooled networks: groups of three words, learnt in numba."""
