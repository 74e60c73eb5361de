"""A judge that is a Python function, named by its import path."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from gneiss.errors import ModelError, first_line
from gneiss.routing.judge import Answer, Failure, Verdict


@dataclass(frozen=True)
class CallableJudge:
    """A function from a sequence of texts to one bool for each; None where it has no answer.

    function: `module:name`, imported where it is asked; naming one in a policy runs its code.

    >>> CallableJudge("builtins:list").ask(["good"])
    Traceback (most recent call last):
        ...
    gneiss.errors.ModelError: judge builtins:list: expected a bool for each text, or None, found 'good'
    """

    function: str

    @property
    def identity(self) -> tuple[str, ...]:
        """What its answers depend on: its name, and the sha256 of the file that it is in."""
        file = getattr(sys.modules[self._imported().__module__], "__file__", None)
        code = Path(file).read_bytes() if file else b""
        return "function", self.function, hashlib.sha256(code).hexdigest()

    def ask(self, texts: Sequence[str]) -> list[Answer]:
        """See Judge. An exception of the function for several texts is asked again one by one."""
        judge = self._imported()
        try:
            found = judge(list(texts))
        except Exception as error:  # noqa: BLE001 - it is somebody else's code: which text it fails on is found out
            if len(texts) > 1:
                return [answer for text in texts for answer in self.ask([text])]
            return [Failure(f"{self.function} raised {type(error).__name__}")]
        if not isinstance(found, Iterable) or len(answers := list(found)) != len(texts):
            raise ModelError(f"judge {self.function}: expected an answer for each of {len(texts)} texts")
        return [self._answer(answer) for answer in answers]

    def _imported(self) -> Callable[[list[str]], Sequence[bool | None]]:
        module, _, name = self.function.partition(":")
        try:
            function: Callable[[list[str]], Sequence[bool | None]] = getattr(import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise ModelError(
                f"judge {self.function}: expected module:function, which Python can import: {first_line(error)}"
            ) from error
        return function

    def _answer(self, answer: object) -> Answer:
        if answer is None:
            return Failure(f"{self.function} has no answer")
        if type(answer).__name__ not in {"bool", "bool_"}:  # those of Python and of NumPy
            raise ModelError(
                f"judge {self.function}: expected a bool for each text, or None, found {str(answer)[:40]!r}"
            )
        return Verdict(bool(answer))
