"""Does a corpus make a better model? Small models trained on each candidate, with paired seeds, and compared.

Training needs torch (`pip install 'gneiss-curation[train]'`); importing this package, and what was measured, does not.
"""

from gneiss.ablate.ablation import Ablation, Compared, Plan, Trained, ablate
from gneiss.ablate.corpora import Corpus
from gneiss.ablate.differences import Difference, paired_difference, sentence
from gneiss.ablate.own_trainer import OwnTrainer
from gneiss.ablate.sizes import SIZES, Size, Training
from gneiss.report.held_out import HeldOut, read_held_out

__all__ = [
    "SIZES",
    "Ablation",
    "Compared",
    "Corpus",
    "Difference",
    "HeldOut",
    "OwnTrainer",
    "Plan",
    "Size",
    "Trained",
    "Training",
    "ablate",
    "paired_difference",
    "read_held_out",
    "sentence",
]
