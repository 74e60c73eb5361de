"""One network in place of two of one shape: their barycenter by Fisher information, as a coded head.

Source: D. Jhunjhunwala et al., COIN (2024), arXiv 2409.01420. With p_c near Σ β_i p_i, a lost network's probabilities
are (p_c - Σ_{i≠j} β_i p_i) / β_j: `linear.decoded` of probabilities. They may leave [0, 1]: clip them for a score, and
decide by them as they are.

Networks are those of `gneiss.model_training.networks`, with a softmax over two outputs or more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from gneiss.arrays import Float64Array, Int64Array
from gneiss.errors import InputError
from gneiss.model_training.coding.linear import weighted_sum
from gneiss.model_training.networks import Parameters, backward, fitted, forward

Choice: TypeAlias = Literal["average", "barycenter", "barycenter, distilled", "average, distilled"]
Network: TypeAlias = Sequence[Float64Array]
#: Below this, Fisher information says nothing of a parameter, and the average is taken.
LEAST_INFORMATION = 1e-12
#: Steps of distillation, after the barycenter and after the average.
SHORT_STEPS, LONG_STEPS = 150, 400
#: Networks that one coded network can stand in for: with three, decoded probabilities are poor.
MOST_NETWORKS = 2
_RATE = 3e-3
_SMALLEST = 1e-12


def probabilities(network: Network, inputs: Float64Array) -> Float64Array:
    """Softmax of a network's outputs, (rows, classes)."""
    return softmax(forward(network, inputs)[-1])


