"""The arithmetic of fusion models: float64 sums in a fixed order, no BLAS and no library's exponential.

A network is packed: for each layer its weights, row by row of an input, then its biases.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from gneiss.arrays import BoolArray, Float64Array, Int64Array
from gneiss.filters.fasttext_models.output import exp


@njit(cache=True, nogil=True)
def masked_scores(
    features: Float64Array, there: BoolArray, bounds: Int64Array, sizes: Int64Array, network: Float64Array
) -> tuple[Float64Array, Float64Array]:
    """(score, spread) of each document by one network of all blocks and their mask.

    features: (documents, features), 0 where a block is not there; there: (documents, blocks); bounds: (blocks + 1,), of
    each block's features; sizes: of the layers. The spread is that of the scores without one of the blocks; NaN without
    any block.
    """
    documents, blocks = there.shape
    scores, spreads = np.full(documents, np.nan), np.full(documents, np.nan)
    inputs = np.empty(features.shape[1] + blocks)
    for document in range(documents):
        count = 0
        for block in range(blocks):
            count += there[document, block]
        if count == 0:
            continue
        least, most = np.inf, -np.inf
        for left_out in range(-1, blocks):
            if left_out >= 0 and (count == 1 or not there[document, left_out]):
                continue
            inputs[: features.shape[1]] = features[document]
            for block in range(blocks):
                inputs[features.shape[1] + block] = 1.0 if there[document, block] else 0.0
            if left_out >= 0:
                inputs[bounds[left_out] : bounds[left_out + 1]] = 0.0
                inputs[features.shape[1] + left_out] = 0.0
            score = _probability(_output(inputs, sizes, network)[0])
            if left_out < 0:
                scores[document] = score
            else:
                least, most = min(least, score), max(most, score)
        spreads[document] = most - least if count > 1 else 0.0
    return scores, spreads


@njit(cache=True, nogil=True)
def laser_scores(
    features: Float64Array,
    there: BoolArray,
    bounds: Int64Array,
    extractor_sizes: Int64Array,
    extractors: Float64Array,
    extractor_starts: Int64Array,
    head_sizes: Int64Array,
    heads: Float64Array,
) -> tuple[Float64Array, Float64Array]:
    """(score, spread) of each document by a head for each block that is there: the mean of their answers, and range.

    Parameters: as for `masked_scores`; extractor_sizes: of the layers after the features; extractors, heads: a network
    for each block, one after the other; extractor_starts: (blocks + 1,).
    """
    documents, blocks = there.shape
    scores, spreads = np.full(documents, np.nan), np.full(documents, np.nan)
    head_size = len(heads) // blocks
    sizes = np.empty(len(extractor_sizes) + 1, np.int64)
    sizes[1:] = extractor_sizes
    for document in range(documents):
        mean, count = np.zeros(extractor_sizes[-1]), 0
        for block in range(blocks):
            if there[document, block]:
                sizes[0] = bounds[block + 1] - bounds[block]
                own = features[document, bounds[block] : bounds[block + 1]]
                mean += _output(own, sizes, extractors[extractor_starts[block] : extractor_starts[block + 1]])
                count += 1
        if count == 0:
            continue
        mean /= count
        total, least, most = 0.0, np.inf, -np.inf
        for block in range(blocks):
            if there[document, block]:
                answer = _probability(_output(mean, head_sizes, heads[block * head_size : (block + 1) * head_size])[0])
                total += answer
                least, most = min(least, answer), max(most, answer)
        scores[document], spreads[document] = total / count, most - least
    return scores, spreads


@njit(cache=True, nogil=True)
def _output(inputs: Float64Array, sizes: Int64Array, network: Float64Array) -> Float64Array:
    """What leaves a network: ReLUs between its layers, none after the last one."""
    entering, at = inputs, 0
    for layer in range(len(sizes) - 1):
        leaving = network[at + sizes[layer] * sizes[layer + 1] :][: sizes[layer + 1]].copy()
        for i in range(sizes[layer]):
            for j in range(sizes[layer + 1]):
                leaving[j] += entering[i] * network[at + i * sizes[layer + 1] + j]
        at += (sizes[layer] + 1) * sizes[layer + 1]
        if layer + 2 < len(sizes):
            for j in range(len(leaving)):
                leaving[j] = max(leaving[j], 0.0)
        entering = leaving
    return entering


@njit(cache=True, nogil=True)
def _probability(logit: float) -> float:
    tail: float = exp(-abs(logit))
    return 1.0 / (1.0 + tail) if logit > 0 else tail / (1.0 + tail)
