"""A share of the tests, for continuous integration."""

from __future__ import annotations

from tests.seeded_share import SeededShare

NAMES = [f"tests/test_a.py::test_{number}" for number in range(3000)]


def test_a_share_is_the_same_for_a_seed_and_about_as_large_as_was_asked() -> None:
    shares = [[name for name in NAMES if SeededShare(3, seed).has(name)] for seed in ("a", "b", "a")]
    assert shares[0] == shares[2] != shares[1]
    assert all(900 < len(share) < 1100 for share in shares)


def test_without_a_word_all_tests_run() -> None:
    everything = SeededShare.from_environment({})
    assert all(map(everything.has, NAMES))
    some = SeededShare.from_environment({"GNEISS_SHARE": "4", "GNEISS_SHARE_SEED": "abc"})
    assert some == SeededShare(4, "abc")
