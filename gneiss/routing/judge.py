"""Judges: what answers for a batch of texts whether each is good. A router rarely asks the expensive one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias


@dataclass(frozen=True)
class Verdict:
    """What a judge says about a text: whether to keep it; cost: of the answer, in the unit of the judge's prices."""

    keep: bool
    cost: float = 0.0


@dataclass(frozen=True)
class Failure:
    """A text that a judge could not answer for; the reason quotes neither the text nor a secret."""

    reason: str


Answer: TypeAlias = Verdict | Failure


class Judge(Protocol):
    """Answers for texts. The same text should get the same answer: answers are kept, and a text is not asked twice."""

    @property
    def identity(self) -> tuple[str, ...]:
        """What its answers depend on, beside the text: by this, kept answers are found again."""

    def ask(self, texts: Sequence[str]) -> list[Answer]:
        """One answer for each text, in order; what goes wrong with some of them is their Failure.

        Raises ModelError where it can answer for none, whatever the texts: no such model, no right to ask it.
        """
