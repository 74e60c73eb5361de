"""Adapters of a real encoder across sites: what FedARA moves and reaches, beside FedLoRA and FFA-LoRA."""

from __future__ import annotations

from importlib.util import find_spec
from itertools import pairwise

import pytest

pytest.importorskip("torch", reason="adapters are trained by torch, which is not installed")

import fedara
from docstrings import PACKAGES

MISSING = [name for name in (*PACKAGES, fedara.PACKAGE) if find_spec(name) is None]
pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"the fixture needs {', '.join(MISSING)}: make test-train"),
    pytest.mark.exhaustive,
]
FEDLORA, FFA_LORA, PLAIN, FEDARA, *_ = fedara.ARMS
#: Of a rank of the six matrices of MiniLM's last layer, o + i, and of the head.
WIDTHS, HEAD = (768, 768, 768, 768, 1920, 1920), 12 * 385
ASKED = 5


def floats(arm: str, ranks: tuple[int, ...]) -> int:
    """Numbers of a message by the formula."""
    e = arm in {PLAIN, FEDARA}
    widths = (384, 384, 384, 384, 1536, 384) if arm == FFA_LORA else WIDTHS
    return HEAD + sum(live * (width + e) for live, width in zip(ranks, widths, strict=True))


@pytest.mark.parametrize("arm", [FEDLORA, FFA_LORA, PLAIN, FEDARA])
def test_messages_have_the_numbers_of_the_formula(arm: str) -> None:
    """In eight rounds, in which ranks only go; a vote costs a bit for each rank."""
    found = fedara.course(arm, 0, fedara.QUICK_ROUNDS)
    before = [(8,) * 6, *found.ranks[:-1]]
    assert found.floats == sum(2 * ASKED * floats(arm, ranks) for ranks in before)
    assert 4 * found.floats < found.bytes < 4 * found.floats + 2 * ASKED * fedara.QUICK_ROUNDS * 1200
    assert all(a >= b for earlier, later in pairwise(before) for a, b in zip(earlier, later, strict=True))
    assert (sum(found.ranks[-1]) <= 18) is (arm == FEDARA)
    assert max(found.accuracy.values()) > 2 / len(PACKAGES)


def test_a_task_takes_less_time_where_no_matrix_is_adapted() -> None:
    seconds = list(fedara.task_seconds().values())
    assert seconds[-1] < 0.8 * seconds[0]
