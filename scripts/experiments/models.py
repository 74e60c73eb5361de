"""What the pipeline's own models are worth: every method beside its baselines, on made-up data; a module a section.

    python scripts/experiments/models.py [--quick] [--json]

Equal figures for equal versions, on one kind of processor; nothing is written.
"""

from __future__ import annotations

import argparse
import json
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy: more threads only wait for each other at this size
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import models_fusion
import models_labelling
import models_routing

SECTIONS = {"labelling": models_labelling, "fusion": models_fusion, "routing": models_routing}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer seeds and settings")
    parser.add_argument("--json", action="store_true", help="one object with a key for each section")
    given = parser.parse_args()
    if given.json:
        print(json.dumps({name: module.tables(given.quick) for name, module in SECTIONS.items()}, indent=1))
        return
    for module in SECTIONS.values():
        module.main(["--quick"] if given.quick else [])


if __name__ == "__main__":
    main()
