"""The step that every run has: curate a shard. Dedup beyond a shard adds rounds before and after it."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from gneiss.errors import GneissError, InputError
from gneiss.ledger import UNREADABLE, Receipt
from gneiss.pipelines.dedup_job import DedupJob
from gneiss.recipe import Recipe
from gneiss.shard import Shard
from gneiss.shard_spans import ShardSpans
from gneiss.tools import Prepared, load_tools


@dataclass(frozen=True)
class CurateStep:
    """Shard in, committed files and a receipt out."""

    recipe: Recipe
    prepared: Prepared
    output: Path
    dedup: DedupJob | None = None

    def open(self) -> Callable[[Shard], Receipt]:
        """Load the recipe's models, once per worker."""
        tools = load_tools(self.recipe, self.prepared)

        def work(shard: Shard) -> Receipt:
            from gneiss.commit import commit
            from gneiss.curate import curate

            wall, cpu = time.perf_counter(), time.process_time()
            try:
                spans = self._spans(shard)
                receipt = commit(curate(shard, self.recipe, tools, spans=spans), self.recipe, self.output)
            except InputError as error:
                receipt = self.lost(shard, str(error))
            except MemoryError:
                receipt = self.lost(shard, "out of memory; use fewer workers or a smaller shard_max_bytes")
            except GneissError:
                raise  # concerns the run: a full disk, a rule that fails
            except Exception as error:  # noqa: BLE001 - a shard that nothing else explains is quarantined, with the reason
                receipt = self.lost(shard, f"{type(error).__name__}: {error}")
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            cost = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu, "peak_bytes": peak}
            return replace(receipt, cost=cost)

        return work

    def _spans(self, shard: Shard) -> ShardSpans | None:
        if self.dedup is None:
            return None
        from gneiss.pipelines.dedup_rounds import shard_spans

        return shard_spans(self.dedup, self.dedup.shards.index(shard))

    def lost(self, task: Shard, reason: str) -> Receipt:
        """A quarantined shard."""
        return Receipt(task.id, UNREADABLE, task.fingerprint, task.rows, reason=reason, modified_ns=task.modified_ns)
