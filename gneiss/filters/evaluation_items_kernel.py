"""Items of evaluation sets as weighted n-grams, and how much of each a document has.

The weight of a word falls with the number of texts of the sets that have it, and an n-gram weighs what its words do:
one of common words counts little. Weights are whole thousandths, so that sums do not depend on their order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numba import njit

from gneiss.arrays import BoolArray, Float64Array, Int, Int64Array, UInt64Array, distinct_values
from gneiss.batch import TextBatch
from gneiss.filters.contamination_kernel import NgramTable, matches, table_of
from gneiss.filters.contamination_words import BASE, WORD_WEIGHT, FoldedWords, folded_words

#: An n-gram that more texts have than this is a template, and counts nothing.
MOST_TEXTS = 1_000
#: Pairs of a document's n-grams and the texts that have them, which are looked at together.
_PAIRS = 4_000_000
#: Up to how many words a text must be there whole, and from how many on its threshold is the lowest.
SHORT_WORDS, LONG_WORDS = 15, 40


@dataclass(frozen=True, eq=False)
class ItemTable:
    """The n-grams of the texts of all items: the sets of `ngrams` are the texts.

    weights: of each n-gram, int64 (ngrams,); totals: of all n-grams of a text, int64 (texts,), 0 where it has none;
    thresholds: the share of that from which on a document has the text, float64 (texts,).
    """

    ngrams: NgramTable
    weights: Int64Array
    totals: Int64Array
    thresholds: Float64Array


@dataclass(frozen=True, eq=False)
class Matches:
    """What documents of a batch have of texts: (pairs,), by document and text.

    document, text: int64; match: float64, the share of the text's weight in the document over the text's threshold.
    """

    document: Int64Array
    text: Int64Array
    match: Float64Array


def item_table(texts: TextBatch, ngram_words: int, min_words: int, threshold: float) -> ItemTable:
    """The n-grams of texts of at least `min_words` words; threshold: of a long text, up to 1 for a short one."""
    words = folded_words(texts)
    worth = np.append(0, np.cumsum(_worths(words)))
    weight = ngram_words * WORD_WEIGHT
    powers = np.array([pow(BASE, exponent, 1 << 64) for exponent in range(weight + 1)], np.uint64)
    size = (words.weights[words.documents[1:]] - words.weights[words.documents[:-1]]) / WORD_WEIGHT
    found = _ngrams_of_texts(words, worth, weight, powers, size >= min_words)
    hashes, text, value = found
    order = np.lexsort((text, hashes))
    hashes, text, value = hashes[order], text[order], value[order]
    distinct = np.append(True, (hashes[1:] != hashes[:-1]) | (text[1:] != text[:-1]))[: len(hashes)]
    hashes, text, value = hashes[distinct], text[distinct], value[distinct]
    _, place, count = np.unique(hashes, return_inverse=True, return_counts=True)
    rare = count[place] <= MOST_TEXTS
    hashes, text, value = hashes[rare], text[rare], value[rare]
    table = table_of(hashes, text.astype(np.int32), len(texts), weight, powers)
    totals = np.zeros(len(texts), np.int64)
    np.add.at(totals, text, value)
    short = np.clip((LONG_WORDS - size) / (LONG_WORDS - SHORT_WORDS), 0.0, 1.0)
    return ItemTable(table, value[table.firsts[:-1]], totals, threshold + (1.0 - threshold) * short)


def matching(batch: TextBatch, table: ItemTable) -> Matches:
    """Which texts the documents of a batch have something of, and how much."""
    parts = [_matched(document, ngram, table) for document, ngram in _portions(batch, table)]
    document, text, match = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Matches(document, text, match)


def _portions(batch: TextBatch, table: ItemTable) -> Iterator[tuple[Int64Array, Int64Array]]:
    """The n-grams that documents share with texts, a portion of whole documents with not too many pairs at a time."""
    document, ngram = matches(batch, table.ngrams)
    pairs = np.append(0, np.cumsum(np.diff(table.ngrams.firsts)[ngram]))
    opens = np.flatnonzero(np.append(True, document[1:] != document[:-1])[: len(document)])
    edges = [0]
    for low, high in pairwise([*opens.tolist(), len(document)]):
        if pairs[high] - pairs[edges[-1]] > _PAIRS and low > edges[-1]:
            edges.append(low)
    for low, high in pairwise([*edges, len(document)]):
        yield document[low:high], ngram[low:high]


def _matched(document: Int64Array, ngram: Int64Array, table: ItemTable) -> tuple[Int64Array, Int64Array, Float64Array]:
    first, count = table.ngrams.firsts[ngram], np.diff(table.ngrams.firsts)[ngram]
    pair = np.repeat(first - np.cumsum(count) + count, count) + np.arange(count.sum())
    texts = len(table.totals)
    key = np.repeat(document, count) * texts + table.ngrams.sets[pair]
    order = np.argsort(key, kind="stable")
    key, value = key[order], np.repeat(table.weights[ngram], count)[order]
    opens = np.flatnonzero(np.append(True, key[1:] != key[:-1])[: len(key)])
    sums = np.add.reduceat(value, opens) if len(opens) else np.empty(0, np.int64)
    text = key[opens] % max(texts, 1)
    return key[opens] // max(texts, 1), text, sums / table.totals[text] / table.thresholds[text]


def _worths(words: FoldedWords) -> Int64Array:
    """What each word is worth, in thousandths: log((1 + texts) / texts with it), at least 1."""
    texts = len(words.documents) - 1
    with np.errstate(over="ignore"):
        hashes = words.sums[1:] - words.sums[:-1] * np.uint64(BASE)
    _, word = np.unique(hashes, return_inverse=True)
    pairs = distinct_values(word * np.int64(texts + 1) + np.repeat(np.arange(texts), np.diff(words.documents)))
    having = np.bincount(pairs // (texts + 1))
    distinct, place = np.unique(having, return_inverse=True)
    logs = [max(1, round(1000 * math.log((1 + texts) / n))) for n in distinct.tolist()]
    return np.array(logs, np.int64)[place][word] if len(word) else np.empty(0, np.int64)


@njit(cache=True, nogil=True)
def _ngrams_of_texts(
    words: FoldedWords, worth: Int64Array, weight: Int, powers: UInt64Array, taken: BoolArray
) -> tuple[UInt64Array, Int64Array, Int64Array]:
    """The hash of each n-gram of the texts that are taken, the text that it is in, and its weight."""
    sums, weights, documents = words
    most = len(sums)
    found, text, value = np.empty(most, np.uint64), np.empty(most, np.int64), np.empty(most, np.int64)
    count = 0
    for document in range(len(documents) - 1):
        first, last = documents[document], documents[document + 1]
        end = first
        for word in range(first, last if taken[document] else first):
            while end < last and weights[end] - weights[word] < weight:
                end += 1
            if weights[end] - weights[word] < weight:
                break
            found[count] = sums[end] - sums[word] * powers[end - word]
            text[count], value[count] = document, worth[end] - worth[word]
            count += 1
    return found[:count], text[:count], value[:count]
