"""Sites with a few labelled documents each, whose mixes of labels differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gneiss.model_training.federated.engines import Site
from gneiss.model_training.federated.features import FeatureSpace
from gneiss.model_training.federated.federation import Federation
from gneiss.model_training.federated.message import Message
from gneiss.model_training.federated.site import DocumentSite
from gneiss.model_training.federated.site_documents import SiteFiles
from gneiss.model_training.federated.strategies.by_name import default_rates
from gneiss.model_training.labels import Rule
from gneiss.store.place import place_of

WORDS = tuple(f"w{number}" for number in range(40))
SPACE = FeatureSpace.of(WORDS, word_ngrams=2, buckets=64)
RULE = Rule("label", ("hq",))
MOST_BYTES = 1 << 22
#: Site → share of its documents that are good.
MIXES = {"ann": 0.9, "bob": 0.2, "cee": 0.5}


def documents(site: str, count: int = 40, seed: int = 0) -> pa.Table:
    """Good documents have words of low numbers rather."""
    draw = np.random.default_rng([seed, *site.encode()])
    good = draw.random(count) < MIXES.get(site, 0.5)
    drawn = [draw.beta(1 if is_good else 2, 2 if is_good else 1, 12) for is_good in good]
    texts = [" ".join(WORDS[int(at * len(WORDS))] for at in of_text) for of_text in drawn]
    return pa.table({"text": texts, "label": ["hq" if is_good else "cc" for is_good in good]})


def site_files(folder: Path, site: str, space: FeatureSpace = SPACE, **others: Any) -> SiteFiles:
    """A site of a folder, whose labels are written if they are not there."""
    home = folder / site
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "labels.parquet").exists():
        pq.write_table(documents(site), home / "labels.parquet")
    return SiteFiles(site, place_of(home / "labels.parquet"), place_of(home), space, RULE, **others)


def sites_of(folder: Path, names: Mapping[str, float] = MIXES, **others: Any) -> dict[str, DocumentSite]:
    """All of them."""
    return {name: DocumentSite(site_files(folder, name, **others)) for name in names}


def federation(strategy: str = "fadam_gt", rounds: int = 3, **others: Any) -> Federation:
    """A short training across them."""
    values: dict[str, Any] = {
        "sites": tuple(sorted(MIXES)), "features": SPACE.sha256, "words": len(SPACE.words), "word_ngrams": 2,
        "buckets": 64, "labels": ("cc", "hq"), "rates": default_rates(strategy, 3, 2), "concurrency": 2,
    }  # fmt: skip
    return Federation(strategy, rounds=rounds, **{**values, **others})


class Mistaken:
    """A site that answers something else to some rounds."""

    def __init__(self, site: Site, of_round: Callable[[int, Message], Message]) -> None:
        self._site, self._of_round = site, of_round

    def work(self, task: Message) -> Message:
        """See Site."""
        return self._of_round(task.meta["round"], self._site.work(task))
