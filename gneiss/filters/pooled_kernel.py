"""The arithmetic of pooled networks: float64 sums in a fixed order, no BLAS and no library's exponential.

A text is its words, those between fastText's white space, each known by fastText's hash of its bytes. A word and the
two after it are a group: the sum of what each of them is worth in its place, and a bias, through a ReLU. The mean and
the maximum of all groups decide. Past the end of a text, words are worth nothing.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from gneiss.arrays import Float32Array, Float64Array, Int, Int64Array, UInt8Array
from gneiss.filters.fasttext_models.kernel import hash_bytes, is_space
from gneiss.filters.fasttext_models.output import exp

#: Words of a group.
PLACES = 3


@njit(cache=True, nogil=True)
def pooled_scores(
    data: UInt8Array,
    offsets: Int64Array,
    table: Float32Array,
    bias: Float64Array,
    weights: Float64Array,
    last_bias: float,
) -> Float64Array:
    """The probability of each document, float64 (documents,); NaN for one without words.

    data, offsets: (documents + 1,) texts; table: (buckets, places, outputs), what a word is worth in each place; bias:
    (outputs,); weights: (2 * outputs,), of the means and then of the maxima.
    """
    documents, (buckets, _, outputs) = len(offsets) - 1, table.shape
    scores = np.full(documents, np.nan)
    nothing = np.zeros((PLACES, outputs), np.float32)
    means, maxima = np.empty(outputs), np.empty(outputs)
    for document in range(documents):
        means[:], maxima[:] = 0.0, 0.0
        first = second = third = nothing
        at, end = offsets[document], offsets[document + 1]
        words = seen = 0
        while True:
            start, at = next_word(data, at, end)
            first, second, third = second, third, nothing
            if start < at:
                third = table[np.int64(hash_bytes(data, start, at) % np.uint64(buckets))]
                words += 1
            elif seen == words + PLACES - 1:  # the last word has been the first of a group
                break
            seen += 1
            if seen < PLACES:
                continue
            for output in range(outputs):
                value = bias[output] + first[0, output] + second[1, output] + third[2, output]
                value = value if value > 0.0 else 0.0
                means[output] += value
                maxima[output] = value if value > maxima[output] else maxima[output]
        if words:
            scores[document] = probability(pooled_logit(means, maxima, words, weights, last_bias))
    return scores


@njit(cache=True, nogil=True)
def pooled_logit(sums: Float64Array, maxima: Float64Array, groups: Int, weights: Float64Array, bias: float) -> float:
    """What the sums and maxima of a text's groups decide. sums, maxima: (outputs,); weights: (2 * outputs,)."""
    logit, outputs = bias, len(sums)
    for output in range(outputs):
        logit += sums[output] / groups * weights[output] + maxima[output] * weights[outputs + output]
    return logit


@njit(cache=True, nogil=True)
def next_word(data: UInt8Array, at: Int, end: Int) -> tuple[Int, Int]:
    """(start, end) of the next word of a text; equal if there is none."""
    while at < end and is_space(data[at]):
        at += 1
    start = at
    while at < end and not is_space(data[at]):
        at += 1
    return start, at


@njit(cache=True, nogil=True)
def probability(logit: float) -> float:
    """1 / (1 + exp(-logit))."""
    tail: float = exp(-abs(logit))
    return 1.0 / (1.0 + tail) if logit > 0 else tail / (1.0 + tail)
