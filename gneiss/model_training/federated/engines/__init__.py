"""Engines: what carries tasks to sites and answers back. Each is one file; the coordinator is the same for all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from gneiss.errors import InputError
from gneiss.model_training.federated.message import Message, unpacked

#: Why a site is lost that may be there again, at the beginning of the reason.
SILENT, ABSENT = "no sign of life", "it is not connected"


class Site(Protocol):
    """Lives where the documents are; one a site."""

    def work(self, task: Message) -> Message:
        """What the site answers: the same whenever it is asked the same. Raises InputError for what is no task."""


@dataclass(frozen=True)
class Lost:
    """A task that no answer will come of."""

    site: str
    reason: str


class Engine(Protocol):
    """Sites that can be reached."""

    def sites(self) -> tuple[str, ...]:
        """Their names, sorted."""

    def ask(self, site: str, task: Message) -> None:
        """Send a task, and return at once. A site has one task at a time."""

    def answer(self, timeout_s: float) -> tuple[str, Message] | Lost | None:
        """The next answer, in order of arrival, and its site; None where none came for so long. Raises GneissError."""


def received(site: str, content: bytes, most_bytes: int) -> tuple[str, Message] | Lost:
    """What an engine hands on of bytes that a site has sent: a message, or that there is none."""
    try:
        return site, unpacked(content, most_bytes)
    except InputError as error:
        return Lost(site, str(error))
