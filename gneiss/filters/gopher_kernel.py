"""The counts behind Gopher's rules, over the shared words, lines and paragraphs of a text batch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit, uint64

from gneiss.batch import TextBatch
from gneiss.filters.seen import find_or_add, mixed, seen_keys, slot_mask
from gneiss.filters.segmentation import (
    FIRST_OF_LINE,
    HAS_LETTER,
    HAS_ORDINARY,
    HASH_BASE,
    HASH_BASE_INVERSE,
    hash_bytes,
    hash_power,
    lines,
    paragraphs,
    whitespace_words,
)

#: Columns of `quality_counts`.
ALL_WORDS, WORDS, WORD_CHARS, LETTER_WORDS, HASHES, ELLIPSES, LINES, BULLET_LINES, ELLIPSIS_LINES, STOP_WORDS = range(10)
#: Columns of `repetition_counts`: elements, repeated elements and their code points; then code points of n-grams.
LINE_COUNT, REPEATED_LINES, REPEATED_LINE_CHARS, PARAGRAPH_COUNT, REPEATED_PARAGRAPHS, REPEATED_PARAGRAPH_CHARS = range(6)
TOP_NGRAMS, REPEATED_NGRAMS = (2, 3, 4), (5, 6, 7, 8, 9, 10)
TOP_NGRAM_CHARS = 6
REPEATED_NGRAM_CHARS = TOP_NGRAM_CHARS + len(TOP_NGRAMS)
_COLUMNS = REPEATED_NGRAM_CHARS + len(REPEATED_NGRAMS)
_LONGEST_TOP, _LONGEST = TOP_NGRAMS[-1], REPEATED_NGRAMS[-1]
_NGRAM_FACTOR = 0xA24B_AED4_963E_E407  # of no meaning, odd, and not the base of the words' own hashes


def quality_counts(batch: TextBatch, stop_words: tuple[str, ...]) -> npt.NDArray[np.int64]:
    """What Gopher's quality rules count, int64 (documents, 10).

    All words; words with a character that is no symbol, and their code points; words with a letter; "#"; "..." and
    "…"; lines of `str.splitlines`, those that begin with "-" or "•", those that end with "..." or "…" (white space
    aside); different stop words.
    """
    words = batch.view(whitespace_words)
    encoded = [np.frombuffer(word.encode(), np.uint8) for word in stop_words]
    stop_hashes = np.array([hash_bytes(word, 0, len(word)) for word in encoded], np.uint64)
    longest_stop_word = max((len(word) for word in encoded), default=0)
    counts = np.zeros((len(batch), 10), np.int64)
    counts[:, LINES] = words.text_lines
    _quality(
        batch.data, batch.offsets, words.starts, words.stops, words.lengths, words.kinds, words.hashes,
        words.documents, stop_hashes, longest_stop_word, counts,
    )  # fmt: skip
    return counts


def repetition_counts(batch: TextBatch) -> npt.NDArray[np.int64]:
    """What Gopher's repetition rules count, int64 (documents, 15).

    Lines are what `re.split("\\n+", text)` gives. The n-grams' code points: of the most frequent n-gram of 2, 3 and 4
    words, the first of them if there are several, with a space between words, times its occurrences; of all later
    occurrences of n-grams of 5 to 10 words, equal if they are when their words are joined without a space, from left
    to right and without overlap.
    """
    words, of_lines, of_paragraphs = (batch.view(view) for view in (whitespace_words, lines, paragraphs))
    counts = np.zeros((len(batch), _COLUMNS), np.int64)
    most = [int(np.diff(part.documents).max(initial=0)) for part in (words, of_lines, of_paragraphs)]
    keys, rounds = seen_keys(max(most))
    _repeated_lines(
        of_lines.starts, of_lines.stops, of_lines.lengths, of_lines.hashes, of_lines.documents, keys, rounds, counts
    )
    rounds[:] = 0
    _repeated_paragraphs(of_paragraphs.lengths, of_paragraphs.hashes, of_paragraphs.documents, keys, rounds, counts)
    rounds[:] = 0
    _top_ngrams(words.lengths, words.hashes, words.documents, most[0], keys, rounds, counts)
    rounds[:] = 0
    _repeated_ngrams(
        words.starts, words.stops, words.lengths, words.hashes, words.documents, most[0], keys, rounds, counts
    )
    return counts


@njit(cache=True, nogil=True)
def _quality(  # type: ignore[no-untyped-def]
    data, offsets, starts, stops, lengths, kinds, hashes, documents, stop_hashes, longest_stop_word, counts
):  # fmt: skip
    for document in range(len(offsets) - 1):
        count = counts[document]
        found = uint64(0)
        last = documents[document + 1] - 1
        for word in range(documents[document], last + 1):
            kind = kinds[word]
            if kind & HAS_ORDINARY:
                count[WORDS] += 1
                count[WORD_CHARS] += lengths[word]
            count[LETTER_WORDS] += (kind & HAS_LETTER) != 0
            if kind & FIRST_OF_LINE:
                count[BULLET_LINES] += _begins_with_bullet(data, starts[word], stops[word])
            if word == last or kinds[word + 1] & FIRST_OF_LINE:
                count[ELLIPSIS_LINES] += _ends_with_ellipsis(data, starts[word], stops[word])
            if stops[word] - starts[word] <= longest_stop_word:
                for i in range(len(stop_hashes)):
                    if hashes[word] == stop_hashes[i]:
                        found |= uint64(1) << uint64(i)
        count[ALL_WORDS] = last + 1 - documents[document]
        for i in range(len(stop_hashes)):
            count[STOP_WORDS] += (found >> uint64(i)) & uint64(1) != 0
        count[HASHES], count[ELLIPSES] = _hashes_and_ellipses(data[offsets[document] : offsets[document + 1]])


@njit(cache=True, nogil=True)
def _hashes_and_ellipses(data):  # type: ignore[no-untyped-def]
    """How often "#" stands in a text, and "..." (without overlap) or "…", which is E2 80 A6."""
    number_signs, ellipses, three_dots = 0, 0, 0
    for position in range(len(data)):
        number_signs += data[position] == 0x23
    for position in range(len(data) - 2):
        first, second, third = data[position], data[position + 1], data[position + 2]
        three_dots += (first == 0x2E) & (second == 0x2E) & (third == 0x2E)
        ellipses += (first == 0xE2) & (second == 0x80) & (third == 0xA6)
    if three_dots:
        dots = 0
        for position in range(len(data)):
            dots = dots + 1 if data[position] == 0x2E else 0
            if dots == 3:
                ellipses, dots = ellipses + 1, 0
    return number_signs, ellipses


@njit(cache=True, nogil=True)
def _is_ellipsis(data, position, stop):  # type: ignore[no-untyped-def]
    return stop - position >= 3 and data[position] == 0xE2 and data[position + 1] == 0x80 and data[position + 2] == 0xA6


@njit(cache=True, nogil=True)
def _begins_with_bullet(data, start, stop):  # type: ignore[no-untyped-def]
    if data[start] == 0x2D:
        return True
    return stop - start >= 3 and data[start] == 0xE2 and data[start + 1] == 0x80 and data[start + 2] == 0xA2  # "•"


@njit(cache=True, nogil=True)
def _ends_with_ellipsis(data, start, stop):  # type: ignore[no-untyped-def]
    if stop - start < 3:
        return False
    if data[stop - 3] == 0x2E and data[stop - 2] == 0x2E and data[stop - 1] == 0x2E:
        return True
    return _is_ellipsis(data, stop - 3, stop)


@njit(cache=True, nogil=True)
def _repeated_lines(starts, stops, lengths, hashes, documents, keys, rounds, counts):  # type: ignore[no-untyped-def]
    for document in range(len(documents) - 1):
        first, last = documents[document], documents[document + 1] - 1
        count = counts[document]
        mask = slot_mask(last + 1 - first)
        for line in range(first, last + 1):
            # Runs of line feeds separate: the lines between are none, but there is one before and one after the text.
            if stops[line] == starts[line] and line != first and line != last:
                continue
            count[LINE_COUNT] += 1
            _, known = find_or_add(keys, rounds, document + 1, mask, mixed(hashes[line]))
            if known:
                count[REPEATED_LINES] += 1
                count[REPEATED_LINE_CHARS] += lengths[line]


@njit(cache=True, nogil=True)
def _repeated_paragraphs(lengths, hashes, documents, keys, rounds, counts):  # type: ignore[no-untyped-def]
    for document in range(len(documents) - 1):
        count = counts[document]
        mask = slot_mask(documents[document + 1] - documents[document])
        for paragraph in range(documents[document], documents[document + 1]):
            count[PARAGRAPH_COUNT] += 1
            _, known = find_or_add(keys, rounds, document + 1, mask, mixed(hashes[paragraph]))
            if known:
                count[REPEATED_PARAGRAPHS] += 1
                count[REPEATED_PARAGRAPH_CHARS] += lengths[paragraph]


@njit(cache=True, nogil=True)
def _top_ngrams(lengths, hashes, documents, most_words, keys, rounds, counts):  # type: ignore[no-untyped-def]
    occurrences = np.empty(len(keys), np.int64)
    first_at = np.empty(len(keys), np.int64)
    ngrams = np.empty(most_words, np.uint64)
    slots = np.empty(most_words, np.int64)
    positions = np.empty(most_words, np.int64)
    this_round = 0
    for document in range(len(documents) - 1):
        begin, words = documents[document], documents[document + 1] - documents[document]
        mask = slot_mask(words)
        candidates = words
        for i in range(words):
            ngrams[i], positions[i] = hashes[begin + i], i
        for n in range(2, _LONGEST_TOP + 1):
            if words < n:
                break
            this_round += 1
            best_count, best_at = 1, 0
            kept = 0
            for candidate in range(candidates):
                at = positions[candidate]
                if at + n > words:
                    continue
                ngrams[kept] = mixed(ngrams[candidate] * uint64(_NGRAM_FACTOR) + hashes[begin + at + n - 1])
                slot, known = find_or_add(keys, rounds, this_round, mask, ngrams[kept])
                if not known:
                    occurrences[slot], first_at[slot] = 0, at
                occurrences[slot] += 1
                if occurrences[slot] > best_count or (
                    occurrences[slot] == best_count and first_at[slot] < best_at
                ):
                    best_count, best_at = occurrences[slot], first_at[slot]
                slots[kept], positions[kept] = slot, at
                kept += 1
            length = n - 1
            for i in range(n):
                length += lengths[begin + best_at + i]
            counts[document, TOP_NGRAM_CHARS + n - 2] = length * best_count
            candidates = 0  # only what repeats can be the beginning of something longer that repeats
            for i in range(kept):
                if occurrences[slots[i]] > 1:
                    ngrams[candidates], positions[candidates] = ngrams[i], positions[i]
                    candidates += 1


@njit(cache=True, nogil=True)
def _repeated_ngrams(starts, stops, lengths, hashes, documents, most_words, keys, rounds, counts):  # type: ignore[no-untyped-def]
    # With P the hash of all words before word i joined, and b the bytes of these, scaled[i] is P / base ** b and
    # power[i] is base ** b: then (scaled[j] - scaled[i]) * power[i] is a hash of words i to j joined, wherever they are.
    scaled = np.empty(most_words + 1, np.uint64)
    power = np.empty(most_words + 1, np.uint64)
    chars = np.empty(most_words + 1, np.int64)
    powers, inverses = _tables()
    this_round = 0
    for document in range(len(documents) - 1):
        begin, words = documents[document], documents[document + 1] - documents[document]
        mask = slot_mask(words)
        scaled[0], power[0], chars[0], inverse = uint64(0), uint64(1), 0, uint64(1)
        for i in range(words):
            size = stops[begin + i] - starts[begin + i]
            if size < len(powers):
                power[i + 1], inverse = power[i] * powers[size], inverse * inverses[size]
            else:
                power[i + 1], inverse = power[i] * hash_power(size), inverse * _inverse_power(size)
            scaled[i + 1] = scaled[i] + hashes[begin + i] * inverse
            chars[i + 1] = chars[i] + lengths[begin + i]
        for n in range(_LONGEST_TOP + 1, _LONGEST + 1):
            this_round += 1
            repeated, i = 0, 0
            while i + n <= words:
                key = mixed((scaled[i + n] - scaled[i]) * power[i])
                _, known = find_or_add(keys, rounds, this_round, mask, key)
                if known:
                    repeated += chars[i + n] - chars[i]
                    i += n
                else:
                    i += 1
            counts[document, REPEATED_NGRAM_CHARS + n - _LONGEST_TOP - 1] = repeated


@njit(cache=True, nogil=True)
def _tables():  # type: ignore[no-untyped-def]
    powers, inverses = np.ones(64, np.uint64), np.ones(64, np.uint64)
    for size in range(1, 64):
        powers[size] = powers[size - 1] * uint64(HASH_BASE)
        inverses[size] = inverses[size - 1] * uint64(HASH_BASE_INVERSE)
    return powers, inverses


@njit(cache=True, nogil=True)
def _inverse_power(exponent):  # type: ignore[no-untyped-def]
    value, square = uint64(1), uint64(HASH_BASE_INVERSE)
    while exponent > 0:
        if exponent & 1:
            value *= square
        square *= square
        exponent >>= 1
    return value
