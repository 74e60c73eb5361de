"""Block lists over the documents' URLs: domains, and words in the address."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gneiss.annotation import Annotate, Annotator, Column
from gneiss.arrays import UInt64Array
from gneiss.errors import RecipeError
from gneiss.filters.hosts import host_of
from gneiss.filters.page import Page
from gneiss.filters.url_lists import read_domains, read_words

if TYPE_CHECKING:
    import pyarrow as pa

    from gneiss.batch import TextBatch

PAGES = (
    Page(
        code="UR01",
        name="urls",
        summary="Drops documents from listed domains, and those with listed words in their URL.",
        why=(
            "Many projects maintain lists of adult, fraudulent and spam domains, and a URL often indicates "
            "the kind of page. This is the cheapest filter, and it does not need the text. You provide the "
            "lists; none is packaged."
        ),
        formula=(
            "A domain is listed if the host, or any parent domain of it, is in a list of domains. The host "
            "is that of the WHATWG URL Standard, in ASCII (IDNA), even if the scheme is missing. Lists of "
            "domains are read in their published formats: one domain per line, *.domain (which includes the "
            "domain itself), ||domain^ of ad blockers, hosts files, dnsmasq's address=/domain/. Words are "
            "the runs of ASCII letters and digits of the URL in lower case, each distinct word counted once. "
            "An entry that can never match is refused"
        ),
        source=(
            "Penedo et al. 2023 (arXiv 2306.01116) and Penedo et al. 2024 (arXiv 2406.17557), URL filtering; two soft "
            "words as in datatrove's URLFilter"
        ),
        cost="about 5 microseconds per URL, and 8 bytes of memory per domain",
        example_kept="https://museum.example.org/collection/barometers",
        example_dropped="https://cdn.listed.example/free-casino-bonus",
        rules={"url_allowed": "NOT url_domain_listed AND url_words = 0 AND url_soft_words < 2"},
    ),
)

_NOT_IN_WORDS = re.compile("[^a-z0-9]+")


@dataclass(frozen=True)
class Urls(Annotator):
    """Whether a URL's domain is listed, and the number of listed words in it.

    domains, words, soft_words: UTF-8 files with one entry per line, case-insensitive, as `gneiss.filters.url_lists`
    reads them; what follows # is a comment. Several files of a kind form one list. It annotates the documents' URLs,
    not their texts.

    >>> Urls(domains=("blocked.txt",)).columns[0].name
    'url_domain_listed'
    """

    key = "urls"
    reads = "url"

    domains: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    soft_words: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.model_files:
            raise RecipeError("urls: expected at least one list: domains, words or soft_words")

    @property
    def columns(self) -> tuple[Column, ...]:
        """The annotations it computes, in order."""
        return (
            Column("url_domain_listed", "bool", "the host or a parent domain of it is in the lists of domains"),
            Column("url_words", "int64", "different words of the URL that are in the lists of words"),
            Column("url_soft_words", "int64", "different words of the URL that are in the lists of soft words"),
        )

    @property
    def model_files(self) -> tuple[str, ...]:
        """The files of the lists, without repeats."""
        return tuple(dict.fromkeys((*self.domains, *self.words, *self.soft_words)))

    def load(self, files: Mapping[str, Path]) -> Annotate:
        """Read the lists and return the function that annotates a batch of URLs.

        Raises ModelError when a list cannot be read, has no entry, or has one that can never match.
        """
        import numpy as np

        domains = np.unique(_hashes(entry for source in self.domains for entry in read_domains(files[source])))
        words = frozenset(entry for source in self.words for entry in read_words(files[source]))
        soft_words = frozenset(entry for source in self.soft_words for entry in read_words(files[source]))

        def compute(urls: TextBatch) -> Mapping[str, pa.Array]:
            import pyarrow as pa

            texts = urls.texts()
            of_each = [frozenset(_NOT_IN_WORDS.split(url.lower())) for url in texts]
            return {
                "url_domain_listed": pa.array([bool(_listed(domains, host_of(url))) for url in texts], pa.bool_()),
                "url_words": pa.array([len(of & words) for of in of_each], pa.int64()),
                "url_soft_words": pa.array([len(of & soft_words) for of in of_each], pa.int64()),
            }

        return compute


def _hashes(entries: Iterable[str]) -> UInt64Array:
    import numpy as np
    import xxhash

    return np.fromiter((xxhash.xxh3_64_intdigest(entry.encode()) for entry in entries), np.uint64)


def _listed(domains: UInt64Array, host: str) -> bool:
    """Whether a host or a parent domain of it has one of these sorted hashes."""
    import numpy as np

    if not host or not len(domains):
        return False
    parts = host.split(".")
    hashes = _hashes(".".join(parts[first:]) for first in range(min(len(parts), 127)))  # the maximum of a name
    places = np.minimum(np.searchsorted(domains, hashes), len(domains) - 1)
    return bool((domains[places] == hashes).any())
