"""How a pooled network learns: a step after each text, gradients written by hand, Adagrad (Duchi et al., 2011).

What a word is worth in a place (see `gneiss.filters.pooled_kernel`) is learnt as a product: numbers of the word, times
weights of the place. Numbers start at 0, so that a word that was never seen is worth nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from gneiss.arrays import BoolArray, Float32Array, Float64Array, Int, Int64Array, UInt8Array
from gneiss.filters.fasttext_models.kernel import hash_bytes
from gneiss.filters.pooled_kernel import PLACES, next_word, pooled_logit, probability

#: Of a longer text, training reads so many words from its beginning: it holds 512 bytes for each.
MOST_WORDS = 20_000
_U = np.uint64
_SMALLEST = 1e-8


class Factors(NamedTuple):
    """A network that learns, or the sums of its squared gradients.

    words: float64 (buckets, numbers); places: (places, numbers, outputs); bias: (outputs,); weights: (2 * outputs,), of
    means and maxima; last_bias: (1,).
    """

    words: Float64Array
    places: Float64Array
    bias: Float64Array
    weights: Float64Array
    last_bias: Float64Array


@njit(cache=True, nogil=True)
def word_buckets(data: UInt8Array, offsets: Int64Array, buckets: int) -> tuple[Int64Array, Int64Array]:
    """(starts, found): the buckets of the words of text i are found[starts[i]:starts[i + 1]]."""
    starts = np.zeros(len(offsets), np.int64)
    found = np.empty((len(data) + len(offsets)) // 2 + 1, np.int64)  # at most every other byte of a text is a word
    count = 0
    for document in range(len(offsets) - 1):
        at, end = offsets[document], offsets[document + 1]
        while True:
            start, at = next_word(data, at, end)
            if start == at:
                break
            found[count] = np.int64(hash_bytes(data, start, at) % _U(buckets))
            count += 1
        starts[document + 1] = count
    return starts, found[:count].copy()


@njit(cache=True, nogil=True)
def learn(
    starts: Int64Array,
    buckets: Int64Array,
    labels: BoolArray,
    order: Int64Array,
    network: Factors,
    squares: Factors,
    rate: float,
    dropped_share: float,
    seed: int,
) -> None:
    """One pass over texts in an order. dropped_share: of the words of a text, those that a step does not see."""
    words, places, bias, weights, last_bias = network
    numbers, outputs = places.shape[1:]
    by_output = np.empty((PLACES, outputs, numbers))  # the places' weights, for loops over numbers
    of_places, of_bias, of_weights = np.empty(places.shape), np.empty(outputs), np.empty(2 * outputs)
    of_last, of_group = np.empty(1), np.empty(outputs)
    for document in order:
        start = starts[document]
        end = min(starts[document + 1], start + MOST_WORDS)
        row = _kept(buckets[start:end], dropped_share, _U(seed) + _U(document))
        count = len(row)
        if count == 0:
            continue
        for place in range(PLACES):
            for number in range(numbers):
                for output in range(outputs):
                    by_output[place, output, number] = places[place, number, output]
        groups = np.empty((count, outputs))
        sums, maxima, largest = np.zeros(outputs), np.zeros(outputs), np.full(outputs, -1)
        for group in range(count):
            groups[group] = bias
            for place in range(min(PLACES, count - group)):
                _add_product(groups[group], words[row[group + place]], places[place])
            for output in range(outputs):
                value = groups[group, output]
                if value > 0.0:
                    sums[output] += value
                if value > maxima[output]:
                    maxima[output], largest[output] = value, group
        error = probability(pooled_logit(sums, maxima, count, weights, last_bias[0])) - (1 if labels[document] else 0)
        of_last[0] = error
        for output in range(outputs):
            of_weights[output] = error * sums[output] / count
            of_weights[outputs + output] = error * maxima[output]
        of_places[:], of_bias[:] = 0.0, 0.0
        of_words = np.zeros((count, numbers))
        for group in range(count):
            for output in range(outputs):
                of_group[output] = 0.0
                if groups[group, output] > 0.0:
                    of_group[output] = error * weights[output] / count
                    if largest[output] == group:
                        of_group[output] += error * weights[outputs + output]
                of_bias[output] += of_group[output]
            for place in range(min(PLACES, count - group)):
                word = words[row[group + place]]
                for number in range(numbers):
                    for output in range(outputs):
                        of_places[place, number, output] += word[number] * of_group[output]
                _add_product(of_words[group + place], of_group, by_output[place])
        _step(last_bias, of_last, squares.last_bias, rate)
        _step(weights, of_weights, squares.weights, rate)
        _step(bias, of_bias, squares.bias, rate)
        for place in range(PLACES):
            for number in range(numbers):
                _step(places[place, number], of_places[place, number], squares.places[place, number], rate)
        for word in range(count):
            _step(words[row[word]], of_words[word], squares.words[row[word]], rate)


@njit(cache=True, nogil=True)
def table_of(words: Float64Array, places: Float64Array) -> Float32Array:
    """What each word is worth in each place, float32 (buckets, places, outputs)."""
    table = np.empty((len(words), PLACES, places.shape[2]), np.float32)
    row = np.empty(places.shape[2])
    for word in range(len(words)):
        for place in range(PLACES):
            row[:] = 0.0
            _add_product(row, words[word], places[place])
            table[word, place] = row
    return table


@njit(cache=True, nogil=True)
def _add_product(total: Float64Array, row: Float64Array, matrix: Float64Array) -> None:
    """total += row · matrix."""
    for i in range(len(row)):
        for j in range(len(total)):
            total[j] += row[i] * matrix[i, j]


@njit(cache=True, nogil=True)
def _step(values: Float64Array, gradients: Float64Array, squares: Float64Array, rate: float) -> None:
    for at in range(len(values)):
        squares[at] += gradients[at] * gradients[at]
        values[at] -= rate * gradients[at] / (np.sqrt(squares[at]) + _SMALLEST)


@njit(cache=True, nogil=True)
def _kept(row: Int64Array, dropped_share: float, seed: Int) -> Int64Array:
    """The words of a text that a step sees, by SplitMix64 (Steele et al., 2014)."""
    kept = np.empty(len(row), np.int64)
    count, state, limit = 0, _mixed(seed), _U(int(dropped_share * (1 << 32)))
    for bucket in row:
        state += _U(0x9E3779B97F4A7C15)
        if _mixed(state) >> _U(32) >= limit:
            kept[count] = bucket
            count += 1
    return kept[:count]


@njit(cache=True, nogil=True)
def _mixed(state: Int) -> Int:
    state = (state ^ (state >> _U(30))) * _U(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> _U(27))) * _U(0x94D049BB133111EB)
    return state ^ (state >> _U(31))
