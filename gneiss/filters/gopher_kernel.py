"""The counts behind Gopher's rules, over the shared words, lines and paragraphs of a text batch."""

from __future__ import annotations

import numpy as np
from numba import njit, uint64

from gneiss.arrays import Int, Int64Array, UInt8Array, UInt64Array
from gneiss.batch import TextBatch
from gneiss.filters.seen import first_seen, seen_table, slots_for
from gneiss.filters.segmentation import (
    FIRST_OF_LINE,
    HAS_LETTER,
    HAS_ORDINARY,
    HASH_BASE,
    HASH_BASE_INVERSE,
    Lines,
    Paragraphs,
    Words,
    hash_bytes,
    hash_power,
    lines,
    paragraphs,
    whitespace_words,
)

#: Columns of `quality_counts`.
ALL_WORDS, WORDS, WORD_CHARS, LETTER_WORDS, HASHES, ELLIPSES, LINES, BULLET_LINES, ELLIPSIS_LINES, STOP_WORDS = range(
    10
)
#: Columns of `repetition_counts`: elements, repeated elements and their code points; then code points of n-grams.
LINE_COUNT, REPEATED_LINES, REPEATED_LINE_CHARS, PARAGRAPH_COUNT, REPEATED_PARAGRAPHS, REPEATED_PARAGRAPH_CHARS = range(
    6
)
TOP_NGRAMS, REPEATED_NGRAMS = (2, 3, 4), (5, 6, 7, 8, 9, 10)
TOP_NGRAM_CHARS = 6
REPEATED_NGRAM_CHARS = TOP_NGRAM_CHARS + len(TOP_NGRAMS)
_COLUMNS = REPEATED_NGRAM_CHARS + len(REPEATED_NGRAMS)
_LONGEST_TOP, _SHORTEST, _LONGEST = TOP_NGRAMS[-1], REPEATED_NGRAMS[0], REPEATED_NGRAMS[-1]
_WINDOW = 16
_WINDOW_INVERSE = pow(HASH_BASE_INVERSE, _WINDOW, 1 << 64)
_NGRAM_FACTOR = 0xA24B_AED4_963E_E407  # of no meaning, odd, and not the base of the words' own hashes


def quality_counts(batch: TextBatch, stop_words: tuple[str, ...]) -> Int64Array:
    """What Gopher's quality rules count, int64 (documents, 10); at most 64 stop words.

    All words; words with a character that is no symbol, and their code points; words with a letter; "#"; "..." and
    "…"; lines of `str.splitlines`, those that begin with "-" or "•", those that end with "..." or "…" (white space
    aside); different stop words.
    """
    words = batch.view(whitespace_words)
    encoded = [np.frombuffer(word.encode(), np.uint8) for word in stop_words]
    stop_hashes = np.array([hash_bytes(word, 0, len(word)) for word in encoded], np.uint64)
    counts = np.zeros((len(batch), 10), np.int64)
    counts[:, LINES] = words.text_lines
    _quality(batch.data, batch.offsets, words, stop_hashes, counts)
    return counts


def repetition_counts(batch: TextBatch) -> Int64Array:
    """What Gopher's repetition rules count, int64 (documents, 15).

    Lines are those that are not blank, and an empty one before and after a text whose first or last line is blank. The
    n-grams' code points: of the most frequent n-gram of 2, 3 and 4
    words, the first of them if there are several, with a space between words, times its occurrences; of all later
    occurrences of n-grams of 5 to 10 words, equal if they are when their words are joined without a space, from left
    to right and without overlap.
    """
    words, of_lines, of_paragraphs = batch.view(whitespace_words), batch.view(lines), batch.view(paragraphs)
    counts = np.zeros((len(batch), _COLUMNS), np.int64)
    most = [int(np.diff(part.documents).max(initial=0)) for part in (words, of_lines, of_paragraphs)]
    _repeated_lines(of_lines, seen_table(most[1]), counts)
    _repeated_paragraphs(of_paragraphs, seen_table(most[2]), counts)
    table = seen_table(most[0])
    rounds = _top_ngrams(words, most[0], table, counts)
    _repeated_ngrams(batch.data, words, most[0], rounds, table, counts)
    return counts


