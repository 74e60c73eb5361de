"""Answers that a judge has given, kept in files, so that no retry and no other worker asks again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from uuid import uuid4

from gneiss.errors import MachineError
from gneiss.routing.judge import Answer, Judge, Verdict


@dataclass(eq=False)
class KeptAnswers:
    """A judge that asks another one, and keeps its verdicts; a failure is not kept.

    folder: one for each judge and question; None: in memory only. Each process appends to a file of its own, of lines;
    a line that a killed process left unfinished is skipped. No text is kept, but its hash.
    """

    judge: Judge
    folder: Path | None = None
    asked: int = 0
    cost: float = 0.0
    _known: dict[str, Verdict] = field(default_factory=dict)
    _file: IO[str] | None = None

    def __post_init__(self) -> None:
        if self.folder is not None and self.folder.is_dir():
            for key, verdict in _read(self.folder):
                self._known.setdefault(key, verdict)  # the first one said, where two processes asked

    def ask(self, texts: Sequence[str]) -> list[Answer]:
        """See Judge; equal texts are asked once. Raises MachineError where answers cannot be kept."""
        keys = [_key(text) for text in texts]
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._known}
        answers = dict(zip(new, self.judge.ask(list(new.values())), strict=True)) if new else {}
        verdicts = {key: answer for key, answer in answers.items() if isinstance(answer, Verdict)}
        self.asked += len(new)
        self.cost += sum(verdict.cost for verdict in verdicts.values())
        self._keep(verdicts)
        self._known |= verdicts
        return [self._known[key] if key in self._known else answers[key] for key in keys]

    def _keep(self, verdicts: dict[str, Verdict]) -> None:
        if self.folder is None or not verdicts:
            return
        try:
            if self._file is None:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._file = (self.folder / f"{uuid4().hex}.jsonl").open("a", encoding="ascii")
            for key, verdict in verdicts.items():
                self._file.write(json.dumps({"text": key, "keep": verdict.keep, "cost": verdict.cost}) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise MachineError(
                f"{self.folder}: cannot keep the judge's answers: {error.strerror}; free space, or set GNEISS_CACHE to"
                " another folder"
            ) from error


def _key(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _read(folder: Path) -> Iterator[tuple[str, Verdict]]:
    """What is in the files of a folder, in order of their names; lines of another form are skipped."""
    for path in sorted(folder.glob("*.jsonl")):
        try:
            lines = path.read_bytes().split(b"\n")
        except OSError as error:
            raise MachineError(f"{path}: cannot read the judge's answers: {error.strerror}") from error
        for line in lines[:-1]:  # after the last line break: nothing, or what was not finished
            try:
                found = json.loads(line)
                if type(found["keep"]) is bool and isinstance(found["text"], str):
                    yield found["text"], Verdict(found["keep"], float(found["cost"]))
            except (ValueError, TypeError, KeyError):
                continue
