"""Duplicate documents across shards: exact ones by a hash of the text, near-duplicates by MinHash.

Pure functions of tasks over Arrow record batches, the same for both: a `Criterion` says which keys a document has, and
documents that share a key are duplicates. How batches travel is the caller's. Shards, then documents, are in corpus
order; the earliest of a cluster is the one to keep.

| stage | over | sends |
| --- | --- | --- |
| 1 | shards: `shard_keys` | to each partition: key 16, row 4, for each key |
| 2 | partitions: `matched` | shard 4, row 4, first shard 4, row 4, for each key that an earlier document has |
| 3 | ranges of shards, the last first: `joined` | to each earlier range: links and components, 40 each |
| 4 | ranges, the first first: `resolved` | to each shard: row 4, first shard 4, row 4, size 8, for each in a cluster |

Sizes are bytes of a record before compression; a document has one key (`ExactDuplicates`) or one for each band
(`NearDuplicates`: 14). Equality rests on 128 bits of hash. The answer depends neither on partitions, passes and cuts
into shards nor on the order in which tasks run.
"""
