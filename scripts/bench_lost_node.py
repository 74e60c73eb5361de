"""What a run on Ray loses with one of three nodes: shards per second before and after, and how often each was computed.

    python scripts/bench_lost_node.py [--shards 60] [--seconds 2]

Three nodes with a worker each run on this machine; one is killed as soon as half of the shards are done. A shard takes
its worker some seconds, in which it sleeps, so that the figures do not depend on how many cores this machine has.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from threading import Thread
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import gneiss
from gneiss.backends.ray_actors import RayActors
from gneiss.backends.resources import Resources
from gneiss.jobs import bundle
from gneiss.jobs.attempt import AttemptStep
from gneiss.jobs.progress import Silent
from gneiss.output.ledger import Receipt
from tests.backends.ray_cluster import Head, running_head, until
from tests.chaos.jobs import AT, CountedStep

NODES = 3
SLEEPING = """
import time
from dataclasses import dataclass
import pyarrow as pa
from gneiss.annotation import Annotator, Column

@dataclass(frozen=True)
class Sleeping(Annotator):
    seconds: float = 1.0
    columns = (Column("slept", "int64", "nothing"),)
    def compute(self, batch):
        (number,) = batch.texts()
        time.sleep(self.seconds * (0.5 + int(number) % 11 / 10))  # so that workers do not keep step
        return {"slept": pa.nulls(1, pa.int64())}
"""
RECIPE = "name: sleeping\nphases: [{name: only, annotate: [{'sleeping:Sleeping': {seconds: SECONDS}}]}]\n"


@dataclass
class Killing(Silent):
    """Notes when shards are finished, and kills a node that is at one when half of them are."""

    head: Head
    shards: int
    at: Path
    finished_at: list[float] = field(default_factory=list)
    killed_at: float = 0.0

    def finished(self, receipt: Receipt) -> None:
        """Note it, and kill when it is time."""
        self.finished_at.append(time.monotonic())
        if not self.killed_at and len(self.finished_at) >= self.shards // 2:
            at_work = {int(file.name) for file in self.at.iterdir()}
            for node in self.head.nodes:
                if at_work.intersection(node.processes()):
                    self.killed_at = time.monotonic()
                    Thread(target=node.kill).start()  # which waits until all of it is gone
                    return


def have_joined(nodes: int) -> bool:
    """Whether the cluster has this many nodes, of a CPU each."""
    return RayActors().room(Resources(1)).by_cpus == nodes


def main() -> None:
    """Run, kill, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=2.0, help="that a shard takes on average")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        attempts = folder / "attempts"
        (attempts / AT).mkdir(parents=True)
        (folder / "sleeping.py").write_text(SLEEPING)
        (folder / "sleeping.yaml").write_text(RECIPE.replace("SECONDS", f"{given.seconds}"))
        (folder / "input").mkdir()
        for number in range(given.shards):
            pq.write_table(pa.table({"id": ["a"], "text": [f"{number}"]}), folder / f"input/{number:04d}.parquet")
        sys.path.insert(0, str(folder))
        os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:2])  # of the workers
        with (
            running_head(cpus=1) as head,
            mock.patch(
                "gneiss.jobs.job.AttemptStep", lambda *arguments: CountedStep(AttemptStep(*arguments), attempts)
            ),
            mock.patch.object(bundle, "MOST_TASKS", 1),
        ):
            for nodes in range(2, NODES + 1):
                head.join(cpus=1)
                until(partial(have_joined, nodes))
            killing = Killing(head, given.shards, attempts / AT)
            done = gneiss.run(
                folder / "sleeping.yaml", folder / "input", folder / "output",
                backend="ray", shared_filesystem=True, progress=killing,
            )  # fmt: skip
        times = Counter(file.stat().st_size for file in attempts.iterdir() if file.name != AT)
    before = [at for at in killing.finished_at if at <= killing.killed_at]
    after = [at for at in killing.finished_at if at > killing.killed_at]
    all_at_work = before[len(before) // 2 :]  # workers start one after another, nodes join meanwhile
    rate_before = (len(all_at_work) - 1) / (all_at_work[-1] - all_at_work[0])
    all_given = after[:-NODES]  # until then no worker waits for others to end
    rate_after = len(all_given) / (all_given[-1] - killing.killed_at)
    print(
        json.dumps(
            {
                "shards": given.shards,
                "quarantined": len(done.quarantined_shards),
                "shards_per_second": {"before": round(rate_before, 3), "after": round(rate_after, 3)},
                "longest_wait_seconds": round(max(b - a for a, b in pairwise(killing.finished_at[NODES:])), 1),
                "after_by_before": round(rate_after / rate_before, 3),
                "surviving_share": round((NODES - 1) / NODES, 3),
                "computed": {f"{count} times": shards for count, shards in sorted(times.items())},
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
