"""The Hugging Face Trainer: uniform weights change nothing, others do, columns arrive, a resumed run is the run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="reweighting needs torch: pip install 'gneiss-curation[train]'")
transformers = pytest.importorskip("transformers", reason="needs transformers: pip install transformers accelerate")
pytest.importorskip("accelerate", reason="needs accelerate: pip install transformers accelerate")

from gneiss.reweight import ReweightedTrainerMixin, SampleReweighter  # noqa: E402
from gneiss.reweight.huggingface import STATE_FILE  # noqa: E402

torch.set_num_threads(1)  # models are so small that threads wait for each other


class ReweightedTrainer(ReweightedTrainerMixin, transformers.Trainer):  # type: ignore[name-defined, misc]
    """Trainer as a user would have it."""


class Rows(torch.utils.data.Dataset[dict[str, Any]]):
    """Sequences of unequal lengths, half of them easy."""

    def __init__(self, columns: tuple[str, ...] = ()) -> None:
        generator = torch.Generator().manual_seed(0)
        self.ids = torch.randint(0, 31, (64, 10), generator=generator)
        self.ids[::2, 1::2] = 5
        self.labels = self.ids.clone()
        self.labels[torch.rand(64, 10, generator=generator) < 0.2] = -100
        self.columns = columns

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, row: int) -> dict[str, Any]:
        extra = {"log_prior": 0.1 * (row % 7), "domain": row % 3}
        return {"input_ids": self.ids[row], "labels": self.labels[row]} | {name: extra[name] for name in self.columns}


def model() -> Any:
    transformers.set_seed(0)
    size = {"vocab_size": 31, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(**size, num_attention_heads=2, max_position_embeddings=16)
    )


def arguments(folder: Path, **options: Any) -> Any:
    fixed = {"logging_steps": 1, "report_to": [], "use_cpu": True, "disable_tqdm": True, "seed": 0, "save_steps": 4}
    sizes = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "max_steps": 8, "learning_rate": 1e-2}
    return transformers.TrainingArguments(str(folder), **{**fixed, **sizes, "save_strategy": "no", **options})


def trained(trainer: Any, **options: Any) -> tuple[list[torch.Tensor], list[float]]:
    trainer.train(**options)
    log = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return [parameter.detach().clone() for parameter in trainer.model.parameters()], log


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[torch.Tensor], list[float]]:
    """Trainer without weights."""
    folder = tmp_path_factory.mktemp("plain")
    return trained(transformers.Trainer(model(), arguments(folder), train_dataset=Rows()))


def test_uniform_weights_leave_the_trainer_as_it_was(plain: Any, tmp_path: Path) -> None:
    reweighter = SampleReweighter("uniform")
    trainer = ReweightedTrainer(model(), arguments(tmp_path), train_dataset=Rows(), reweighter=reweighter)
    parameters, log = trained(trainer)
    assert all(torch.equal(a, b) for a, b in zip(parameters, plain[0], strict=True))
    assert log == pytest.approx(plain[1], rel=1e-6)  # the same sum in another order
    assert reweighter.steps == 8


@pytest.mark.parametrize("scope", ["micro-step", "step-ema"])
def test_the_log_is_unweighted_while_the_gradient_is_weighted(plain: Any, tmp_path: Path, scope: Any) -> None:
    reweighter = SampleReweighter("linear", r=0.2, scope=scope, normalizer="ema", burn_in_steps=1)
    trainer = ReweightedTrainer(model(), arguments(tmp_path), train_dataset=Rows(), reweighter=reweighter)
    parameters, log = trained(trainer)
    # one step of burn-in, then weights: the second loss is the first that can be compared, and is without weights
    assert log[:2] == pytest.approx(plain[1][:2], rel=1e-6)
    assert not torch.allclose(parameters[0], plain[0][0], atol=1e-4)
    expected = transformers.Trainer(trainer.model, arguments(tmp_path), eval_dataset=Rows()).evaluate()["eval_loss"]
    trainer.eval_dataset = Rows()
    assert trainer.evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-2)
    assert reweighter.steps == 8


def test_priors_and_domains_arrive(tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []

    class Watching(SampleReweighter):
        def weights(self, sample_losses: torch.Tensor, **columns: Any) -> torch.Tensor:
            seen.append(columns)
            return super().weights(sample_losses, **columns)

    options = arguments(tmp_path, remove_unused_columns=False)
    rows = Rows(("log_prior", "domain"))
    reweighter = Watching("linear", domain_mode="preserve")
    trained(ReweightedTrainer(model(), options, train_dataset=rows, reweighter=reweighter))
    assert len(seen) == 16
    assert {float(p) for columns in seen for p in columns["log_prior"]} > {0.0}
    assert {int(d) for columns in seen for d in columns["domain"]} == {0, 1, 2}


@pytest.mark.parametrize("scope", ["micro-step", "step-ema"])
def test_a_resumed_run_is_the_run(tmp_path: Path, scope: Any) -> None:
    def trainer(folder: str, steps: int) -> Any:
        reweighter = SampleReweighter("linear", r=0.2, scope=scope, normalizer="ema", burn_in_steps=2)
        options = arguments(tmp_path / folder, save_strategy="steps", max_steps=steps, lr_scheduler_type="constant")
        return ReweightedTrainer(model(), options, train_dataset=Rows(), reweighter=reweighter)

    whole, _ = trained(trainer("whole", 8))
    trained(trainer("parts", 4))
    state = json.loads((tmp_path / "parts" / "checkpoint-4" / STATE_FILE).read_text("utf-8"))
    assert state["step"] == 4
    resumed = trainer("parts", 8)
    parameters, _ = trained(resumed, resume_from_checkpoint=True)
    assert resumed.reweighter.steps == 8
    assert all(torch.equal(a, b) for a, b in zip(parameters, whole, strict=True))
    (tmp_path / "whole" / "checkpoint-4" / STATE_FILE).unlink()
    with pytest.raises(ValueError, match="a trainer that does not reweight"):
        trainer("whole", 8).train(str(tmp_path / "whole" / "checkpoint-4"))


def test_what_cannot_work_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one micro-batch at a time"):
        ReweightedTrainer(model(), arguments(tmp_path), reweighter=SampleReweighter(scope="step-two-pass"))
    smoothing = arguments(tmp_path, label_smoothing_factor=0.1)
    with pytest.raises(ValueError, match="label_smoothing_factor"):
        ReweightedTrainer(model(), smoothing, train_dataset=Rows(), reweighter=SampleReweighter())
    rows = Rows()
    rows.column_names = ["input_ids", "labels", "log_prior"]  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="would remove log_prior"):
        ReweightedTrainer(model(), arguments(tmp_path), train_dataset=rows, reweighter=SampleReweighter())
