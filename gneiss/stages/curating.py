"""The main stage of every run: curate a shard. Corpus-wide steps add stages before and after it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gneiss.backends.care import watch
from gneiss.curate.loaded_models import load_models, models_when_needed
from gneiss.input.shard import Shard, reading_on
from gneiss.output.ledger import UNREADABLE, Receipt
from gneiss.stages.corpus import Corpus


@dataclass(frozen=True)
class CurateStep:
    """Shard in, committed files and a receipt out."""

    corpus: Corpus

    def open(self) -> Callable[[Shard], Receipt]:
        """Load the recipe's models, once per worker."""
        from gneiss.curate.curate import NO_RESULTS, curate
        from gneiss.output.commit import commit
        from gneiss.stages.of_recipe import results_of

        recipe, output = self.corpus.recipe, self.corpus.output
        if self.corpus.stored:
            models = models_when_needed(recipe, self.corpus.stored_steps)
        else:
            models = load_models(recipe, self.corpus.prepared)
        results, of_worker = results_of(self.corpus), reading_on()
        numbers = self.corpus.shard_numbers if self.corpus.wide_phases else {}

        def work(shard: Shard) -> Receipt:
            found = results(numbers[shard.id]) if numbers else self.corpus.with_known(shard.id, NO_RESULTS)
            curated = curate(of_worker(shard), recipe, models, results=found, watch=watch())
            return commit(curated, recipe, output)

        return work

    def lost(self, task: Shard, reason: str) -> Receipt:
        """A quarantined shard."""
        return Receipt(task.id, UNREADABLE, task.fingerprint, task.known_rows, reason=reason, etag=task.etag)
