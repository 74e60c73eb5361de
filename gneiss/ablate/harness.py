"""Tasks of lm-evaluation-harness on the models of an ablation. Needs torch and lm-eval.

Source: EleutherAI, lm_eval/api/model.py (0.4.13): what is asked of a language model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from lm_eval.api.model import LM
from lm_eval.evaluator import simple_evaluate
from lm_eval.tasks import TaskManager

from gneiss.ablate.model import GPT
from gneiss.ablate.tokens import Tokenizer
from gneiss.errors import InputError

#: The shares of right answers of which the first that a task has is its score.
METRICS = ("acc_norm", "acc", "exact_match")
_BATCH = 64
_Base: Any = LM  # Any keeps type checkers from requiring it


class HarnessModel(_Base):  # type: ignore[misc]
    """A GPT and its tokenizer, as the harness asks: log-likelihoods of texts, in nats; it generates none.

    length: tokens that the model sees; of a longer context the end is kept.
    """

    def __init__(self, model: GPT, tokenizer: Tokenizer, length: int, device: str = "cpu") -> None:
        super().__init__()
        self._model, self._tokenizer, self._length, self._at = model, tokenizer, length, device

    def loglikelihood(self, requests: Sequence[Any], **_: Any) -> list[tuple[float, bool]]:
        """Of each continuation after its context: its log-likelihood, and whether each token is the likeliest."""
        return self._scores([self._pair(*request.args) for request in requests])

    def loglikelihood_rolling(self, requests: Sequence[Any], **_: Any) -> list[float]:
        """Of each text, which follows the end of a document."""
        pairs: list[tuple[list[int], list[int]]] = [([], self._encode(request.args[0])) for request in requests]
        return [nats for nats, _ in self._scores(pairs)]

    def generate_until(self, requests: Sequence[Any], **_: Any) -> list[str]:
        """Raises InputError: models of this size write nothing that could be judged."""
        raise InputError(
            f"lm-eval: {len(requests)} requests to generate text; expected tasks that compare log-likelihoods, such as"
            " arc_easy, hellaswag or piqa"
        )

    def _encode(self, text: str) -> list[int]:
        tokens: list[int] = self._tokenizer.encode(text).tolist()
        return tokens

    def _pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Tokens of both. Spaces before the continuation are its own, as tokens begin with theirs."""
        kept = context.rstrip()
        before, whole = self._encode(kept), self._encode(context + continuation)
        return before, whole[len(before) :] or self._encode(continuation)

    def _scores(self, pairs: Sequence[tuple[list[int], list[int]]]) -> list[tuple[float, bool]]:
        nats, greedy = [0.0] * len(pairs), [True] * len(pairs)
        windows = [(at, *window) for at, pair in enumerate(pairs) for window in self._windows(*pair)]
        windows.sort(key=lambda window: len(window[1]))  # of about one length in a batch
        for first in range(0, len(windows), _BATCH):
            batch = windows[first : first + _BATCH]
            width = max(len(inputs) for _, inputs, _ in batch)
            tokens = torch.tensor([[*inputs, *[0] * (width - len(inputs))] for _, inputs, _ in batch], device=self._at)
            with torch.inference_mode():
                chances = self._model(tokens).float().log_softmax(-1)
            for row, (at, inputs, targets) in zip(chances, batch, strict=True):
                own = row[len(inputs) - len(targets) : len(inputs)]
                wanted = torch.tensor(targets, device=self._at)
                nats[at] += float(own.gather(1, wanted[:, None]).sum(dtype=torch.float64))
                greedy[at] = greedy[at] and bool((own.argmax(1) == wanted).all())
        return list(zip(nats, greedy, strict=True))

    def _windows(self, before: list[int], after: list[int]) -> Iterator[tuple[list[int], list[int]]]:
        """What the model sees, and which tokens after it are asked: each once, with as much before it as goes."""
        whole = [self._tokenizer.end, *before, *after]
        for at in range(0, len(after), self._length):
            targets = after[at : at + self._length]
            end = 1 + len(before) + at + len(targets)
            yield whole[max(0, end - 1 - self._length) : end - 1], targets


def task_scores(model: HarnessModel, tasks: Sequence[str], manager: TaskManager | None = None) -> dict[str, float]:
    """Task and metric → the share of right answers, as `arc_easy acc_norm`; see METRICS.

    Parameters: `tasks`: names that lm-eval knows, whose sets are there or can be fetched; `manager`: of tasks of one's
    own. Raises InputError for a task that is unknown, generates text, or has none of the metrics.
    """
    manager = TaskManager() if manager is None else manager
    if unknown := [task for task in tasks if not manager.match_tasks([task])]:
        raise InputError(f"task {unknown[0]!r}: lm-eval has none of this name; `lm-eval ls tasks` lists them")
    done = simple_evaluate(model, tasks=list(tasks), task_manager=manager, bootstrap_iters=0, log_samples=False)
    found = {}
    for task in tasks:
        measured = {name.partition(",")[0]: value for name, value in done["results"][task].items()}
        metric = next((name for name in METRICS if name in measured), None)
        if metric is None:
            raise InputError(f"task {task}: expected one of {', '.join(METRICS)}, found {', '.join(measured)}")
        found[f"{task} {metric}"] = float(measured[metric])
    return found
