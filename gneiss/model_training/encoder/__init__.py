"""Heads over an encoder: two labels, several, or a number, over frozen features; or adapters of its last layers."""
