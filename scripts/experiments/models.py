"""What the pipeline's own models are worth: every method beside its baselines, on made-up data; a module a section.

    python scripts/experiments/models.py [SECTION ...] [--quick] [--json]

Equal figures for equal versions, on one kind of processor; nothing is written.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy: more threads only wait for each other at this size
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import models_fusion
import models_labelling
import models_routing

#: Each with `tables(quick)`, and `lines` that print them.
SECTIONS = {"labelling": models_labelling, "fusion": models_fusion, "routing": models_routing}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"{', '.join(SECTIONS)}; by default all")
    parser.add_argument("--quick", action="store_true", help="fewer seeds and settings")
    parser.add_argument("--json", action="store_true", help="one object with a key for each section")
    given = parser.parse_args(arguments)
    if unknown := sorted(set(given.sections) - set(SECTIONS)):
        parser.error(f"no section {unknown[0]!r}: expected some of {', '.join(SECTIONS)}")
    made = {name: SECTIONS[name].tables(given.quick) for name in given.sections or SECTIONS}
    if given.json:
        print(json.dumps(made, indent=1))
        return
    for name, tables in made.items():
        print("\n".join(SECTIONS[name].lines(tables)))


if __name__ == "__main__":
    main()
