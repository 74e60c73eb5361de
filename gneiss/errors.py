"""The exception tree: everything gneiss raises deliberately is a GneissError with an exit code for the shell."""

from __future__ import annotations


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


class MachineError(GneissError):
    """This machine or cluster lacks something that the run needs."""


def first_line(error: BaseException | str) -> str:
    """The first line of another library's error message, or the exception's type, for quoting."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


class BudgetError(GneissError):
    """More documents or shards were quarantined than the recipe allows; the output is otherwise complete."""

    exit_code = 3