@njit(cache=True, nogil=True)
def _quality(data: UInt8Array, offsets: Int64Array, words: Words, stop_hashes: UInt64Array, counts: Int64Array) -> None:
    starts, ends, lengths, kinds, hashes, documents, _ = words
    maybe_stop_word = uint64(0)
    for value in stop_hashes:
        maybe_stop_word |= uint64(1) << (value & uint64(63))
    for document in range(len(offsets) - 1):
        count = counts[document]
        found = uint64(0)
        ordinary, chars, with_letter = 0, 0, 0
        first, end = documents[document], documents[document + 1]
        for word in range(first, end):
            kind = kinds[word]
            is_ordinary = (kind & HAS_ORDINARY) != 0
            ordinary += is_ordinary
            chars += lengths[word] * is_ordinary
            with_letter += (kind & HAS_LETTER) != 0
            if kind & FIRST_OF_LINE:
                count[BULLET_LINES] += _begins_with_bullet(data, starts[word], ends[word])
                if word > first:
                    count[ELLIPSIS_LINES] += _ends_with_ellipsis(data, starts[word - 1], ends[word - 1])
            if maybe_stop_word >> (hashes[word] & uint64(63)) & uint64(1):
                for i in range(len(stop_hashes)):
                    if hashes[word] == stop_hashes[i]:
                        found |= uint64(1) << uint64(i)
        if first < end:
            count[ELLIPSIS_LINES] += _ends_with_ellipsis(data, starts[end - 1], ends[end - 1])
        count[ALL_WORDS], count[WORDS], count[WORD_CHARS], count[LETTER_WORDS] = (
            end - first,
            ordinary,
            chars,
            with_letter,
        )
        for i in range(len(stop_hashes)):
            count[STOP_WORDS] += (found >> uint64(i)) & uint64(1) != 0
        count[HASHES], count[ELLIPSES] = _hashes_and_ellipses(data[offsets[document] : offsets[document + 1]])


@njit(cache=True, nogil=True)
def _hashes_and_ellipses(data: UInt8Array) -> tuple[Int, Int]:
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
def _is_ellipsis(data: UInt8Array, position: Int, end: Int) -> bool:
    return bool(
        end - position >= 3 and data[position] == 0xE2 and data[position + 1] == 0x80 and data[position + 2] == 0xA6
    )


@njit(cache=True, nogil=True)
def _begins_with_bullet(data: UInt8Array, start: Int, end: Int) -> bool:
    if data[start] == 0x2D:
        return True
    return bool(end - start >= 3 and data[start] == 0xE2 and data[start + 1] == 0x80 and data[start + 2] == 0xA2)  # "•"


@njit(cache=True, nogil=True)
def _ends_with_ellipsis(data: UInt8Array, start: Int, end: Int) -> bool:
    if end - start < 3:
        return False
    if data[end - 3] == 0x2E and data[end - 2] == 0x2E and data[end - 1] == 0x2E:
        return True
    return _is_ellipsis(data, end - 3, end)


@njit(cache=True, nogil=True)
def _repeated_lines(of_lines: Lines, table: UInt64Array, counts: Int64Array) -> None:
    starts, ends, lengths, _, hashes, documents = of_lines
    for document in range(len(documents) - 1):
        first, last = documents[document], documents[document + 1] - 1
        count = counts[document]
        slots = slots_for(last + 1 - first)
        for line in range(first, last + 1):
            # Runs of line ends separate: blank lines are none, but there is one before and one after the text.
            if ends[line] == starts[line] and line != first and line != last:
                continue
            count[LINE_COUNT] += 1
            if first_seen(table, slots, document + 1, hashes[line], 0) >= 0:
                count[REPEATED_LINES] += 1
                count[REPEATED_LINE_CHARS] += lengths[line]


@njit(cache=True, nogil=True)
def _repeated_paragraphs(of_paragraphs: Paragraphs, table: UInt64Array, counts: Int64Array) -> None:
    lengths, hashes, documents = of_paragraphs
    for document in range(len(documents) - 1):
        count = counts[document]
        slots = slots_for(documents[document + 1] - documents[document])
        for paragraph in range(documents[document], documents[document + 1]):
            count[PARAGRAPH_COUNT] += 1
            if first_seen(table, slots, document + 1, hashes[paragraph], 0) >= 0:
                count[REPEATED_PARAGRAPHS] += 1
                count[REPEATED_PARAGRAPH_CHARS] += lengths[paragraph]


@njit(cache=True, nogil=True)
def _top_ngrams(words: Words, most_words: Int, table: UInt64Array, counts: Int64Array) -> Int:
    lengths, hashes, documents = words.lengths, words.hashes, words.documents
    # Of candidates, in order: the n-gram's hash, the word where it begins, the word where it is first seen.
    ngrams = np.empty(most_words, np.uint64)
    places = np.empty(most_words, np.int64)
    firsts = np.empty(most_words, np.int64)
    occurrences = np.empty(most_words, np.int64)  # by the word where the n-gram is first seen
    this_round = 0
    for document in range(len(documents) - 1):
        begin, word_count = documents[document], documents[document + 1] - documents[document]
        candidates = word_count
        for i in range(word_count):
            ngrams[i], places[i] = hashes[begin + i], i
        for n in range(2, min(_LONGEST_TOP, word_count) + 1):
            this_round += 1
            slots = slots_for(candidates)
            best_count, best_at, left = 1, 0, 0
            for candidate in range(candidates):
                at = places[candidate]
                if at + n > word_count:
                    break
                ngrams[left] = ngrams[candidate] * uint64(_NGRAM_FACTOR) + hashes[begin + at + n - 1]
                first = first_seen(table, slots, this_round, ngrams[left], at)
                if first < 0:
                    first, occurrences[at] = at, 1
                else:
                    occurrences[first] += 1
                    if occurrences[first] > best_count or (occurrences[first] == best_count and first < best_at):
                        best_count, best_at = occurrences[first], first
                places[left], firsts[left] = at, first
                left += 1
            length = n - 1
            for i in range(n):
                length += lengths[begin + best_at + i]
            counts[document, TOP_NGRAM_CHARS + n - 2] = length * best_count
            candidates = 0  # only what repeats can be the beginning of something longer that repeats
            for i in range(left):
                if occurrences[firsts[i]] > 1:
                    ngrams[candidates], places[candidates] = ngrams[i], places[i]
                    candidates += 1
    return this_round


