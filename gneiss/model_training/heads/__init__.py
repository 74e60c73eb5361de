"""Heads in workers of their own: each scores all documents of a run, and a coded one stands in for one that is lost.

`head` is one and its file, `building` makes the coded one, `board` knows who has scored what and whom nobody waits for,
`shard_scores` a shard's scores from what there is, `scoring` runs all of it over the documents of a finished run.
"""
