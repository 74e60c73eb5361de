"""Duplicate documents written out slowly: what the steps of `gneiss.dedup.minhash` are held to."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from itertools import combinations

from gneiss.dedup.minhash.criteria import Verification
from gneiss.dedup.minhash.normalization_kernel import REMOVED_RANGES
from gneiss.dedup.minhash.shingles import BASE, SHINGLE_FACTOR, SHINGLE_SEED, WORD_FACTOR, WORD_SEED
from gneiss.dedup.minhash.unspaced import UNSPACED_RANGES

_ALL = 2**64 - 1
Shingle = tuple[str, ...]


def characters_of(ranges: str) -> set[str]:
    """The characters in ranges of code points."""
    bounds = [[int(end, 16) for end in item.split("-")] for item in ranges.split()]
    return {chr(code) for ends in bounds for code in range(ends[0], ends[-1] + 1)}


#: What the normalization `words` removes.
REMOVED = characters_of(REMOVED_RANGES)
#: A character that is a word by itself, as a regular expression.
UNSPACED = f"[{''.join(re.sub('[0-9A-F]+', lambda match: chr(int(match[0], 16)), UNSPACED_RANGES).split())}]"


def normalized(text: str, normalize: str) -> str:
    """A text as `normalize` leaves it."""
    if normalize == "words":
        text = "".join(character for character in text if character not in REMOVED)
        text = re.sub("[A-Z]", lambda match: match[0].lower(), re.sub("[0-9]+", "0", text))
    return " ".join(text.split())


def weighed_words(text: str) -> list[tuple[str, int]]:
    """The words of a normalized text with their weights: 1 for a character that is a word by itself, else 2."""
    found = re.findall(f"{UNSPACED}|(?:(?!{UNSPACED})[^ ])+", text)
    return [(word, 1 if re.fullmatch(UNSPACED, word) else 2) for word in found]


def shingles(text: str, shingle_words: int) -> set[Shingle]:
    """The n-grams of the words of a normalized text: the shortest up to each word that weigh as much as n words."""
    words = weighed_words(text)
    found = set()
    for end in range(1, len(words) + 1):
        weight, start = 0, end
        while start > 0 and weight < 2 * shingle_words:
            start -= 1
            weight += words[start][1]
        if weight >= 2 * shingle_words:
            found.add(tuple(word for word, _ in words[start:end]))
    return found or ({tuple(word for word, _ in words)} if words else set())


def fold(one: int, other: int) -> int:
    """The halves of the product of two 64-bit words, exclusive-ored."""
    return (one * other ^ one * other >> 64) & _ALL


def hash_word(word: str) -> int:
    """The hash of a word."""
    value, octets = WORD_SEED, word.encode() + b" "
    for start in range(0, len(octets), 8):
        value = fold(value ^ int.from_bytes(octets[start : start + 8], "little"), WORD_FACTOR)
    return value


def hash_shingle(shingle: Shingle) -> int:
    """The hash of an n-gram, 32 bits; also what datasketch is given as hash function."""
    polynomial = 0
    for word in shingle:
        polynomial = (polynomial * BASE + hash_word(word)) & _ALL
    return fold(polynomial ^ SHINGLE_SEED, SHINGLE_FACTOR) >> 32


def mixed(value: int) -> int:
    """The finalizer of MurmurHash3, 32 bits."""
    value = (value ^ value >> 16) * 0x85EBCA6B % 2**32
    value = (value ^ value >> 13) * 0xC2B2AE35 % 2**32
    return value ^ value >> 16


def signature(found: set[Shingle], factors: Sequence[int], summands: Sequence[int]) -> list[int]:
    """The least of all permuted hashes, for each permutation."""
    hashes = [mixed(hash_shingle(shingle)) for shingle in found]
    permutations = zip(factors, summands, strict=True)
    return [min((factor * value + summand) % 2**32 for value in hashes) for factor, summand in permutations]


def components(keys: Sequence[set[Hashable]]) -> list[tuple[int, int, int]]:
    """Clusters of documents that share a key: document, first and size, for those that are not alone."""
    neighbours: list[set[int]] = [set() for _ in keys]
    for one, other in combinations(range(len(keys)), 2):
        if keys[one] & keys[other]:
            neighbours[one].add(other)
            neighbours[other].add(one)
    return components_of(neighbours)


def components_of(neighbours: Sequence[set[int]]) -> list[tuple[int, int, int]]:
    """The same from the neighbours of each document."""
    found = []
    for document in range(len(neighbours)):
        reached, frontier = {document}, [document]
        while frontier:
            fresh = neighbours[frontier.pop()] - reached
            reached |= fresh
            frontier += fresh
        if len(reached) > 1:
            found.append((document, min(reached), len(reached)))
    return found


def verified(
    keys: Sequence[set[Hashable]],
    words: Sequence[Hashable],
    sets: Sequence[set[Shingle]],
    verification: Verification,
    most_compared: int,
    order: Sequence[int] | None = None,
) -> list[tuple[int, int, int, float | None]]:
    """Verified clusters: document, first, size and similarity to the first, for those that are not alone.

    Documents are by their numbers; `order`: in which they are preferred, by default as they come.
    """
    buckets: dict[Hashable, list[int]] = {}
    standing: dict[Hashable, int] = {}
    members: dict[int, list[int]] = {}
    first: dict[int, int] = {}
    distinct: dict[int, list[int]] = {}
    for document in range(len(keys)) if order is None else order:
        if not keys[document]:
            continue
        first[document] = document
        if words[document] in standing:
            first[document] = first[standing[words[document]]]
        else:
            standing[words[document]] = document
            compared = {earlier for key in keys[document] for earlier in buckets.get(key, [])[:most_compared]}
            alike = {
                earlier for earlier in compared if _similarity(sets[document], sets[earlier], verification) is not None
            }
            rising = [earlier for earlier in first if earlier in alike]
            for earlier in rising:
                needed = {earlier} if verification.clusters == "star" else set(distinct.get(earlier, []))
                if first[earlier] == earlier and needed <= alike:
                    first[document] = earlier
                    break
            for key in keys[document]:
                buckets.setdefault(key, []).append(document)
            distinct.setdefault(first[document], []).append(document)
        members.setdefault(first[document], []).append(document)
    found = []
    for cluster in members.values():
        for document in cluster if len(cluster) > 1 else []:
            one = cluster[0]
            similarity = None if document == one else _similarity(sets[document], sets[one], verification)
            found.append((document, one, len(cluster), similarity))
    return sorted(found)


def _similarity(one: set[Shingle], other: set[Shingle], verification: Verification) -> float | None:
    """How similar two sets are, if it is enough."""
    over = min(len(one), len(other)) if verification.similarity == "containment" else len(one | other)
    similarity = len(one & other) / over
    return similarity if similarity >= verification.at_least else None
