"""The words of a model across sites: those that several sites have, each in several documents."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from gneiss.model_training.federated.features import END

#: As fastText separates words.
_SPACE = re.compile("[\0\t-\r ]+")


def shared_words(sites: Sequence[Iterable[str]], min_documents: int, most_words: int) -> list[str]:
    """Words by how many documents have them, the most frequent first.

    Parameters: `sites`: the texts of each, as fastText reads them; a word counts where so many documents of a site have
    it, and is taken if that is so at two sites, or at the only one. What no site would tell by itself is not told.

    >>> shared_words([["a b c", "a b"], ["a d", "b", "a b b", "b"], ["c c"]], 2, 10)
    ['b', 'a']
    """
    documents: Counter[str] = Counter()
    told: Counter[str] = Counter()
    for texts in sites:
        own: Counter[str] = Counter()
        for text in texts:
            own.update(set(_SPACE.split(text)) - {"", END})
        frequent = {word: count for word, count in own.items() if count >= min_documents}
        documents.update(frequent)
        told.update(frequent.keys())
    taken = [word for word, times in told.items() if times >= min(2, len(sites))]
    return sorted(taken, key=lambda word: (-documents[word], word))[:most_words]
