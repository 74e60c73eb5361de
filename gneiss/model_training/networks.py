"""Small dense networks in plain NumPy: forward, gradients written by hand, Adam.

A network is its parameters: for each layer weights, float64 (inputs, outputs), and biases, (outputs,). Between layers
there is a ReLU; the last one is linear.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeAlias

import numpy as np

from gneiss.arrays import Float64Array, Int64Array

Parameters: TypeAlias = "list[Float64Array]"
#: The rows of a batch → the gradient of the batch's loss, an array for each parameter.
Gradient: TypeAlias = "Callable[[Parameters, Int64Array], Parameters]"
_FIRST_DECAY, _SECOND_DECAY, _SMALLEST = 0.9, 0.999, 1e-8


def new_network(sizes: Sequence[int], draw: np.random.Generator) -> Parameters:
    """A network of layers of these sizes, inputs first, with the usual weights for ReLUs (He et al., 2015).

    >>> [array.shape for array in new_network((6, 32, 1), np.random.default_rng(0))]
    [(6, 32), (32,), (32, 1), (1,)]
    """
    parameters: Parameters = []
    for inputs, outputs in pairwise(sizes):
        parameters += [draw.standard_normal((inputs, outputs)) * np.sqrt(2 / max(inputs, 1)), np.zeros(outputs)]
    return parameters


def forward(network: Sequence[Float64Array], inputs: Float64Array) -> list[Float64Array]:
    """What enters each layer, (rows, inputs of the layer), and what leaves the last one."""
    entering = [inputs]
    for layer in range(0, len(network), 2):
        out = entering[-1] @ network[layer] + network[layer + 1]
        entering.append(out if layer + 2 == len(network) else np.maximum(out, 0.0))
    return entering


def backward(
    network: Sequence[Float64Array], entering: Sequence[Float64Array], gradient: Float64Array
) -> tuple[Parameters, Float64Array]:
    """Gradients of the parameters and of the inputs, from that of the output, (rows, outputs)."""
    parameters: Parameters = []
    for layer in range(len(network) - 2, -1, -2):
        came = entering[layer // 2]
        parameters = [came.T @ gradient, gradient.sum(axis=0), *parameters]
        gradient = gradient @ network[layer].T
        if layer:
            gradient = gradient * (came > 0)
    return parameters, gradient


def probability(logits: Float64Array) -> Float64Array:
    """1 / (1 + exp(-logit))."""
    found: Float64Array = 1.0 / (1.0 + np.exp(-np.clip(logits, -60.0, 60.0)))
    return found


def fitted(
    parameters: Parameters,
    gradient: Gradient,
    rows: int,
    draw: np.random.Generator,
    *,
    epochs: int,
    learning_rate: float,
    l2: float,
    batch: int,
    decays: bool = True,
) -> Parameters:
    """Parameters after Adam (Kingma and Ba, 2015) over shuffled batches.

    l2: of all weights; decays: whether the rate falls to 0, by a cosine.
    """
    means, squares = (
        [np.zeros_like(parameter) for parameter in parameters],
        [np.zeros_like(parameter) for parameter in parameters],
    )
    parameters = [parameter.copy() for parameter in parameters]
    batches = max(1, rows // batch)
    for step in range(epochs * batches):
        if step % batches == 0:
            order = draw.permutation(rows)
        chosen = order[step % batches * batch : (step % batches + 1) * batch]
        rate = learning_rate * (0.5 * (1 + np.cos(np.pi * step / (epochs * batches))) if decays else 1)
        first, second = 1 - _FIRST_DECAY ** (step + 1), 1 - _SECOND_DECAY ** (step + 1)
        for own, mean, square, found in zip(parameters, means, squares, gradient(parameters, chosen), strict=True):
            found = found + l2 * own if own.ndim == 2 else found
            mean += (1 - _FIRST_DECAY) * (found - mean)
            square += (1 - _SECOND_DECAY) * (found * found - square)
            own -= rate * (mean / first) / (np.sqrt(square / second) + _SMALLEST)
    return parameters
