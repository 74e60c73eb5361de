"""Corpus-wide work: stages whose tasks exchange files."""
