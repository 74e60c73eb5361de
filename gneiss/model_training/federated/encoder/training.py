"""A training of adapters across sites: what its file says, what sites are asked, and what comes of their answers.

The server knows of the encoder only how large its matrices are, and needs neither its weights nor torch. Masks of ranks
travel as a bit for each rank, in hexadecimal.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, get_args

import numpy as np

from gneiss.arrays import BoolArray
from gneiss.errors import InputError, did_you_mean, printable
from gneiss.model_training.federated.asking import MOST_DOCUMENTS, require_bounded, require_figures, task_message
from gneiss.model_training.federated.encoder.adapters import AdapterSpace, Form, Matrix, Score
from gneiss.model_training.federated.encoder.lowrank import (
    AdapterAnswer,
    AdapterState,
    LowRank,
    fedara,
    fedlora,
    ffa_lora,
)
from gneiss.model_training.federated.federation import require_site_names, require_within, toml_of
from gneiss.model_training.federated.message import Message, require_arrays, whole_number
from gneiss.model_training.federated.tasks import EVALUATE, MOST_BATCH, MOST_SEED, MOST_STEPS, TRAIN

FEDARA, FEDLORA, FFA_LORA = "fedara", "fedlora", "ffa_lora"
#: Strategies by name.
ENCODER_STRATEGIES = (FEDARA, FEDLORA, FFA_LORA)
_MOST_RANK = 1024


@dataclass(frozen=True)
class EncoderFederation:
    """A training of adapters across sites.

    features: sha256 of the encoder, of how many tokens it reads, and of which layers are adapted; matrices: the adapted
    ones, (name, outputs, inputs); width: features of the head; labels: its outputs; rank: of each adapter; ranks_left:
    of each in the end on average, by fedara; least_share, score: see LowRank; rate: of AdamW; others as in Federation.
    Raises InputError for values out of bounds.
    """

    strategy: str
    sites: tuple[str, ...]
    features: str
    matrices: tuple[tuple[str, int, int], ...]
    width: int
    labels: tuple[str, ...]
    rounds: int
    rank: int = 8
    ranks_left: int = 3
    least_share: float = 0.5
    score: Score = "importance"
    steps: int = 8
    rate: float = 2e-3
    share: float = 1.0
    min_answers: int = 1
    batch: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        if self.strategy not in ENCODER_STRATEGIES:
            hint = did_you_mean(self.strategy, ENCODER_STRATEGIES)
            raise InputError(f"strategy '{printable(self.strategy)}' is not known{hint}")
        require_site_names(self.sites)
        require_within(
            {
                "rounds": (self.rounds, 1, 10**6),
                "rank": (self.rank, 1, _MOST_RANK),
                "ranks_left": (self.ranks_left, 0, self.rank),
                "least_share": (self.least_share, 0, 1),
                "steps": (self.steps, 1, MOST_STEPS),
                "rate": (self.rate, 1e-9, 1000),
                "share": (self.share, 1e-6, 1),
                "min_answers": (self.min_answers, 1, len(self.sites)),
                "batch": (self.batch, 1, MOST_BATCH),
                "seed": (self.seed, 0, MOST_SEED),
                "labels": (len(self.labels), 2, 1000),
            }
        )

    @property
    def space(self) -> AdapterSpace:
        """The adapters before the strategy says what of them is trained."""
        matrices = tuple(Matrix(*each) for each in self.matrices)
        return AdapterSpace(matrices, self.rank, len(self.labels) * (self.width + 1), "svd", self.seed)

    @property
    def lowrank(self) -> LowRank:
        """The strategy."""
        match self.strategy:
            case "fedlora":
                return fedlora(self.space, self.steps, self.rate)
            case "ffa_lora":
                return ffa_lora(self.space, self.steps, self.rate)
        return fedara(self.space, self.steps, self.rate, self.rounds, self.ranks_left, self.least_share, self.score)

    def toml(self) -> str:
        """Its file."""
        return toml_of(asdict(self))

    @property
    def key(self) -> str:
        """What tells it from others: sha256 of its file."""
        return hashlib.sha256(self.toml().encode()).hexdigest()


@dataclass(frozen=True)
class EncoderTraining:
    """See Training: adapters of an encoder."""

    federation: EncoderFederation

    def begin(self) -> AdapterState:
        """See Training."""
        return self.federation.lowrank.begin()

    def tasks(self, state: AdapterState, asked: Sequence[str], round_: int) -> dict[str, Message]:
        """See Training. All sites are asked the same."""
        federation, strategy = self.federation, self.federation.lowrank
        task = strategy.task(state, round_)
        said = {
            **task_message(federation, TRAIN, round_).meta,
            **space_meta(strategy.space, task.alive),
            "ranks": task.ranks,
            "score": strategy.score,
            "steps": strategy.steps,
            "rate": strategy.optimizer.rate,
            "batch": federation.batch,
            "seed": federation.seed,
        }
        return dict.fromkeys(asked, Message(said, {"x": task.x}))

    def check(self, state: AdapterState) -> Callable[[Message], None]:
        """See Training."""

        def check(message: Message) -> None:
            require_arrays(message, {"difference": state.x.shape})
            require_figures(message)
            whole_number(message, "documents", 1, MOST_DOCUMENTS)
            if message.meta.get("keeps") is not None:
                _mask(message, "keeps", int(state.alive.sum()))

        return check

    def aggregate(self, state: AdapterState, answers: Mapping[str, Message], round_: int) -> AdapterState:
        """See Training."""
        is_voted = self.federation.lowrank.task(state, round_).ranks is not None
        found = {}
        for site, message in answers.items():
            keeps = None
            if is_voted:
                keeps = state.alive.copy()
                # a site that does not vote keeps all: otherwise silence would be a vote against each rank
                if message.meta.get("keeps") is not None:
                    keeps[state.alive] = _mask(message, "keeps", int(state.alive.sum()))
            found[site] = AdapterAnswer(message.arrays["difference"], message.meta["documents"], keeps)
        after = self.federation.lowrank.aggregate(state, found)
        require_bounded(after.x, round_)
        return after

    def evaluation(self, state: AdapterState) -> Message:
        """See Training."""
        said = task_message(self.federation, EVALUATE, self.federation.rounds).meta
        return Message({**said, **space_meta(self.federation.lowrank.space, state.alive)}, {"x": state.x})

    def arrays(self, state: AdapterState) -> dict[str, Any]:
        """See Training."""
        return {"x": state.x, "alive": state.alive.astype(np.float32)}

    def state(self, arrays: Mapping[str, Any]) -> AdapterState:
        """See Training."""
        return AdapterState(arrays["x"], arrays["alive"] > 0)

    def said(self, state: AdapterState) -> dict[str, Any]:
        """See Training: how many ranks of each matrix live."""
        return {"ranks": self.federation.space.live(state.alive)}


def space_meta(space: AdapterSpace, alive: BoolArray) -> dict[str, Any]:
    """What a task says of its vector; see `space_of`."""
    return {"form": space.form, "rank": space.rank, "adapter_seed": space.seed, "alive": hex_of(alive)}


def space_of(task: Message, space: Callable[[Form, int, int], AdapterSpace]) -> tuple[AdapterSpace, BoolArray]:
    """(space, alive) of a task. space: of a form, a rank and a seed. Raises InputError for what no task says."""
    form: Form = _one_of(task, "form", get_args(Form))
    rank, seed = whole_number(task, "rank", 1, _MOST_RANK), whole_number(task, "adapter_seed", 0, MOST_SEED)
    found = space(form, rank, seed)
    return found, _mask(task, "alive", found.ranks)


def score_of(task: Message) -> Score:
    """What a site is to judge ranks by. Raises InputError for what no task says."""
    found: Score = _one_of(task, "score", get_args(Score))
    return found


def _one_of(task: Message, name: str, known: Sequence[Any]) -> Any:
    if (found := task.meta.get(name)) not in known:
        raise InputError(f"message: {name}: expected one of {', '.join(known)}, found {_said(found)}")
    return found


def hex_of(mask: BoolArray) -> str:
    """A mask as text.

    >>> hex_of(np.array([True, False, False, True]))
    '90'
    """
    return np.packbits(mask).tobytes().hex()


def _mask(message: Message, name: str, size: int) -> BoolArray:
    """A mask of a message. Raises InputError for what is none of this size."""
    said = message.meta.get(name)
    try:
        content = bytes.fromhex(said)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        content = b""
    found: BoolArray = np.unpackbits(np.frombuffer(content, np.uint8)).astype(np.bool_)
    if len(content) != -(-size // 8) or found[size:].any():
        raise InputError(f"message: {name}: expected {size:,} bits in hexadecimal, found {_said(said)}")
    return found[:size]


def _said(value: object) -> str:
    return printable(repr(value)[:80])
