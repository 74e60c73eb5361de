"""What a site does with a task. It keeps nothing between tasks: the same task always has the same answer.

Tasks are those of `tasks`. Numbers of documents, and sums over them, are all that answers say beside weights.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from gneiss.errors import InputError, printable
from gneiss.model_training.federated import tasks
from gneiss.model_training.federated.linear import Examples, draw_of, loss_and_gradient, predicted
from gneiss.model_training.federated.message import Message, packed, require_arrays
from gneiss.model_training.federated.site_documents import SiteExamples, SiteFiles, site_examples, site_secret
from gneiss.model_training.federated.strategies.steps import Weights, norm
from gneiss.model_training.federated.strategies.strategy import Strategy, Task
from gneiss.model_training.federated.tasks import round_of, rule_of_steps, sampling_of
from gneiss.output.parquet import write_bytes
from gneiss.store.place import Place

SENT_FOLDER = "sent"


@dataclass(frozen=True)
class DocumentSite:
    """See Site: one that answers from labelled documents.

    Answers are noted before they go, for who answers for its documents: `sent/` in the site's folder has a file for
    each, named by round, kind and hash. One that is given again has its file.
    """

    files: SiteFiles

    @cached_property
    def _examples(self) -> SiteExamples:
        return site_examples(self.files)

    def work(self, task: Message) -> Message:
        """See Site. Raises also OutputError where the site's folder cannot be written."""
        found = task.meta.get("features")
        if found != self.files.space.sha256:
            raise InputError(
                f"site {self.files.site}: expected a task for the features {self.files.space.sha256[:12]}, found"
                f" {printable(repr(found)[:14])}; give coordinator and site one vocabulary, word_ngrams and buckets"
            )
        match task.meta.get("kind"):
            case tasks.COUNT:
                require_arrays(task, {})
                answer = Message(self._counts())
            case tasks.EVALUATE:
                require_arrays(task, {"x": self._shape})
                answer = Message({"held_out": figures(task.arrays["x"], self._examples.held_out)})
            case tasks.TRAIN:
                answer = self._trained(task)
            case other:
                raise InputError(
                    f"site {self.files.site}: no task is called {printable(repr(other)[:40])}; expected count, train,"
                    " or evaluate"
                )
        answer = Message({**answer.meta, "round": round_of(task)}, answer.arrays)
        self._note(task, answer)
        return answer

    @property
    def _shape(self) -> tuple[int, int]:
        return self.files.space.size, 1

    def _counts(self) -> dict[str, Any]:
        labels = np.concatenate([self._examples.trained.labels, self._examples.held_out.labels])
        return {"labels": np.bincount(labels, minlength=2).tolist()}

    def _trained(self, task: Message) -> Message:
        rule = rule_of_steps(task)
        if not isinstance(rule, Strategy):
            raise InputError(f"site {self.files.site}: expected a task for a site, found one for a region")
        shapes = {"x": self._shape} | ({"correction": self._shape} if rule.corrected else {})
        require_arrays(task, shapes)
        sampling, seed = sampling_of(task, self.files.min_documents)
        draw = draw_of(seed, round_of(task), self.files.site)
        x = task.arrays["x"]
        found = rule.answer(Task(x, task.arrays.get("correction")), sampling.gradient(self._examples.trained, draw))
        said: dict[str, Any] = {"held_out": figures(x, self._examples.held_out)}
        if protection := self.files.protection:
            secret = site_secret(self.files) if protection.noise_std else b""
            found = protection.apply(found, secret, packed(task))
            said["protection"] = protection.meta
        return Message(said, found.arrays)

    def _note(self, task: Message, answer: Message) -> None:
        difference = answer.arrays.get("difference")
        moved = {} if difference is None else {"features_moved": int(np.count_nonzero(difference.any(axis=1)))}
        note_sent(self.files.folder, task, answer, moved)


def note_sent(folder: Place, task: Message, answer: Message, also: Mapping[str, Any]) -> None:
    """Note what a site sends in a file of its own: kind of task, size, hash, values and norm of the answer, and more.

    Raises OutputError where the folder cannot be written.
    """
    content, difference = packed(answer), answer.arrays.get("difference")
    said: dict[str, Any] = {
        "round": answer.meta["round"],
        "kind": task.meta["kind"],
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "meta": answer.meta,
        **({} if difference is None else {"norm": norm(difference)}),
        **also,
    }
    name = f"{SENT_FOLDER}/{said['round']:06}-{said['kind']}-{said['sha256'][:16]}.json"
    write_bytes(f"{json.dumps(said)}\n".encode(), folder, name)


def figures(x: Weights, examples: Examples) -> Mapping[str, Any]:
    """How weights do on documents: their number, how many labels are predicted, and the sum of log losses."""
    documents = len(examples)
    if not documents:
        return {"documents": 0, "correct": 0, "loss_sum": 0.0}
    correct = int((predicted(x, examples.rows) == examples.labels).sum())
    loss, _ = loss_and_gradient(x, examples, np.arange(documents))
    return {"documents": documents, "correct": correct, "loss_sum": documents * loss}
