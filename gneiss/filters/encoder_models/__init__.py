"""Encoders: a text's windows of tokens, their features by a small transformer, and linear heads over these."""
