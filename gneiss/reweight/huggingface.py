"""Reweighted training with the Hugging Face Trainer or its subclasses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback
from transformers.trainer_utils import get_last_checkpoint

from gneiss.reweight.reweighter import SampleReweighter
from gneiss.reweight.tokens import token_losses
from gneiss.reweight.trainers import reweighted_loss

#: The reweighter's state in a checkpoint.
STATE_FILE = "reweighter.json"
#: Columns of a batch for the reweighter, not the model.
COLUMNS = ("log_prior", "domain")

_Trainer: Any = object  # the base class after the mixin; Any keeps type checkers from requiring it


class ReweightedTrainerMixin(_Trainer):  # type: ignore[misc]
    """Weights the samples of a causal language model's Trainer: `class MyTrainer(ReweightedTrainerMixin, Trainer)`.

    Takes Trainer's arguments and `reweighter`, a SampleReweighter with scope `micro-step` or `step-ema`. Columns
    `log_prior` and `domain` of a batch go to the reweighter, not to the model; they require
    `TrainingArguments(remove_unused_columns=False)`. Logged and evaluated losses are the unweighted ones; reduction
    over tokens, accumulation and ranks is Trainer's. Checkpoints hold the reweighter's state, and resuming loads it.
    Raises ValueError for scope `step-two-pass`, label smoothing, and columns that Trainer would remove.
    """

    def __init__(self, *args: Any, reweighter: SampleReweighter, **kwargs: Any) -> None:
        if reweighter.scope == "step-two-pass":
            raise ValueError("Trainer shows one micro-batch at a time: use scope 'micro-step' or 'step-ema'")
        self.reweighter = reweighter
        self._columns: dict[str, Tensor | None] = {}
        self._weighs = False
        super().__init__(*args, compute_loss_func=self._loss, **kwargs)
        if self.args.label_smoothing_factor:
            raise ValueError(
                "label_smoothing_factor: the reweighted loss is cross-entropy without smoothing; set it to 0"
            )
        lost = sorted(set(COLUMNS) & set(getattr(self.train_dataset, "column_names", None) or ()))
        if lost and self.args.remove_unused_columns:
            raise ValueError(
                f"Trainer would remove {', '.join(lost)}: set TrainingArguments(remove_unused_columns=False)"
            )
        self.add_callback(_Steps(reweighter))

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Trainer's, without the reweighter's columns in the model's inputs."""
        self._columns = {name: inputs.get(name) for name in COLUMNS}
        self._weighs = model.training
        rest = {name: value for name, value in inputs.items() if name not in COLUMNS}
        return super().compute_loss(model, rest, *args, **kwargs)

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """Trainer's, with the reweighter's state from the checkpoint. Raises ValueError if it has none."""
        found = resume_from_checkpoint
        folder = get_last_checkpoint(self.args.output_dir) if found is True else found
        if folder:
            path = Path(folder) / STATE_FILE
            if not path.exists():
                raise ValueError(f"{path} is missing: the checkpoint is of a trainer that does not reweight")
            self.reweighter.load_state_dict(json.loads(path.read_text("utf-8")))
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def _loss(self, outputs: Any, labels: Tensor, num_items_in_batch: Tensor | int | None = None) -> Tensor:
        losses, mask = token_losses(outputs["logits"], labels)
        found = reweighted_loss(
            self.reweighter,
            losses,
            mask,
            **self._columns,
            weights=None if self._weighs else losses.new_ones(len(losses)),
            denominator=None if num_items_in_batch is None else torch.as_tensor(num_items_in_batch, device=mask.device),
        )
        # The gradient of the weighted loss, the value of the unweighted one: Trainer logs what it differentiates.
        return found.loss + (found.unweighted - found.loss).detach()


class _Steps(TrainerCallback):  # type: ignore[misc]
    """Ends the reweighter's step with the optimizer's, and saves its state with a checkpoint."""

    def __init__(self, reweighter: SampleReweighter) -> None:
        self.reweighter = reweighter

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.reweighter.step()

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            (folder / STATE_FILE).write_text(json.dumps(self.reweighter.state_dict()), "utf-8")
