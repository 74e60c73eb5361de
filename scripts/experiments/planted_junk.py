"""Real text with planted junk of five kinds, half of the bytes, and the corpora that recipes make of it.

What is planted, each a tenth of the bytes: `boilerplate`, the menus, notices and banners of pages without a text;
`machine`, base64, hexadecimal dumps, log lines and tables of numbers; `shuffled`, real documents with their words in
random order; `templates`, eight real documents again and again, some words replaced; `seo`, lists of search phrases.
What is real: pages of a corpus that are mostly ASCII, one of each near-duplicate cluster, cut to a length. The real
documents that are held out, and those that the quality model is trained on, are not among those of the corpus.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from planting import firsts, made, shortened, up_to, with_replaced_words, write_input

import gneiss
from gneiss.model_training import Settings, train_quality

KINDS = ("real", "boilerplate", "machine", "shuffled", "templates", "seo")
#: Recipe → what it keeps; the ensemble is GneissWeb's, with a model of one's own.
KEEP: Mapping[str, str] = {
    "raw": "not_emptied",
    "dedup": "once",
    "dedup + quality": "once AND quality",
    "dedup + readability": "once AND readable",
    "dedup + tokens": "once AND tokens_normal",
    "dedup + Gopher": "once AND words",
    "ensemble": "once AND quality AND (readable OR tokens_normal)",
}
RECIPE = """
name: ladder
description: Near-duplicates, a quality model, EFLAW, tokens per character and two of Gopher's rules.
input: {text: text, id: id}
phases:
  - name: ladder
    near_duplicates: {}
    annotate:
      - fasttext: {models: {prose: {source: MODEL, label: hq}}}
      - readability
      - tokens: {tokenizer: "builtin:cl100k_base"}
      - gopher_quality
    rules:
      not_emptied: text_chars > 0
      once: near_first
      quality: prose > 0.25
      readable: eflaw < 30
      tokens_normal: tokens_per_char BETWEEN 0.2 AND 0.3
      words: >-
        gopher_letter_word_fraction >= 0.8 AND gopher_mean_word_length BETWEEN 3 AND 10
        AND gopher_distinct_stop_words >= 2
    keep: not_emptied
