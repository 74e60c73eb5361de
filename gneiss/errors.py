"""The exception tree: everything gneiss raises deliberately is a GneissError with an exit code for the shell."""

from __future__ import annotations

import difflib
import re
import traceback
import unicodedata
from collections.abc import Iterable


class GneissError(Exception):
    """Base of every error that gneiss raises deliberately; the message states what was found and what to do."""

    exit_code = 1


class RecipeError(GneissError):
    """The recipe, or a rule in it, is wrong."""

    exit_code = 2


class InputError(GneissError):
    """The input cannot be read, or lacks what the recipe needs."""


class ModelError(GneissError):
    """A model or tokenizer is missing, unreadable, or not what the recipe declares."""


class OutputError(GneissError):
    """The output cannot be written, or belongs to another run."""


class StoreError(GneissError):
    """A remote store refuses a request or cannot be reached; the same call resumes when it responds."""


class MachineError(GneissError):
    """This machine or cluster lacks something that the run needs."""


class BudgetError(GneissError):
    """More documents or shards were quarantined than the recipe allows; the output is otherwise complete."""

    exit_code = 3


class DefectError(GneissError):
    """An unexpected exception: a defect of the code, not of the data or the machine.

    traceback: where it was raised, possibly in another process; empty if unknown.
    """

    exit_code = 4

    def __init__(self, message: str, traceback: str = "") -> None:
        super().__init__(message)
        self.traceback = traceback

    @classmethod
    def of(cls, what: str, error: BaseException) -> DefectError:
        """What failed, and the exception that nobody expected."""
        return cls(f"{what}: {type(error).__name__}: {first_line(error)}", format_traceback(error))


def first_line(error: BaseException | str) -> str:
    """The first line of another library's error message, or the exception's type, for quoting."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A suffix for an error message: the nearest known word, or all of them."""
    known = list(known)
    near = difflib.get_close_matches(word, known, 1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(known)) or 'none'}"


def format_traceback(error: BaseException) -> str:
    """The traceback of an exception and of its causes, as Python prints it."""
    return "".join(traceback.format_exception(error))


def printable(text: object, keep: str = "") -> str:
    r"""A name, id or text for a terminal, log or page: control and format characters are shown as JSON escapes them.

    These are what a terminal would obey, what would begin a line of its own, and marks that reorder text; the joiners
    of scripts and emoji stay, and so do the characters in `keep`.

    >>> print(printable("a\x1b[31mb\n\u202ec"))
    a\u001b[31mb\n\u202ec
    """
    return "".join(c if c in keep or _is_harmless(c) else _escaped(c) for c in str(text))


def _is_harmless(character: str) -> bool:
    return " " <= character <= "~" or (
        unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Zl", "Zp"} or character in "\u200c\u200d"
    )


def _escaped(character: str) -> str:
    short = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return short.get(character) or re.sub("....", r"\\u\g<0>", units)
