"""Corpus scope: duplicate spans across shards that never meet in one memory.

Pure functions of tasks over Arrow record batches. A shard's batches go to the partitions (one batch each), a
partition's answers to the shards (one batch each), in three exchanges; how they travel is the caller's. Partitions are
by the hashes of anchors (`anchors.selection`), so that all equal windows meet in one. Shards, then documents, are in
corpus order, unless an order of the documents comes with their contents.

`Selected.of` selects the anchors of a shard, once; the map tasks of the first three exchanges take them.

| exchange | a shard sends to a partition (`Units` → batches) | the partition answers to a shard |
| --- | --- | --- |
| 1 | `shard_keys`: key 4, for each anchor | `repeated_keys`: 1 bit for each anchor |
| 2 | `shard_contents`: key 4, hash of the super-window 16, row 4, start 4, count 4, for each repeated anchor; with \
an order of documents also that, 8 | \
`wanted_texts`: 1 bit for each repeated anchor |
| 3 | `shard_texts`: units beyond the neighbour's, 8 + their bytes, for each wanted anchor | `answer_shards`: row 4, \
start 4, count 4, source shard 4, row 4, start 4, for each run of repeats or first windows |
| last | `shard_cuts`: what to cut, from the answers of all partitions | |

Of a corpus that is known by an index there are `Passages` for each shard, which have all windows. Those that may have a
partner in the shards at hand (`key_filter`, `sought_passages`) take part in every exchange, as shards that come first;
they get no answers.

Sizes are bytes of a record before compression; rows and starts are steps from one to the next. Sources start at a
unit: where units are tokens, only the shard of a source knows the byte. The place of a record in its batch says which
anchor it is.

Equality of text that is not at hand rests on 128 bits of hash; what is at hand is compared by units. The answer depends
neither on partitions, passes and seed nor on the order in which tasks run.
"""

from __future__ import annotations

from gneiss.dedup.corpus_scope.answers import answer_shards
from gneiss.dedup.corpus_scope.contents import shard_contents, wanted_texts
from gneiss.dedup.corpus_scope.cuts import shard_cuts
from gneiss.dedup.corpus_scope.keys import repeated_keys, shard_keys
from gneiss.dedup.corpus_scope.passages import Passages, shard_passages
from gneiss.dedup.corpus_scope.scheme import Scheme, partitions_for, passes_for
from gneiss.dedup.corpus_scope.selected import Selected
from gneiss.dedup.corpus_scope.sought import key_filter, sought_passages
from gneiss.dedup.corpus_scope.texts import shard_texts

__all__ = [
    "Passages",
    "Scheme",
    "Selected",
    "answer_shards",
    "key_filter",
    "partitions_for",
    "passes_for",
    "repeated_keys",
    "shard_contents",
    "shard_cuts",
    "shard_keys",
    "shard_passages",
    "shard_texts",
    "sought_passages",
    "wanted_texts",
]
