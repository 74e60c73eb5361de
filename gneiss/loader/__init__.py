"""A finished run as a trainer reads it: documents and packed sequences, shuffled, shared out, resumable; no torch."""

from gneiss.loader.loading import batch_of, torch_dataset
from gneiss.loader.packed_files import packed
from gneiss.loader.packing import sequences
from gneiss.loader.random_access import random_access_source, sequence_features
from gneiss.loader.reader import documents
from gneiss.loader.resuming import resumed

__all__ = [
    "batch_of",
    "documents",
    "packed",
    "random_access_source",
    "resumed",
    "sequence_features",
    "sequences",
    "torch_dataset",
]
