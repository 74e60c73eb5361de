"""The step that every run has: curate a shard. Corpus-wide steps add stages before and after it."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from gneiss.curate.loaded_models import load_models
from gneiss.errors import GneissError, InputError
from gneiss.input.shard import Shard
from gneiss.output.ledger import UNREADABLE, Receipt
from gneiss.stages.corpus import Corpus


@dataclass(frozen=True)
class CurateStep:
    """Shard in, committed files and a receipt out."""

    corpus: Corpus

    def open(self) -> Callable[[Shard], Receipt]:
        """Load the recipe's models, once per worker."""
        from gneiss.curate.curate import curate
        from gneiss.output.commit import commit
        from gneiss.stages.of_recipe import results_of

        recipe, output = self.corpus.recipe, self.corpus.output
        models = load_models(recipe, self.corpus.prepared)
        results = results_of(self.corpus)

        def work(shard: Shard) -> Receipt:
            wall, cpu = time.perf_counter(), time.process_time()
            try:
                curated = curate(shard, recipe, models, results=results(self.corpus.shard_numbers[shard.id]))
                receipt = commit(curated, recipe, output)
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

    def lost(self, task: Shard, reason: str) -> Receipt:
        """A quarantined shard."""
        return Receipt(task.id, UNREADABLE, task.fingerprint, task.rows, reason=reason, modified_ns=task.modified_ns)
