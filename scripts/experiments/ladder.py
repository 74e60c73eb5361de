"""What each filter earns: models trained on text with planted junk, without duplicates, after each filter, after all.

    python scripts/experiments/ladder.py --quick --corpus FOLDER    # tiny models, at most 15 CPU-minutes, one thread
    python scripts/experiments/ladder.py --corpus FOLDER --device cuda    # models of 10M parameters, with more text

FOLDER holds Parquet files with columns `text` and `source`, a domain each. It prints what was planted and what each
recipe left of it, bits per byte on held-out real text, and each difference from raw with its interval. Needs torch.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from planted_junk import KEEP, KINDS, Planting, curate, kept, plant, real_texts

from gneiss.ablate import SIZES, Ablation, HeldOut, Plan, Training, paired_difference, sentence
from gneiss.ablate.ablation import Arm, ablate_pools
from gneiss.ablate.corpora import Pool, pool_of_texts
from gneiss.store.place import place_of

#: Of LinUpper, as in the other experiments.
R = 0.4


@dataclass(frozen=True)
class Rung:
    """A recipe, and the bytes of each kind that it left."""

    pool: Pool
    kinds: Mapping[str, int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny models")
    parser.add_argument("--corpus", type=Path, required=True, help="a folder of Parquet files")
    parser.add_argument("--corpus-bytes", type=int, help="of the planted corpus; 4 MB with --quick, else 40 MB")
    parser.add_argument("--budget-tokens", type=int, help="of each model; 307,200 with --quick, else 8,192,000")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--output", type=Path, help="a folder for the models' figures; the same command goes on in it")
    parser.add_argument("--plot", type=Path, help="write curves and differences to this PNG")
    arguments = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one thread

    import torch

    torch.set_num_threads(1)
    start = time.process_time()
    quick = arguments.quick
    budget = arguments.budget_tokens or (307_200 if quick else 8_192_000)
    training = (
        Training(budget, SIZES["tiny"], length=64, batch=32, evaluations=3, device=arguments.device)
        if quick
        else Training(budget, SIZES["10m"], length=256, batch=32, device=arguments.device)
    )
    plan = Plan(
        training, seeds=arguments.seeds, vocabulary=1024 if quick else 4096, held_out_bytes=15_000 if quick else 100_000
    )
    planting = Planting(corpus_bytes=arguments.corpus_bytes or (4_000_000 if quick else 40_000_000))
    with tempfile.TemporaryDirectory() as scratch:
        ladder, held_out = rungs(arguments.corpus, planting, Path(scratch, "planted"))
        planted_table(ladder)
        output = arguments.output or Path(scratch, "ablation")
        found = climb(ladder, held_out, output, plan)
    arms_table(found, ladder)
    print("\nDifferences from raw; the intervals hold together with 95 %:")
    for compared in found.comparisons:
        print(f"  {compared.sentence}")
    if arguments.plot:
        from gneiss.ablate.charts import ablation_png

        arguments.plot.write_bytes(ablation_png(found))
    print("\nLinUpper on top of the ensemble, by itself:")
    print(f"  {sentence(between(found, 'ensemble', 'ensemble + LinUpper'), 'ensemble', 'ensemble + LinUpper')}")
    print(f"\n{time.process_time() - start:.0f} s of CPU time, without the processes of gneiss.run and gneiss.decide")


def rungs(corpus: Path, planting: Planting, folder: Path) -> tuple[dict[str, Rung], HeldOut]:
    """Plant, curate by each recipe; what each left, and besides the real documents alone, which no recipe reaches."""
    planted = plant(real_texts(corpus, planting.document_bytes), planting)
    found = {name: rung(name, kept(output)) for name, output in curate(planted, folder).items()}
    pairs = zip(planted.texts, planted.kinds, strict=True)
    found["real text alone"] = rung("real text alone", [(text, kind) for text, kind in pairs if kind == "real"])
    return found, HeldOut(planted.held_out)


def rung(name: str, documents: Sequence[tuple[str, str]]) -> Rung:
    """A pool of documents with their kinds."""
    kinds: Counter[str] = Counter()
    for text, kind in documents:
        kinds[kind] += len(text.encode())
    return Rung(pool_of_texts(name, [text for text, _ in documents]), kinds)


def climb(ladder: Mapping[str, Rung], held_out: HeldOut, output: Path, plan: Plan) -> Ablation:
    """Train on each rung, with LinUpper on raw and on the ensemble, and on two random halves of raw: a null pair."""
    names = list(ladder)
    arms = [Arm(name, i) for i, name in enumerate(names)]
    arms += [Arm(f"{name} + LinUpper", names.index(name), linupper=R) for name in ("raw", "ensemble")]
    arms += [Arm(f"raw, half {half}", 0, half=half) for half in (1, 2)]
    pools = [rung.pool for rung in ladder.values()]
    return ablate_pools(pools, held_out, place_of(output, "output"), plan, arms=arms)


def between(found: Ablation, a: str, b: str) -> Any:
    """The paired difference of two arms, at 95 %."""
    means = ([fmean(model.bits_per_byte.values()) for model in found.of(arm)] for arm in (a, b))
    return paired_difference(*means)


def planted_table(ladder: Mapping[str, Rung]) -> None:
    """The kilobytes of each kind that each recipe left."""
    print("\nKilobytes that each recipe left\n")
    print(markdown(["", *KINDS], [[n, *(f"{r.kinds[k] / 1000:,.0f}" for k in KINDS)] for n, r in ladder.items()]))


def arms_table(found: Ablation, ladder: Mapping[str, Rung]) -> None:
    """Bits per byte, the difference from raw, and for how many seeds each was better."""
    compared = {each.b: each.mean for each in found.comparisons if each.a == "raw"}
    rows = []
    for arm in found.arms:
        cells = [arm, f"{found.bits_per_byte(arm):.3f}", f"{fmean(model.epochs for model in found.of(arm)):.2f}"]
        if arm in compared:
            mean = compared[arm]
            cells += [
                f"{mean.mean:+.3f}",
                f"{mean.low:+.3f} to {mean.high:+.3f}",
                f"{mean.better} of {len(mean.pairs)}",
            ]
        rows.append([*cells, *[""] * (6 - len(cells))])
    print("\nBits per byte on held-out real text, mean over domains and seeds\n")
    print(markdown(["", "bits per byte", "epochs", "minus raw", "interval", "seeds better"], rows))
    domains = list(found.trained[0].bits_per_byte)
    print("\nBy domain\n")
    by_domain = [
        [arm, *(f"{fmean(model.bits_per_byte[domain] for model in found.of(arm)):.3f}" for domain in domains)]
        for arm in found.arms
        if arm in KEEP or arm in ladder
    ]
    print(markdown(["", *domains], by_domain))


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table, numbers to the right."""
    line = f"| --- |{' ---: |' * (len(head) - 1)}"
    return "\n".join([f"| {' | '.join(head)} |", line, *(f"| {' | '.join(row)} |" for row in rows)])


if __name__ == "__main__":
    main()
