"""What docs/dedup.md says of a second pass: which repeated windows can be left in an output."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.dedup import duplicate_spans

Window = tuple[int, int]


def windows(texts: list[str], length: int) -> dict[str, list[Window]]:
    """Content → where it starts, in corpus order."""
    found: dict[str, list[Window]] = {}
    for document, text in enumerate(texts):
        for start in range(len(text) - length + 1):
            found.setdefault(text[start : start + length], []).append((document, start))
    return found


@pytest.mark.parametrize("policy", ["protect", "union", "all"])
@given(texts=st.lists(st.text("ab", max_size=40), min_size=1, max_size=5), length=st.integers(2, 6))
@pytest.mark.slow
def test_windows_that_are_whole_in_input_and_output_repeat_only_where_the_page_says(
    policy: str, texts: list[str], length: int
) -> None:
    spans = duplicate_spans(texts, min_length=length, policy=policy)
    cut = {(p["document"], unit) for p in spans.table.to_pylist() for unit in range(p["start"], p["end"])}
    survivors: dict[str, list[Window]] = {}
    firsts: set[Window] = set()
    for content, places in windows(texts, length).items():
        if len(places) > 1:
            firsts |= {(places[0][0], places[0][1] + i) for i in range(length)}
        whole = [(d, s) for d, s in places if not any((d, s + i) in cut for i in range(length))]
        survivors[content] = [place for place in whole if len(places) > 1]
        if policy == "protect":
            assert not places[1:] or places[0] in whole  # each repeated window keeps a whole copy
    for places in survivors.values():
        if policy == "protect":
            for document, start in places[1:]:
                assert all((document, start + i) in firsts for i in range(length))
        else:
            assert len(places) <= (1 if policy == "union" else 0)