"""
_MENU = (
    "Home", "About us", "Contact", "Log in", "Sign up", "My account", "Cart", "Checkout", "Search", "Menu", "Next »",
    "« Previous", "Share on Facebook", "Tweet", "Print this page", "Subscribe to our newsletter", "Privacy policy",
    "Terms of use", "Cookie settings", "Accept all cookies", "This site uses cookies to improve your experience.",
    "All rights reserved.", "Back to top", "Read more", "Leave a comment", "You must be logged in to post a comment.",
    "Related articles", "Most popular", "Page 1 of 12", "Loading…", "Advertisement", "Skip to main content",
)  # fmt: skip
_GOODS = (
    "shoes",
    "watches",
    "hotels",
    "loans",
    "insurance",
    "casino",
    "tickets",
    "phones",
    "flights",
    "lawyers",
    "mattress",
    "vitamins",
)
_WISHES = (
    "buy",
    "cheap",
    "best",
    "discount",
    "online",
    "near me",
    "free shipping",
    "2024",
    "review",
    "price",
    "sale",
    "top 10",
)


@dataclass(frozen=True)
class Planting:
    """How a corpus is made."""

    corpus_bytes: int = 3_000_000
    junk_share: float = 0.5
    document_bytes: int = 2500
    held_out_documents: int = 40
    reference_documents: int = 250
    templates: int = 8
    replaced_words: float = 0.02
    seed: int = 0


@dataclass(frozen=True)
class Planted:
    """texts and their kinds, shuffled; held_out: domain → texts; labels: texts and `hq` or `cc`, for a model."""

    texts: tuple[str, ...]
    kinds: tuple[str, ...]
    held_out: Mapping[str, tuple[str, ...]]
    labels: tuple[tuple[str, str], ...]


def real_texts(corpus: Path, document_bytes: int) -> list[tuple[str, str]]:
    """Domain and text of the real documents, of the columns `source` and `text`."""
    rows = [
        (row["source"], shortened(row["text"], document_bytes))
        for path in sorted(corpus.glob("*.parquet"))
        for row in pq.read_table(path, columns=["source", "text"]).to_pylist()
        if row["text"] and sum(map(str.isascii, row["text"])) > 0.98 * len(row["text"]) and len(row["text"]) >= 300
    ]
    return [rows[place] for place in firsts([text for _, text in rows])]


def plant(real: Sequence[tuple[str, str]], planting: Planting) -> Planted:
    """Plant junk among real documents. Raises SystemExit where there are too few."""
    rng = random.Random(planting.seed)
    shuffled = sorted(real)
    rng.shuffle(shuffled)
    held_out: dict[str, tuple[str, ...]] = {}
    rest: list[str] = []
    for domain, group in groupby(sorted(shuffled, key=lambda row: row[0]), key=lambda row: row[0]):
        texts = [text for _, text in group]
        is_large = len(texts) >= 4 * planting.held_out_documents
        if is_large:
            held_out[domain] = tuple(texts[: planting.held_out_documents])
        rest += texts[planting.held_out_documents if is_large else 0 :]
    rng.shuffle(rest)
    reference, rest = rest[: planting.reference_documents], rest[planting.reference_documents :]
    others, rest = rest[: planting.reference_documents], rest[planting.reference_documents :]
    makers = _makers(others, planting, rng)
    unused, share = iter(rest), planting.junk_share / len(makers)
    shares = {
        **{kind: (share, make) for kind, make in makers.items()},
        "real": (1 - planting.junk_share, lambda: next(unused)),
    }
    planted, kinds = made(shares, planting.corpus_bytes, rng, len(real))
    # As DCLM's authors did: reference texts against whatever a crawl holds, of which nobody says what is junk.
    crawl = others + [text for make in makers.values() for text in up_to(sum(map(len, others)) / len(makers), make)]
    labels = [*((text, "hq") for text in reference), *((text, "cc") for text in crawl)]
    return Planted(planted, kinds, held_out, tuple(labels))


def _makers(others: Sequence[str], planting: Planting, rng: random.Random) -> dict[str, Callable[[], str]]:
    """Kind of junk → a function that makes a document of it, from real documents that are not in the corpus."""
    vocabulary = " ".join(others).split()
    templates = others[: planting.templates]

    def size() -> int:
        return rng.randrange(planting.document_bytes // 3, planting.document_bytes)

    def boilerplate() -> str:
        return "\n".join(up_to(size(), lambda: rng.choice(_MENU)))

    def machine() -> str:
        line = rng.choice(
            [
                lambda: base64.b64encode(rng.randbytes(57)).decode(),
                lambda: " ".join(f"{byte:02x}" for byte in rng.randbytes(16)),
                lambda: " ".join(f"{rng.gauss(0, 100):.3f}" for _ in range(8)),
                lambda: (
                    f"2024-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}T{rng.randint(0, 23):02}:00 "
                    f"pid={rng.randint(1, 65535)} rc={rng.randint(0, 255)} {rng.randbytes(8).hex()}"
                ),
            ]
        )
        return "\n".join(up_to(size(), line))

    def shuffled() -> str:
        words = rng.choice(others).split()
        rng.shuffle(words)
        return " ".join(words)

    def template() -> str:
        return with_replaced_words(rng.choice(templates), planting.replaced_words, vocabulary, rng)

    def seo() -> str:
        return ", ".join(up_to(size(), lambda: f"{rng.choice(_WISHES)} {rng.choice(_GOODS)} {rng.choice(_WISHES)}"))

    return {"boilerplate": boilerplate, "machine": machine, "shuffled": shuffled, "templates": template, "seo": seo}


def curate(planted: Planted, folder: Path) -> dict[str, Path]:
    """Train the quality model, annotate once, and decide by each recipe; recipe → its output."""
    source = write_input(folder, planted.texts, planted.kinds)
    texts, labels = zip(*planted.labels, strict=True)
    pq.write_table(pa.table({"text": texts, "label": labels}), folder / "labels.parquet")
    model = train_quality(folder / "labels.parquet", folder / "model", settings=Settings(buckets=100_000, epochs=20))
    recipe = gneiss.Recipe.parse(RECIPE.replace("MODEL", str(model.path)))
    outputs = {name: folder / "runs" / name.replace(" + ", "-") for name in KEEP}
    gneiss.run(recipe, source, outputs["raw"], workers=1, backend="local")
    for name, keep in KEEP.items():
        if name != "raw":
            changed = recipe.changed({"phases.ladder.keep": keep})
            gneiss.decide(changed, outputs["raw"], outputs[name], workers=1, backend="local")
    return outputs


def kept(output: Path) -> list[tuple[str, str]]:
    """Text and kind of the documents that a run kept."""
    tables = [pq.read_table(path, columns=["text", "kind"]) for path in sorted((output / "data").rglob("*.parquet"))]
    return [(row["text"], row["kind"]) for table in tables for row in table.to_pylist()]