def fisher(network: Network, inputs: Float64Array) -> Parameters:
    """Diagonal Fisher information of each parameter: E_x Σ_c p(c|x) (∂ log p(c|x) / ∂θ)², exact over classes.

    Parameters: `network`; `inputs`: (rows, features), unlabelled: 200 to 400 rows are enough, but of the kind that this
    network was trained on; on others a merged network is mostly worse than the average. One backward sweep for each
    class, over squared activations and squared differences.
    """
    entering = forward(network, inputs)
    p = softmax(entering[-1])
    squared = [came * came for came in entering[:-1]]
    found = [np.zeros_like(parameter) for parameter in network]
    for label in range(p.shape[1]):
        delta = -p
        delta[:, label] += 1.0
        weight = p[:, label : label + 1] / len(inputs)
        for layer in range(len(network) - 2, -1, -2):
            contribution = weight * delta * delta
            found[layer] += squared[layer // 2].T @ contribution
            found[layer + 1] += contribution.sum(axis=0)
            if layer:
                delta = (delta @ network[layer].T) * (entering[layer // 2] > 0)
    return found


def average(networks: Sequence[Network], coefficients: Float64Array) -> Parameters:
    """Σ β_i θ_i. Raises InputError for networks of different shapes."""
    _check_shapes(networks, coefficients)
    return [weighted_sum(coefficients, arrays) for arrays in zip(*networks, strict=True)]


def barycenter(networks: Sequence[Network], fishers: Sequence[Network], coefficients: Float64Array) -> Parameters:
    """Σ β_i F_i θ_i / Σ β_i F_i for each parameter; Σ β_i θ_i where nothing is known of it.

    It is where Σ β_i KL(p_i ‖ p_c) is least, to second order around each network. Raises InputError.

    >>> one, other = [np.array([[1.0, 5.0]])], [np.array([[3.0, 7.0]])]
    >>> certain, vague = [np.array([[3.0, 0.0]])], [np.array([[1.0, 0.0]])]
    >>> barycenter([one, other], [certain, vague], np.array([0.5, 0.5]))
    [array([[1.5, 6. ]])]
    """
    merged = average(networks, coefficients)
    for at, mean in enumerate(merged):
        information = weighted_sum(coefficients, [of[at] for of in fishers])
        weighted = weighted_sum(
            coefficients, [of[at] * network[at] for of, network in zip(fishers, networks, strict=True)]
        )
        is_known = information > LEAST_INFORMATION
        mean[is_known] = weighted[is_known] / information[is_known]
    return merged


def mixture(networks: Sequence[Network], coefficients: Float64Array, inputs: Float64Array) -> Float64Array:
    """Σ β_i p_i, (rows, classes): what a coded network should answer."""
    return weighted_sum(coefficients, [probabilities(network, inputs) for network in networks])


def distilled(
    start: Network, targets: Float64Array, inputs: Float64Array, steps: int, draw: np.random.Generator
) -> Parameters:
    """A network after so many steps of Adam towards target probabilities, (rows, classes), on unlabelled inputs."""

    def gradient(parameters: Parameters, rows: Int64Array) -> Parameters:
        entering = forward(parameters, inputs[rows])
        return backward(parameters, entering, (softmax(entering[-1]) - targets[rows]) / len(rows))[0]

    rows = len(inputs)
    return fitted(list(start), gradient, rows, draw, epochs=steps, learning_rate=_RATE, l2=0.0, batch=rows)


def divergence(targets: Float64Array, found: Float64Array) -> float:
    """Mean KL(targets ‖ found) of probabilities, (rows, classes), in nats."""
    ratio = np.log(np.maximum(targets, _SMALLEST)) - np.log(np.maximum(found, _SMALLEST))
    return float((targets * ratio).sum(axis=1).mean())


@dataclass(frozen=True, eq=False)
class Built:
    """A coded network: how it was made; divergences: those of all ways, on inputs that none was made with."""

    network: Parameters
    choice: Choice
    divergences: Mapping[Choice, float]


def build(
    networks: Sequence[Network],
    coefficients: Float64Array,
    inputs: Sequence[Float64Array],
    held_out: Float64Array,
    draw: np.random.Generator,
) -> Built:
    """The coded network nearest to Σ β_i p_i of four: average, barycenter, each of them distilled.

    Parameters: `networks`: two of one shape; `coefficients`: β, (2,), Σ β = 1; `inputs`: for each network (rows,
    features), unlabelled, of the kind that it was trained on; `held_out`: (rows, features), of all kinds, to choose by.
    Raises InputError.
    """
    if len(networks) != MOST_NETWORKS:
        raise InputError(f"coding: expected {MOST_NETWORKS} networks, found {len(networks)}; code them in pairs")
    for name, rows in (*(("inputs", own) for own in inputs), ("held_out", held_out)):
        if not len(rows):
            raise InputError(f"coding: {name}: expected texts, found none")
    for network in networks:
        if not all(np.isfinite(parameter).all() for parameter in network):
            raise InputError("coding: a network has weights that are not finite; train it again")
    plain = average(networks, coefficients)
    fishers = [fisher(network, own) for network, own in zip(networks, inputs, strict=True)]
    merged = barycenter(networks, fishers, coefficients)
    together = np.concatenate(inputs)
    wanted = mixture(networks, coefficients, together)
    made: dict[Choice, Parameters] = {
        "average": plain,
        "barycenter": merged,
        "barycenter, distilled": distilled(merged, wanted, together, SHORT_STEPS, draw),
        "average, distilled": distilled(plain, wanted, together, LONG_STEPS, draw),
    }
    unseen = mixture(networks, coefficients, held_out)
    divergences = {name: divergence(unseen, probabilities(network, held_out)) for name, network in made.items()}
    choice = min(divergences, key=divergences.__getitem__)
    return Built(made[choice], choice, divergences)


def softmax(logits: Float64Array) -> Float64Array:
    """Probabilities from outputs, (rows, classes)."""
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    found: Float64Array = raised / raised.sum(axis=1, keepdims=True)
    return found


def _check_shapes(networks: Sequence[Network], coefficients: Float64Array) -> None:
    if coefficients.shape != (len(networks),):
        raise InputError(f"coding: expected {len(networks)} coefficients, found {coefficients.shape}")
    shapes = [[array.shape for array in network] for network in networks]
    if any(found != shapes[0] for found in shapes):
        raise InputError(f"coding: expected networks of one shape, found {' and '.join(map(str, shapes))}")
