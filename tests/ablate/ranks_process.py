"""What `python -m torch.distributed.run` runs: train as test_ranks.py does. Arguments: a folder for the results."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from gneiss.ablate import Size, Training
from gneiss.ablate.corpora import pool_of_texts
from gneiss.ablate.model import Shape, new_model
from gneiss.ablate.ranks import joined
from gneiss.ablate.tokens import Encoded, judged, tokenizer_of
from gneiss.ablate.trainer import falling, train
from gneiss.reweight.reweighter import SampleReweighter

TRAINING = Training(40 * 7 * 16, Size(32, 1, 2, 1e-2), length=16, batch=7, evaluations=4)
BYTES = tokenizer_of("bytes", [], 0)
SEQUENCES = Encoded.of(pool_of_texts("x", ["abcdefgh" * 9, "hello, hello"]), BYTES).sequences([0, 1], 40 * 7, 16)
DOMAINS = judged({"same": ["abcdefgh" * 200], "other": ["hgfedcba" * 4]}, BYTES, 16)


def curves() -> list[list[dict[str, object]]]:
    """The points of a model, and of one with LinUpper."""
    found = []
    for r in (None, 0.4):
        model = new_model(Shape(TRAINING.size, BYTES.vocabulary, 16), seed=1)
        reweighter = None if r is None else SampleReweighter("linupper", r=r, burn_in_steps=3)
        schedule = falling(TRAINING)
        points = train(model, SEQUENCES, DOMAINS, TRAINING, schedule=schedule, seed=1, reweighter=reweighter)
        found.append([asdict(point) for point in points])
    return found


def main(folder: str) -> None:
    """Write what each process has."""
    torch.set_num_threads(1)
    with joined("cpu") as is_first:
        found, rank = curves(), torch.distributed.get_rank()
    assert is_first == (rank == 0)
    Path(folder, f"{rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
