"""COIN on images of ten classes: what it must hold where inputs leave features unused, and what it does not hold."""

from __future__ import annotations

import json
from functools import cache

import coin
import numpy as np
import pytest


@cache
def found(fixture: str, base_has_both: bool, depth: int, rate: float, seeds: int) -> dict[str, float]:
    if fixture == "digits":
        pytest.importorskip("sklearn", reason="the digits are scikit-learn's")
    figures: dict[str, float] = coin.figures(coin.FIXTURES[fixture], depth, base_has_both, seeds, rate=rate)
    return figures


def holds(fixture: str, depth: int, seeds: int) -> None:
    """The bounds of acceptance."""
    both = found(fixture, True, depth, 1e-3, seeds)
    assert both["COIN"] >= both["average"] + 0.03
    assert both["COIN"] >= 0.85 * both["original"]
    one = found(fixture, False, depth, 1e-3, seeds)
    assert one["COIN"] >= one["average"] + 0.10
    for figures in (both, one):
        assert figures["seconds, COIN"] <= figures["seconds, distilled"] / 2
        assert figures["agreement, COIN"] >= figures["agreement, average"]
        assert figures["other network"] < figures["average"]


@pytest.mark.slow
def test_one_seed_holds_the_bounds() -> None:
    holds("made up", 1, 1)


@pytest.mark.exhaustive
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("fixture", ["made up", "digits"])
def test_five_seeds_hold_the_bounds(fixture: str, depth: int) -> None:
    holds(fixture, depth, 5)


def test_information_on_the_texts_of_both_is_no_better_than_averaging() -> None:
    """The trap: each network's information is of the inputs that it was trained on, not of all."""
    both = found("made up", True, 1, 1e-3, 1)
    assert both["COIN, Fisher on all images"] < both["average"]


@pytest.mark.exhaustive
def test_with_noise_on_every_input_it_gains_less() -> None:
    noisy, even = (found(fixture, True, 1, 1e-3, 3) for fixture in ("noisy", "made up"))
    assert noisy["COIN"] - noisy["average"] <= (even["COIN"] - even["average"]) / 2


@pytest.mark.exhaustive
def test_where_it_is_no_good_or_not_needed() -> None:
    limits = coin.limits(coin.made_up, 2)
    two = limits["two questions about the same images"]
    assert two["distilled"] >= two["COIN"] + 0.05
    three = limits["three experts, base of all"]
    assert three["COIN"] <= found("made up", True, 1, 1e-3, 2)["COIN"] - 0.05
    one = limits["one question about the same images"]
    assert one["other network"] >= one["COIN"] - 0.01


def test_linear_heads_are_decoded() -> None:
    errors = coin.linear_errors()
    assert errors["float64"] <= 1e-9
    assert errors["two of six lost, float64"] <= 1e-9
    assert errors["float32 table"] <= 1e-5


@pytest.mark.exhaustive
def test_the_script_prints_its_tables(capsys: pytest.CaptureFixture[str]) -> None:
    coin.main(["--quick", "--json"])
    made = json.loads(capsys.readouterr().out)
    printed = "\n".join(coin.lines(made))
    assert "| base of A and B, depth 2, rate 0.001 |" in printed
    assert "nan" not in printed


def test_figures_are_those_of_the_seed() -> None:
    images, labels = coin.made_up(3)
    again, _ = coin.made_up(3)
    assert (images == again).all()
    assert np.bincount(labels).min() > 100
