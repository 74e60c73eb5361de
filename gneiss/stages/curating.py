"""The main stage of every run: curate shards. Corpus-wide steps add stages before and after it.

Here it is chosen how a shard is decided: unread, where a run stored of it all that decides it; read by itself, with
what stages found or a run stored of it; or, where nothing is known of any shard, read together with others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from gneiss.backends.care import watch
from gneiss.curate.loaded_models import LoadedModels, load_models, models_when_needed
from gneiss.errors import InputError
from gneiss.input.shard import Shard, reading_on
from gneiss.output.ledger import UNREADABLE, Receipt
from gneiss.recipe.recipe import Recipe
from gneiss.stages.corpus import Corpus, Reader
from gneiss.store.at_once import at_once

if TYPE_CHECKING:
    from gneiss.curate.phase import CorpusResults
    from gneiss.stages.stored import StoredShard

_Item = TypeVar("_Item")
#: Small shards that are decided at once, and the most bytes of text of a bundle of small ones.
_TOGETHER, _SMALL_BYTES = 32, 16_000_000


def are_decided_together(corpus: Corpus) -> bool:
    """Whether shards may be decided in bundles, as nothing is known of any."""
    return not (corpus.sees_all or corpus.stored)


@dataclass(frozen=True)
class CurateStep:
    """Shard in, committed files and a receipt out."""

    corpus: Corpus

    def open(self) -> CurateWork:
        """Load the recipe's models, once per worker."""
        from gneiss.stages.of_recipe import results_of

        corpus = self.corpus
        if corpus.stored:
            models = models_when_needed(corpus.recipe, corpus.stored_steps)
        else:
            models = load_models(corpus.recipe, corpus.prepared, max(corpus.barriers, default=0))
        numbers = corpus.shard_numbers if corpus.sees_all else {}
        recipe = Reader(corpus).decided(len(corpus.recipe.phases))
        return CurateWork(corpus, recipe, models, results_of(corpus), numbers, reading_on())

    def lost(self, task: Shard, reason: str) -> Receipt:
        """A quarantined shard."""
        return Receipt(task.id, UNREADABLE, task.fingerprint, task.known_rows, reason=reason, etag=task.etag)


@dataclass(frozen=True, eq=False)
class CurateWork:
    """A worker's part of it.

    recipe: with all numbers; numbers: of the shards, by id, where they see each other; of_worker: see `reading_on`.
    """

    corpus: Corpus
    recipe: Recipe
    models: LoadedModels
    results: Callable[[int], CorpusResults]
    numbers: Mapping[str, int]
    of_worker: Callable[[Shard], Shard]

    def __call__(self, shard: Shard) -> Receipt:
        """Curate a shard by itself; its text is read only where what is stored of it does not decide it."""
        from gneiss.curate.curate import curate
        from gneiss.output.commit import commit
        from gneiss.stages.unread import curated_unread

        recipe, output, stored = self.recipe, self.corpus.output, self.corpus.stored_shard(shard.id)
        curated = curated_unread(stored, shard, recipe, self.models.connection) if stored else None
        data = stored.copied(curated.kept, output) if stored and curated else None
        if curated is None or data is None:
            curated = curate(
                self.of_worker(shard), recipe, self.models, results=self._known(shard, stored), watch=watch()
            )
            data = stored.copied(curated.kept, output) if stored else None
        return commit(curated, recipe, output, data)

    def _known(self, shard: Shard, stored: StoredShard | None) -> CorpusResults:
        """What is known of a shard before it is read."""
        from gneiss.curate.curate import NO_RESULTS

        found = self.results(self.numbers[shard.id]) if self.numbers else NO_RESULTS
        return stored.added_to(found) if stored else found

    def together(self, shards: Sequence[Shard]) -> Sequence[Receipt | None]:
        """Curate shards of which nothing is known; None for one that cannot be read; see BundleWork.

        While small ones are decided together, those after them are read, and those before them written. Of larger ones
        one is decided, one read and one written at a time.
        """
        from gneiss.curate.curate import curate_together
        from gneiss.curate.reading import Documents, read_documents
        from gneiss.output.commit import commit

        recipe, output = self.recipe, self.corpus.output

        def read(shard: Shard) -> tuple[Shard, Documents] | None:
            own = reading_on()(shard)  # which keeps what it has read until it is written
            try:
                return own, read_documents(own, recipe.input.text, recipe.inputs)
            except InputError:
                return None

        most = _TOGETHER if sum(shard.text_bytes for shard in shards) <= _SMALL_BYTES else 1
        readers, writers = (min(store.files_at_once, most) for store in (shards[0].file.store, output.store))
        parts = _parts((one for one in at_once(read, shards, readers) if one is not None), most)
        curated = (shard for part in parts for shard in curate_together(part, recipe, self.models, watch=watch()))
        with output.together() as folder:
            receipts = {
                receipt.task: receipt
                for receipt in at_once(lambda result: commit(result, recipe, folder), curated, writers)
            }
        return [receipts.get(shard.id) for shard in shards]


def _parts(items: Iterable[_Item], most: int) -> Iterator[list[_Item]]:
    left = iter(items)
    while part := list(islice(left, most)):
        yield part
