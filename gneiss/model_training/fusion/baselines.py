"""What a fusion model is compared with on its card: simpler ways to one score from blocks that may be missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import TypeAlias

import numpy as np

from gneiss.arrays import Float64Array, Int64Array
from gneiss.model_training.fusion.methods import Examples, Learning, fit_network
from gneiss.model_training.networks import Parameters, forward, probability

#: Probabilities for other documents, float64 (documents,); NaN where there is none.
Scorer: TypeAlias = "Callable[[Examples], Float64Array]"
#: With more blocks, and so more than 31 sets of them, no model for each set is trained.
MOST_COMBINED_BLOCKS = 5
#: The least documents of each label to train on.
_FEWEST = 10


def baselines(trained: Examples, names: Sequence[str], learning: Learning) -> Iterator[tuple[str, Scorer | None]]:
    """Each by name, trained on the same documents; None where the library for it is not installed.

    names: of the blocks.
    """
    alone = [_of_blocks(trained, (block,), learning) for block in range(len(names))]
    for name, scorer in zip(names, alone, strict=True):
        yield f"{name} alone, where it is there", scorer
    yield "vote of the blocks alone", lambda documents: _mean(alone, documents, is_vote=True)
    yield "mean of the blocks alone", lambda documents: _mean(alone, documents, is_vote=False)
    every = tuple(range(len(names)))
    yield "one model of all blocks, else nothing", _of_blocks(trained, every, learning)
    if len(names) <= MOST_COMBINED_BLOCKS:
        yield "a model for each set of blocks", _combined(trained, learning)
    yield "gradient boosting (scikit-learn)", _boosted(trained) if find_spec("sklearn") else None


def _of_blocks(trained: Examples, blocks: tuple[int, ...], learning: Learning) -> Scorer:
    """A network of some blocks, trained on the documents that have all of them, for the documents that do."""
    rows = trained.there[:, list(blocks)].all(axis=1)
    network = _network(_inputs(trained, blocks)[rows], trained.labels[rows], learning)

    def score(documents: Examples) -> Float64Array:
        there = documents.there[:, list(blocks)].all(axis=1)
        scores = np.full(len(documents.labels), np.nan)
        if network is not None:
            scores[there] = probability(forward(network, _inputs(documents, blocks)[there])[-1][:, 0])
        return scores

    return score


def _inputs(documents: Examples, blocks: Sequence[int]) -> Float64Array:
    return np.hstack([documents.blocks[block] for block in blocks])


def _network(inputs: Float64Array, labels: Float64Array, learning: Learning) -> Parameters | None:
    """None where too few documents have a label."""
    if min(labels.sum(), len(labels) - labels.sum()) < _FEWEST:
        return None
    return fit_network(inputs, labels, learning)


def _mean(alone: Sequence[Scorer], documents: Examples, *, is_vote: bool) -> Float64Array:
    scores = np.stack([scorer(documents) for scorer in alone], axis=1)
    there = ~np.isnan(scores)
    answers = np.where(scores > 0.5, 1.0, 0.0) if is_vote else scores
    count = there.sum(axis=1)
    found: Float64Array = np.where(there, answers, 0.0).sum(axis=1) / np.where(count, count, np.nan)
    return found


def _combined(trained: Examples, learning: Learning) -> Scorer:
    """For each pattern the model of its blocks, trained on all documents that have them."""
    count = len(trained.blocks)
    scorers = {
        pattern: _of_blocks(trained, tuple(k for k in range(count) if pattern >> k & 1), learning)
        for pattern in range(1, 1 << count)
    }

    def score(documents: Examples) -> Float64Array:
        patterns: Int64Array = documents.patterns
        scores = np.full(len(patterns), np.nan)
        for pattern in np.unique(patterns).tolist():
            rows = patterns == pattern
            scores[rows] = scorers[pattern](documents.taken(rows))
        return scores

    return score


def _boosted(trained: Examples) -> Scorer:
    from sklearn.ensemble import HistGradientBoostingClassifier

    def inputs(documents: Examples) -> Float64Array:
        there = np.repeat(documents.there, [block.shape[1] for block in documents.blocks], axis=1)
        return np.where(there, np.hstack(documents.blocks), np.nan)

    model = HistGradientBoostingClassifier(random_state=0).fit(inputs(trained), trained.labels)
    return lambda documents: np.asarray(model.predict_proba(inputs(documents))[:, 1], np.float64)
