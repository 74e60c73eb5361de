"""Corpus-wide steps, one file per family. `STEPS` are those that a recipe names by their key."""

from gneiss.corpus_steps.duplicates import ExactDuplicates, NearDuplicates
from gneiss.corpus_steps.step import Batches, CorpusStep, PhaseDocuments, Stage, StepCorpus, StepResult
from gneiss.corpus_steps.substring import Dedup

#: In the order in which a phase runs them.
STEPS: tuple[type[CorpusStep], ...] = (ExactDuplicates, NearDuplicates, Dedup)

__all__ = [
    "STEPS",
    "Batches",
    "CorpusStep",
    "Dedup",
    "ExactDuplicates",
    "NearDuplicates",
    "PhaseDocuments",
    "Stage",
    "StepCorpus",
    "StepResult",
]
