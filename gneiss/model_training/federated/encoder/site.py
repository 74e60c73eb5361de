"""What a site does with a task on adapters of an encoder; see `site`. Needs torch.

| task | arrays of the task | answer |
| --- | --- | --- |
| `count` | | documents of each label |
| `train` | x, weights of live ranks and of the head | difference, documents, and which ranks it keeps, if asked |
| `evaluate` | x | how x does on documents held out |
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gneiss.arrays import BoolArray
from gneiss.errors import InputError, printable
from gneiss.model_training.federated import tasks
from gneiss.model_training.federated.encoder.adapted import AdaptedEncoder, Hidden
from gneiss.model_training.federated.encoder.adapters import AdapterSpace
from gneiss.model_training.federated.encoder.lowrank import AdamW, AdapterTask, LowRank
from gneiss.model_training.federated.encoder.training import hex_of, score_of, space_of
from gneiss.model_training.federated.linear import draw_of
from gneiss.model_training.federated.message import Message, number, require_arrays, whole_number
from gneiss.model_training.federated.site import note_sent
from gneiss.model_training.federated.tasks import MOST_BATCH, MOST_SEED, MOST_STEPS, round_of
from gneiss.store.place import Place


@dataclass(frozen=True, eq=False)
class EncoderSite:
    """See Site: one that answers from labelled documents, as the frozen layers leave them.

    features: what tasks must be for; folder: where answers are noted before they go, None for nowhere.
    """

    site: str
    encoder: AdaptedEncoder
    features: str
    trained: Hidden
    held_out: Hidden
    folder: Place | None = None

    def work(self, task: Message) -> Message:
        """See Site. Raises also OutputError where the site's folder cannot be written."""
        if task.meta.get("features") != self.features:
            raise InputError(
                f"site {self.site}: expected a task for the encoder {self.features[:12]}, found"
                f" {printable(repr(task.meta.get('features'))[:14])}; give coordinator and site one encoder, and the"
                " same tokens and adapted layers"
            )
        match task.meta.get("kind"):
            case tasks.COUNT:
                require_arrays(task, {})
                labels = np.concatenate([self.trained.labels, self.held_out.labels])
                answer = Message({"labels": np.bincount(labels, minlength=self.encoder.outputs).tolist()})
            case tasks.EVALUATE:
                space, alive = self._space_of(task)
                figures = self.encoder.figures(space, alive, task.arrays["x"], self.held_out)
                answer = Message({"held_out": figures})
            case tasks.TRAIN:
                answer = self._trained(task)
            case other:
                raise InputError(
                    f"site {self.site}: no task is called {printable(repr(other)[:40])}; expected count, train, or"
                    " evaluate"
                )
        answer = Message({**answer.meta, "round": round_of(task)}, answer.arrays)
        if self.folder is not None:
            note_sent(self.folder, task, answer, {})
        return answer

    def _space_of(self, task: Message) -> tuple[AdapterSpace, BoolArray]:
        space, alive = space_of(task, self.encoder.space)
        require_arrays(task, {"x": (space.size(alive),)})
        return space, alive

    def _trained(self, task: Message) -> Message:
        space, alive = self._space_of(task)
        ranks = None if task.meta.get("ranks") is None else whole_number(task, "ranks", 0, space.ranks)
        if ranks is not None and space.form != "svd":
            raise InputError(f"message: ranks: expected no vote where adapters have the form {space.form}")
        strategy = LowRank(
            space,
            whole_number(task, "steps", 1, MOST_STEPS),
            AdamW(number(task, "rate", 0, 1000)),
            score=score_of(task),
        )
        batch, seed = whole_number(task, "batch", 1, MOST_BATCH), whole_number(task, "seed", 0, MOST_SEED)
        draw = draw_of(seed, round_of(task), self.site)
        x = task.arrays["x"]
        gradient = self.encoder.gradient(space, alive, self.trained, draw, batch)
        found = strategy.answer(AdapterTask(x, alive, ranks), gradient, len(self.trained))
        said = {
            "documents": found.documents,
            "keeps": None if found.keeps is None else hex_of(found.keeps[alive]),
            "held_out": self.encoder.figures(space, alive, x, self.held_out),
        }
        return Message(said, {"difference": found.difference.astype(np.float32)})
