"""When label mixes differ."""

from __future__ import annotations

import pytest

from gneiss.errors import InputError
from gneiss.model_training.federated.label_mixes import LabelMixes


@pytest.mark.parametrize(
    ("counts", "differ"),
    [
        ({"a": [90, 10], "b": [10, 90]}, True),
        ({"a": [60, 40], "b": [50, 50]}, False),
        ({"a": [100, 0], "b": [100, 0]}, False),  # one label everywhere: no site is pulled another way
        ({"a": [64, 36], "b": [36, 64]}, False),  # .14 more
        ({"a": [70, 30], "b": [30, 70], "none": [0, 0]}, True),
        ({"a": [9, 0, 1], "b": [0, 9, 1], "c": [1, 1, 8]}, True),
        ({"alone": [7, 3]}, False),
    ],
)
def test_corrections_are_for_mixes_that_differ(counts: dict[str, list[int]], differ: bool) -> None:
    mixes = LabelMixes.of(counts)
    assert mixes.differ is differ
    assert ("label mixes differ" in mixes.reason) is differ


def test_the_reason_has_both_shares() -> None:
    reason = LabelMixes.of({"a": [90, 10], "b": [10, 90]}).reason
    assert "90% of its documents on average, 50% of all" in reason


def test_what_are_no_counts() -> None:
    with pytest.raises(InputError, match="no site has a labelled document"):
        LabelMixes.of({"a": [0, 0]})
    with pytest.raises(InputError, match=r"as many labels at every site, found \[2, 3\]"):
        LabelMixes.of({"a": [1, 2], "b": [1, 2, 3]})
