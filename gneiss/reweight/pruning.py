"""Unbiased pruning: some of the samples known to be easy are skipped, the rest of those get larger weights.

Weights of SampleReweighter have mean one in every batch; these have mean one only in expectation, since samples are
skipped at random. A draw is a function of (seed, epoch, id), so every rank knows what all ranks skip.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import xxhash

from gneiss.arrays import Float32Array, Float64Array, UInt64Array
from gneiss.loader.order import mixed


def pruning_weights(
    ids: npt.ArrayLike,
    losses: npt.ArrayLike,
    *,
    epoch: int,
    epochs: int,
    share: float = 0.5,
    anneal_from: float = 0.875,
    seed: int = 0,
    mean_loss: float | None = None,
) -> Float32Array:
    """InfoBatch: a sample below the mean loss is skipped with probability `share`, else has weight 1 / (1 - share).

    Parameters: `ids`: (samples,) integers from 0, the same in every epoch; `losses`: (samples,) of an earlier visit,
    NaN where there was none; `epoch` of `epochs`: from 0, or optimizer steps for both; `share`: 0 or more, less than 1;
    `anneal_from`: the part of the epochs after which all samples have weight one; `mean_loss`: over the samples of all
    ranks, by default over those given here. Returns float32 (samples,): 0, 1 or 1 / (1 - share). The expected weight of
    every sample is 1, so the expected sum of weighted gradients is the sum of all gradients.
    Samples without a finite loss have weight 1. Raises ValueError. Source: arXiv 2303.04947, section 2.

    >>> pruning_weights(range(8), [1, 1, 1, 1, 5, 5, 5, 5], epoch=1, epochs=10).tolist()
    [2.0, 0.0, 2.0, 0.0, 1.0, 1.0, 1.0, 1.0]
    >>> pruning_weights(range(8), [1, 1, 1, 1, 5, 5, 5, 5], epoch=9, epochs=10).tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    """
    numbers, values = np.asarray(ids), np.asarray(losses, np.float64)
    _check(numbers, values, epoch, epochs, share, anneal_from)
    weights = np.ones(len(values), np.float32)
    known = values[np.isfinite(values)]
    if epoch >= anneal_from * epochs or not len(known):
        return weights
    mean = math.fsum(known.tolist()) / len(known) if mean_loss is None else mean_loss  # exact, so independent of order
    drawn = _drawn(numbers.astype(np.uint64), seed, epoch)
    easy = np.isfinite(values) & (values < mean)
    weights[easy] = np.where(drawn[easy] < share, 0, 1 / (1 - share))
    return weights


def _drawn(ids: UInt64Array, seed: int, epoch: int) -> Float64Array:
    """A number in [0, 1) for each id, uniform over seeds."""
    key = np.uint64(xxhash.xxh3_64_intdigest(f"{seed}\0{epoch}\0prune".encode()))
    # two rounds: another epoch's draws are not this one's, shifted
    bits: UInt64Array = mixed(mixed(ids) ^ key)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _check(
    ids: npt.NDArray[np.generic],
    losses: Float64Array,
    epoch: int,
    epochs: int,
    share: float,
    anneal_from: float,
) -> None:
    if losses.ndim != 1 or ids.shape != losses.shape:
        raise ValueError(f"ids, losses: expected the same shape (samples,), found {ids.shape} and {losses.shape}")
    if len(ids) and (ids.dtype.kind not in "iu" or ids.min() < 0):
        raise ValueError("ids: expected integers from 0")
    if not 0 <= share < 1:
        raise ValueError(f"share: expected 0 or more and less than 1, found {share}")
    if not 0 <= anneal_from <= 1:
        raise ValueError(f"anneal_from: expected a part of the epochs, from 0 to 1, found {anneal_from}")
    if not 0 <= epoch < epochs:
        raise ValueError(f"epoch: expected a number from 0, smaller than {epochs}, found {epoch}")
