"""Tokens: every one is predicted once, and every byte of a held-out text is judged."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.ablate.corpora import pool_of_texts
from gneiss.ablate.tokens import NO_LABEL, Encoded, judged, tokenizer_of
from gneiss.errors import InputError

BYTES = tokenizer_of("bytes", [], 0)


@given(st.lists(st.text(min_size=1, max_size=9), min_size=1, max_size=5), st.integers(1, 6), st.integers(1, 7))
def test_sequences_are_the_documents_end_to_end(texts: list[str], count: int, length: int) -> None:
    encoded = Encoded.of(pool_of_texts("x", texts), BYTES)
    order = encoded.pool.order(0)
    once = b"".join(encoded.pool.texts[i].encode() + b"\xff" for i in order)
    found = encoded.sequences(order, count, length)
    stream = [*found[0][:1], *found[:, 1:].ravel()]
    wanted = b"\xff" + (once * (count * length // len(once) + 1))[: count * length]
    assert [min(token, 255) for token in stream] == list(wanted)
    assert (found[1:, 0] == found[:-1, -1]).all()


@given(st.lists(st.text(min_size=1, max_size=9), min_size=1, max_size=5), st.integers(1, 7))
def test_every_byte_of_a_held_out_text_is_judged_once(texts: list[str], length: int) -> None:
    found = judged({"d": texts}, BYTES, length)["d"]
    labels = found.labels[found.labels != NO_LABEL]
    assert bytes(labels.astype(np.uint8)) == "".join(texts).encode()
    assert found.text_bytes == len(labels)
    assert (found.inputs == BYTES.end).sum() == len(texts)


def test_the_tokenizer_is_trained_on_all_corpora() -> None:
    pools = [pool_of_texts("a", ["zebra zebra zebra"] * 9), pool_of_texts("b", ["quokka quokka"] * 9)]
    tokenizer = tokenizer_of("bpe", pools, 300)
    assert max(len(tokenizer.encode(word)) for word in (" zebra", " quokka")) < 4
    assert tokenizer.encode("é\x00").max() < tokenizer.end == 299


def test_a_vocabulary_that_is_too_small_is_refused() -> None:
    with pytest.raises(InputError, match="expected 300 or more"):
        tokenizer_of("bpe", [], 299)
    with pytest.raises(InputError, match="expected a vocabulary above that"):
        tokenizer_of("builtin:cl100k_base", [], 300).encode("corpora")
