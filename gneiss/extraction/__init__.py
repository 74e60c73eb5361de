"""From a crawl to documents: records of archives, pages out of records, text out of pages, Parquet shards out of text.

`records` reads, `ranges` puts right where it began to, `pages` decides by headers, `inside` (in a process of its own,
which `sandbox` watches) decodes bodies and runs an extractor, `tables` writes, `step` does all that for one task, and
`job` for an input.
"""

from gneiss.extraction.records import read_record

__all__ = ["read_record"]
