"""lm-evaluation-harness on our models: log-likelihoods are those of the model, and its evaluator takes them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'gneiss-curation[train]'")
pytest.importorskip("lm_eval", reason="tasks need lm-eval: pip install 'gneiss-curation[harness]'")

from gneiss.ablate import Size  # noqa: E402
from gneiss.ablate.ablation import ablate_pools  # noqa: E402
from gneiss.ablate.harness import HarnessModel, task_scores  # noqa: E402
from gneiss.ablate.model import Shape, new_model  # noqa: E402
from gneiss.ablate.tokens import Tokenizer, tokenizer_of  # noqa: E402
from gneiss.errors import InputError  # noqa: E402

pytestmark = pytest.mark.slow  # lm-eval takes seconds to import
BYTES, LENGTH = tokenizer_of("bytes", [], 0), 8


@pytest.fixture(scope="module")
def model() -> HarnessModel:
    return HarnessModel(new_model(Shape(Size(32, 1, 2, 1e-2), BYTES.vocabulary, LENGTH), seed=3), BYTES, LENGTH)


def asked(*arguments: Any) -> SimpleNamespace:
    return SimpleNamespace(args=arguments)


def slow(model: HarnessModel, context: list[int], continuation: list[int], window: list[int]) -> tuple[float, bool]:
    """Token by token; `window`: for each, how many tokens are before it."""
    whole, nats, greedy = [BYTES.end, *context, *continuation], 0.0, True
    for at, size in enumerate(window):
        end = 1 + len(context) + at
        chances = model._model(torch.tensor([whole[end - size : end]])).detach()[0, -1].log_softmax(-1)
        nats += float(chances[whole[end]])
        greedy = greedy and int(chances.argmax()) == whole[end]
    return nats, greedy


def test_log_likelihoods_are_those_of_the_model(model: HarnessModel) -> None:
    cases = [
        ("ab ", "cd", [3, 4, 5]),  # the space is the continuation's
        ("", "abc", [1, 2, 3]),
        ("a long context", "xyz", [6, 7, 8]),
        ("ab", "a continuation", [1, 2, 3, 4, 5, 6, 7, 8, 3, 4, 5, 6, 7, 8]),
    ]
    found = model.loglikelihood([asked(context, continuation) for context, continuation, _ in cases])
    for (nats, greedy), (context, continuation, window) in zip(found, cases, strict=True):
        kept = context.rstrip()
        rest = (context + continuation)[len(kept) :]
        exact = slow(model, [*kept.encode()], [*rest.encode()], window)
        if continuation == "a continuation":  # each token once, the windows are the code's own matter
            assert nats == pytest.approx(exact[0], rel=0.1)
            continue
        assert nats == pytest.approx(exact[0], rel=1e-5)
        assert greedy == exact[1]
    likeliest = bytes([int(model._model(torch.tensor([[BYTES.end, *b"ab"]])).detach()[0, -1, :128].argmax())]).decode()
    every = model.loglikelihood([asked("ab", chr(i)) for i in range(33, 127)])
    assert sum(math.exp(nats) for nats, _ in every) < 1
    assert [i for i, (_, greedy) in enumerate(every) if greedy] in ([], [ord(likeliest) - 33])


def test_a_rolling_text_has_each_token_once(model: HarnessModel) -> None:
    text = "twenty characters ok"
    windows = list(model._windows([], [*text.encode()]))
    assert [token for _, targets in windows for token in targets] == [*text.encode()]
    assert all(len(inputs) <= LENGTH for inputs, _ in windows)
    assert len(windows[-1][0]) == LENGTH
    (found,) = model.loglikelihood_rolling([asked(text)])
    assert found == pytest.approx(sum(model.loglikelihood([asked("", text)])[0][:1]), rel=1e-6)
    assert model.loglikelihood_rolling([asked("")]) == [0.0]


def test_text_is_not_generated(model: HarnessModel) -> None:
    with pytest.raises(InputError, match="1 requests to generate text"):
        model.generate_until([asked("a", {})])


@pytest.fixture
def manager(tmp_path: Path) -> Any:
    """A task of one's own, from a file: which letter follows."""
    from lm_eval.tasks import TaskManager

    rows = [{"question": "ababababa", "choices": ["b", "x"], "answer": 0}] * 3
    rows += [{"question": "bababababab", "choices": ["q", "a"], "answer": 1}] * 2
    (tmp_path / "letters.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "letters.yaml").write_text(
        "task: letters\ndataset_path: json\ndataset_name: null\n"
        f"dataset_kwargs:\n  data_files:\n    test: {tmp_path}/letters.jsonl\n"
        "test_split: test\noutput_type: multiple_choice\ndoc_to_text: '{{question}}'\n"
        "doc_to_choice: '{{choices}}'\ndoc_to_target: '{{answer}}'\ntarget_delimiter: ''\n"
        "metric_list:\n  - metric: acc\n  - metric: acc_norm\n"
    )
    return TaskManager(include_path=str(tmp_path), include_defaults=False)


@pytest.mark.processes
def test_the_harness_scores_a_task(manager: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of letters in turn is right, each time; and tasks come with an ablation."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))

    class InTurn(torch.nn.Module):  # type: ignore[misc, unused-ignore]
        def forward(self, tokens: Any) -> Any:
            after = torch.where(tokens == ord("a"), ord("b"), ord("a"))
            return torch.nn.functional.one_hot(after, BYTES.vocabulary).float() * 9

    right: Any = HarnessModel(InTurn(), BYTES, 16)  # type: ignore[arg-type, unused-ignore]
    assert task_scores(right, ["letters"], manager) == {"letters acc_norm": 1.0}
    with pytest.raises(InputError, match="task 'lettres': lm-eval has none of this name"):
        task_scores(right, ["lettres"], manager)


def test_tokens_that_join_two_texts_are_asked_all_the_same() -> None:
    """A tokenizer that merges across the border: what is left of the whole, or the continuation by itself."""
    merged = {"ab": [1], "abc": [2]}
    tokenizer = Tokenizer(lambda text: np.array(merged.get(text, [5] * len(text)), np.int32), 10)
    model = HarnessModel(new_model(Shape(Size(32, 1, 2, 1e-2), 10, LENGTH), seed=0), tokenizer, LENGTH)
    assert model._pair("ab", "c") == ([1], [5])
    assert model._pair("x", "yz") == ([5], [5, 5])


def test_scores_of_tasks_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from gneiss.ablate.corpora import pool_of_texts
    from gneiss.store.place import place_of
    from tests.ablate.test_ablation import CLEAN, HELD_OUT, JUNK, PLAN

    given = iter([0.5, 0.75, 0.25, 0.5])
    monkeypatch.setattr("gneiss.ablate.harness.task_scores", lambda *_: {"letters acc": next(given)})
    plan = replace(PLAN, tasks=("letters",), training=replace(PLAN.training, budget_tokens=8 * 32 * 4))
    pools = [pool_of_texts("junk", JUNK), pool_of_texts("clean", CLEAN)]
    found = ablate_pools(pools, HELD_OUT, place_of(tmp_path / "out"), plan)
    assert found.comparisons[0].tasks["letters acc"].pairs == (0.25, 0.25)
    assert ablate_pools(pools, HELD_OUT, place_of(tmp_path / "out"), plan) == found
    content = json.loads((tmp_path / "out/ablation.json").read_text())
    assert content["models"][0]["scores"] == {"letters acc": 0.5}
