"""What a site does with a task. It keeps nothing between tasks: the same task always has the same answer.

| task | arrays of the task | answer |
| --- | --- | --- |
| `count` | | documents of each label |
| `train` | x, and correction where there is one | difference, and tracked; how x does on documents held out |
| `evaluate` | x | how x does on documents held out |

Numbers of documents and sums over them are all that answers say of documents, beside weights.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from gneiss.errors import InputError, OutputError, printable
from gneiss.model_training.federated.linear import Examples, Sampling, draw_of, loss_and_gradient, predicted
from gneiss.model_training.federated.message import Message, number, packed, require_arrays, whole_number
from gneiss.model_training.federated.site_documents import SiteExamples, SiteFiles, site_examples
from gneiss.model_training.federated.steps import AMSGrad, Descent, Weights, norm
from gneiss.model_training.federated.strategy import Strategy, Task
from gneiss.output.parquet import write_new

SENT_FILE = "sent.jsonl"
#: The most steps and documents of a task: what a site does for one is bounded.
MOST_STEPS, MOST_BATCH = 10_000, 65_536
_MOST_ROUNDS, _MOST_SEED = 10**9, 2**63
#: Sites whose documents a worker has in memory.
_MOST_SITES = 256


@dataclass(frozen=True)
class DocumentSite:
    """See Site: one that answers from labelled documents.

    Answers are noted in `sent.jsonl` of the site's folder before they go, for who answers for its documents.
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
            case "count":
                require_arrays(task, {})
                answer = Message(self._counts())
            case "evaluate":
                require_arrays(task, {"x": self._shape})
                answer = Message({"held_out": figures(task.arrays["x"], self._examples.held_out)})
            case "train":
                answer = self._trained(task)
            case other:
                raise InputError(
                    f"site {self.files.site}: no task is called {printable(repr(other)[:40])}; expected count, train,"
                    " or evaluate"
                )
        answer = Message({**answer.meta, "round": whole_number(task, "round", 0, _MOST_ROUNDS)}, answer.arrays)
        self._note(task, answer)
        return answer

    @property
    def _shape(self) -> tuple[int, int]:
        return self.files.space.size, 1

    def _counts(self) -> dict[str, Any]:
        labels = np.concatenate([self._examples.trained.labels, self._examples.held_out.labels])
        return {"labels": np.bincount(labels, minlength=2).tolist()}

    def _trained(self, task: Message) -> Message:
        strategy = local_strategy(task)
        shapes = {"x": self._shape} | ({"correction": self._shape} if task.meta.get("corrected") else {})
        require_arrays(task, shapes)
        sampling = Sampling(
            whole_number(task, "batch", 1, MOST_BATCH), number(task, "l2", 0, 1), self.files.min_documents
        )
        round_ = whole_number(task, "round", 0, _MOST_ROUNDS)
        draw = draw_of(whole_number(task, "seed", 0, _MOST_SEED), round_, self.files.site)
        x = task.arrays["x"]
        gradient = sampling.gradient(self._examples.trained, draw)
        found = strategy.answer(Task(x, task.arrays.get("correction")), gradient)
        arrays = {"difference": found.difference} | ({} if found.tracked is None else {"tracked": found.tracked})
        return Message({"held_out": figures(x, self._examples.held_out)}, arrays)

    def _note(self, task: Message, answer: Message) -> None:
        content = packed(answer)
        difference = answer.arrays.get("difference")
        said = {
            "round": answer.meta["round"],
            "kind": task.meta["kind"],
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "meta": answer.meta,
        }
        if difference is not None:
            said |= {"norm": norm(difference), "features_moved": int(np.count_nonzero(difference.any(axis=1)))}
        place = self.files.folder / SENT_FILE
        try:
            sent = place.read()
        except FileNotFoundError:
            sent = b""
        except OSError as error:
            raise OutputError(f"{place}: cannot read: {error.strerror or error}") from error
        write_new(sent + json.dumps(said).encode() + b"\n", self.files.folder, SENT_FILE)


def local_strategy(task: Message) -> Strategy:
    """How a site steps, as its task says. Raises InputError for what no task says."""
    optimizer, corrected = task.meta.get("optimizer"), task.meta.get("corrected")
    if optimizer not in (None, "amsgrad") or corrected not in (None, "gradient", "direction"):
        raise InputError(
            "message: expected the optimizer amsgrad or none, and corrected gradient, direction or none, found"
            f" {printable(repr((optimizer, corrected))[:80])}"
        )
    steps, rate = whole_number(task, "steps", 1, MOST_STEPS), number(task, "rate", 0, 1000)
    return Strategy(Descent(steps, rate, AMSGrad() if optimizer else None), corrected)


def local_meta(strategy: Strategy) -> dict[str, Any]:
    """What a task says of how a site steps; see `local_strategy`."""
    return {
        "steps": strategy.local.steps,
        "rate": strategy.local.rate,
        "optimizer": "amsgrad" if strategy.local.optimizer else None,
        "corrected": strategy.corrected,
    }


def figures(x: Weights, examples: Examples) -> Mapping[str, Any]:
    """How weights do on documents: their number, how many labels are predicted, and the sum of log losses."""
    documents = len(examples)
    if not documents:
        return {"documents": 0, "correct": 0, "loss_sum": 0.0}
    correct = int((predicted(x, examples.rows) == examples.labels).sum())
    loss, _ = loss_and_gradient(x, examples, np.arange(documents))
    return {"documents": documents, "correct": correct, "loss_sum": documents * loss}


@lru_cache(maxsize=_MOST_SITES)
def site_of(files: SiteFiles) -> DocumentSite:
    """The site of some files: in one process the same one, so that it reads its documents once."""
    return DocumentSite(files)