@njit(cache=True, nogil=True)
def _repeated_ngrams(
    data: UInt8Array, words: Words, most_words: Int, rounds: Int, table: UInt64Array, counts: Int64Array
) -> None:
    starts, ends, lengths, _, hashes, documents, _ = words
    # With P the hash of all words before word i joined, and b the bytes of these, scaled[i] is P / base ** b and
    # power[i] is base ** b: then (scaled[j] - scaled[i]) * power[i] is a hash of words i to j joined.
    scaled = np.empty(most_words + 1, np.uint64)
    power = np.empty(most_words + 1, np.uint64)
    chars = np.empty(most_words + 1, np.int64)
    size_bytes = np.empty(most_words + 1, np.int64)
    promising = np.empty(most_words, np.bool_)
    candidates = np.empty(most_words, np.int64)
    powers, inverses = _tables()
    this_round = rounds
    for document in range(len(documents) - 1):
        begin, word_count = documents[document], documents[document + 1] - documents[document]
        slots = slots_for(word_count)
        scaled[0], power[0], chars[0], size_bytes[0], inverse = uint64(0), uint64(1), 0, 0, uint64(1)
        for i in range(word_count):
            size = ends[begin + i] - starts[begin + i]
            if size < len(powers):
                power[i + 1], inverse = power[i] * powers[size], inverse * inverses[size]
            else:
                power[i + 1], inverse = power[i] * hash_power(size), inverse * _inverse_power(size)
            scaled[i + 1] = scaled[i] + hashes[begin + i] * inverse
            chars[i + 1] = chars[i] + lengths[begin + i]
            size_bytes[i + 1] = size_bytes[i] + size
        # Equal n-grams begin with the same _WINDOW bytes: few words do, and only those are worth looking up. n-grams
        # that are shorter than that, all words of them, are looked up too.
        this_round += 1
        end = 0
        for i in range(word_count):
            promising[i] = i + _SHORTEST <= word_count and size_bytes[i + _SHORTEST] - size_bytes[i] < _WINDOW
        for i in range(word_count):
            if size_bytes[word_count] - size_bytes[i] < _WINDOW:
                break
            while size_bytes[end + 1] - size_bytes[i] <= _WINDOW and end + 1 < word_count:
                end += 1
            rest = _WINDOW - (size_bytes[end] - size_bytes[i])
            of_rest = hash_bytes(data, starts[begin + end], starts[begin + end] + rest)
            key = (scaled[end] - scaled[i]) * power[i] + of_rest * uint64(_WINDOW_INVERSE)
            first = first_seen(table, slots, this_round, key, i)
            if first >= 0:
                promising[first] = promising[i] = True
        found = 0
        for i in range(word_count):
            candidates[found] = i
            found += promising[i]
        slots = slots_for(found)
        for n in range(_SHORTEST, _LONGEST + 1):
            this_round += 1
            repeated, free = 0, 0
            for candidate in range(found):
                i = candidates[candidate]
                if i + n > word_count:
                    break
                if i < free:
                    continue
                key = (scaled[i + n] - scaled[i]) * power[i]
                if first_seen(table, slots, this_round, key, 0) >= 0:
                    repeated += chars[i + n] - chars[i]
                    free = i + n
            counts[document, REPEATED_NGRAM_CHARS + n - _SHORTEST] = repeated


@njit(cache=True, nogil=True)
def _tables() -> tuple[UInt64Array, UInt64Array]:
    powers, inverses = np.ones(64, np.uint64), np.ones(64, np.uint64)
    for size in range(1, 64):
        powers[size] = powers[size - 1] * uint64(HASH_BASE)
        inverses[size] = inverses[size - 1] * uint64(HASH_BASE_INVERSE)
    return powers, inverses


@njit(cache=True, nogil=True)
def _inverse_power(exponent: Int) -> np.uint64:
    value, square = uint64(1), uint64(HASH_BASE_INVERSE)
    while exponent > 0:
        if exponent & 1:
            value *= square
        square *= square
        exponent >>= 1
    return value
