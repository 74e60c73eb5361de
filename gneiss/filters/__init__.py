"""Filters: annotators together with the rules published for them, one family a file."""
