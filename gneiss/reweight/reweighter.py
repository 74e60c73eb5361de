"""`SampleReweighter`: importance weights for a batch's samples, from their losses, on any number of ranks."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from gneiss.reweight.distributed import gather_columns, place
from gneiss.reweight.normalizers import minmax, quantile, standardized
from gneiss.reweight.running import Running, wide
from gneiss.reweight.schedules import Schedule, temperature
from gneiss.reweight.strategies import Strategy, strategy_of
from gneiss.reweight.tilt import tilt

Normalizer: TypeAlias = Literal["minmax", "quantile", "ema"]
Estimand: TypeAlias = Literal["token", "sequence"]
Scope: TypeAlias = Literal["micro-step", "step-two-pass", "step-ema"]
DomainMode: TypeAlias = Literal["free", "preserve"]

#: Calls of `weights` without a `step` after which the loop has evidently forgotten it.
CALLS_PER_STEP = 10_000


@dataclass(eq=False)
class SampleReweighter:
    """Computes importance weights from the losses of samples; they multiply the samples' token losses.

    A sample is one packed sequence. Weights are float32 with mean one, so the trainer's own reduction is unchanged,
    and uniform weights are exactly 1.0. Call `weights` once per micro-step (with scope `step-two-pass` once per step)
    on every rank, and `step` after every optimizer step.

    Parameters:
    `strategy`: name of a score in gneiss.reweight.strategies, or a function from h (samples,) in [-1, 1] to scores;
    `r`: temperature > 0, the smaller the sharper (`math.inf`: uniform), or a function of the optimizer step;
    `burn_in_steps`: optimizer steps with uniform weights at the start;
    `normalizer`: how losses become h: `minmax` (paper), `quantile`, or `ema` (moments of earlier steps);
    `estimand`: what uniform weights estimate: `token`, the mean over tokens that trainers take, or `sequence`, the mean
    over sequences of their means (paper); equal if all sequences are full;
    `scope`: which samples compete: `micro-step`, those of all ranks in one micro-step (paper); `step-two-pass`, those
    of all ranks and micro-steps of an optimizer step, their losses from a forward pass beforehand; `step-ema`, with a
    running normaliser, so that a weight depends only on its own loss and earlier steps, and nothing is gathered;
    `domain_mode`: `free` (paper), or `preserve`, where every domain keeps the mass it had;
    `cap`: maximum weight as a multiple of the mean (of its domain, with `preserve`); the excess goes to the others in
    proportion; `decay`: of the moving averages, per step; `group`: data-parallel process group, default all processes.
    Raises ValueError for incompatible parameters.
    Source: arXiv 2502.06733; its defaults are r = 1.0 and 1,000 of 20,000 steps burn-in.

    >>> reweighter = SampleReweighter(strategy="linupper", r=1.0)
    >>> weights = reweighter.weights(torch.tensor([1.0, 2.0, 3.0, torch.nan]))
    >>> [round(weight, 3) for weight in weights.tolist()]
    [0.466, 1.267, 1.267, 0.0]
    >>> reweighter.step()
    >>> reweighter.nonfinite_samples
    1
    """

    strategy: str | Strategy = "linupper"
    r: float | Schedule = 1.0
    burn_in_steps: int = 0
    normalizer: Normalizer = "minmax"
    estimand: Estimand = "token"
    scope: Scope = "micro-step"
    domain_mode: DomainMode = "free"
    cap: float = math.inf
    decay: float = 0.99
    group: Any = field(default=None, repr=False)
    #: What changes while training: optimizer steps done, calls of `weights` since the last, moments and counts.
    _step: int = field(default=0, init=False, repr=False)
    _calls: int = field(default=0, init=False, repr=False)
    _running: Running | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        strategy_of(self.strategy)
        if not callable(self.r):
            temperature(self.r, 0)
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}: expected one of {', '.join(choices)}, found {getattr(self, name)!r}")
        if not self.cap >= 1:
            raise ValueError(f"cap: expected 1 or more, as the mean of the weights is 1, found {self.cap}")
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay: expected 0 or more and less than 1, found {self.decay}")
        if self.burn_in_steps < 0:
            raise ValueError(f"burn_in_steps: expected 0 or more, found {self.burn_in_steps}")
        if self.scope == "step-ema":
            if self.normalizer != "ema":
                raise ValueError("scope 'step-ema' sees no other sample of the step; it needs normalizer='ema'")
            if self.domain_mode == "preserve" or self.estimand == "sequence":
                raise ValueError(
                    "domain_mode 'preserve' and estimand 'sequence' need the whole step: use scope 'micro-step' or "
                    "'step-two-pass', not 'step-ema'"
                )

    @property
    def steps(self) -> int:
        """Optimizer steps so far."""
        return self._step

    @property
    def empty_samples(self) -> int:
        """Samples without a token so far (with `step-ema`, other ranks' up to the last step); waits for a GPU."""
        running = self._running
        return int(running.empty + running.sums[5]) if running else 0

    @property
    def nonfinite_samples(self) -> int:
        """Samples with a NaN or infinite loss or prior so far, as `empty_samples`."""
        running = self._running
        return int(running.nonfinite + running.sums[6]) if running else 0

    def weights(
        self,
        sample_losses: Tensor,
        *,
        tokens: Tensor | None = None,
        log_prior: Tensor | None = None,
        domain: Tensor | None = None,
    ) -> Tensor:
        """Weights of this rank's samples: float32 (local samples,), without gradient, mean one over all ranks' samples.

        Parameters: `sample_losses`: (local samples,) mean token losses, any float dtype; `tokens`: (local samples,)
        unmasked tokens, what a sample counts for in the mean, by default all the same; `log_prior`: (local samples,)
        natural logarithms, by default 0; `domain`: (local samples,) integers. Empty samples (0 tokens), NaN and
        infinite ones are counted and have weight 0; the mean is taken over the others. A rank without samples must
        call with empty tensors. Raises ValueError for wrong shapes and for `tokens` or `domain` missing where needed.
        """
        local = self._columns(sample_losses, tokens, log_prior, domain)
        self._count_call()
        if self.scope == "step-ema":
            return self._running_weights(*local[:3])
        (losses, counts, prior, domains), start = gather_columns(local, self.group)
        if not len(losses):
            return local[0]
        running, valid = self._observe(losses, counts, prior)
        dtype = wide(losses.device)
        h = self._normalized(losses.to(dtype), valid, running)
        mass = (counts if self.estimand == "token" else torch.ones_like(counts)).to(dtype) * valid
        weights = tilt(
            strategy_of(self.strategy)(h).where(valid, 0),
            self._temperature(),
            mass=mass,
            log_prior=prior.to(dtype).where(valid, 0),
            groups=domains if self.domain_mode == "preserve" else None,
            cap=self.cap,
        )
        if self.estimand == "sequence":  # undo the weight that division by tokens gives to long sequences
            present = counts.to(dtype) * valid
            weights = weights * (present.sum() / mass.sum() / present).where(valid, 0)
        return weights[start : start + len(local[0])].to(torch.float32)

    def step(self) -> None:
        """End an optimizer step, on every rank; with `step-ema`, ranks sum seven numbers here.

        Raises RuntimeError if that is impossible because `weights` was never called.
        """
        ranks = self.scope == "step-ema" and place(self.group)[1] > 1
        if self._running is not None:
            self._running.fold(self.decay, ranks=ranks, group=self.group)
        elif ranks:
            raise RuntimeError("step() before any weights(): a rank without samples calls weights() with empty tensors")
        self._step += 1
        self._calls = 0

    def state_dict(self) -> dict[str, Any]:
        """The state as plain numbers, exact in JSON; the same on every rank right after `step`."""
        running = self._running
        return {
            "version": 1,
            "configuration": self._configuration(),
            "step": self._step,
            "calls": self._calls,
            "running": running.state_dict() if running else None,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state. Raises ValueError for the state of another configuration."""
        found, expected = state["configuration"], self._configuration()
        differ = [
            f"{name} {found.get(name)!r}, here {value!r}"
            for name, value in expected.items()
            if found.get(name) != value
        ]
        if state["version"] != 1 or differ:
            raise ValueError(f"the state is of another reweighter: {'; '.join(differ) or state['version']}")
        self._step, self._calls = state["step"], state["calls"]
        running = state["running"]
        self._running = Running.from_state(running, torch.device("cpu")) if running else None

    def _configuration(self) -> dict[str, Any]:
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.init and f.name != "group"}
        return {name: _as_text(value) for name, value in values.items()}

    def _columns(
        self, losses: Tensor, tokens: Tensor | None, log_prior: Tensor | None, domain: Tensor | None
    ) -> list[Tensor]:
        """The arguments as float32 or int64 columns, checked, without gradient, with defaults."""
        if self.estimand == "sequence" and tokens is None:
            raise ValueError("tokens: estimand 'sequence' needs the number of unmasked tokens of every sample")
        if self.domain_mode == "preserve" and domain is None:
            raise ValueError("domain: domain_mode 'preserve' needs the domain of every sample")
        for name, column in {"tokens": tokens, "log_prior": log_prior, "domain": domain}.items():
            if column is not None and column.shape != losses.shape:
                raise ValueError(f"{name}: expected shape {tuple(losses.shape)}, found {tuple(column.shape)}")
        if losses.ndim != 1:
            raise ValueError(f"sample_losses: expected shape (samples,), found {tuple(losses.shape)}")
        losses = losses.detach().to(torch.float32)
        integers = torch.zeros_like(losses, dtype=torch.int64)
        return [
            losses,
            integers + 1 if tokens is None else tokens.detach().to(losses.device, torch.int64),
            torch.zeros_like(losses) if log_prior is None else log_prior.detach().to(losses.device, torch.float32),
            integers if domain is None else domain.detach().to(losses.device, torch.int64),
        ]

    def _count_call(self) -> None:
        self._calls += 1
        if self.scope == "step-two-pass" and self._calls > 1:
            raise RuntimeError(
                "weights() was called twice in a step with scope 'step-two-pass': call it once, with the losses of all "
                "micro-steps, then step() after the optimizer's"
            )
        if self._calls == CALLS_PER_STEP:
            warnings.warn(f"{CALLS_PER_STEP:,} calls of weights() and none of step(), which ends a step", stacklevel=3)

    def _running_on(self, device: torch.device) -> Running:
        if self._running is None:
            self._running = Running.on(device)
        elif self._running.sums.device != device:
            self._running = Running.from_state(self._running.state_dict(), device)
        return self._running

    def _observe(self, losses: Tensor, tokens: Tensor, log_prior: Tensor) -> tuple[Running, Tensor]:
        """Count samples; return which take part. A prior of -inf is valid: weight 0."""
        running = self._running_on(losses.device)
        empty = tokens <= 0
        valid = losses.isfinite() & (log_prior < math.inf) & ~empty
        running.count(empty.sum(), (~valid & ~empty).sum())
        running.observe(losses.to(running.sums.dtype), valid)
        return running, valid

    def _normalized(self, losses: Tensor, valid: Tensor, running: Running) -> Tensor:
        if self.normalizer == "minmax":
            return minmax(losses, valid)
        if self.normalizer == "quantile":
            return quantile(losses, valid)
        # before the first step no losses are known: all equal
        return standardized(losses, valid, running.mean, running.deviation).where(running.updates > 0, 0)

    def _temperature(self) -> float:
        return math.inf if self._step < self.burn_in_steps else temperature(self.r, self._step)

    def _running_weights(self, losses: Tensor, tokens: Tensor, log_prior: Tensor) -> Tensor:
        """Weights from the sample and earlier steps only; their mean is one over steps, not in each step."""
        running, valid = self._observe(losses, tokens, log_prior)
        dtype = wide(losses.device)
        prior = log_prior.to(dtype).where(valid, -math.inf)
        scores = strategy_of(self.strategy)(self._normalized(losses.to(dtype), valid, running)).where(valid, 0)
        # also during burn-in, so that the level is known at its end
        r = temperature(self.r, max(self._step, self.burn_in_steps))
        weights = (((scores - 1) / r + prior).exp() / running.level).clamp(max=self.cap)
        running.observe_weights(weights, (tokens * valid * (running.updates > 0)).to(dtype))
        if self._step < self.burn_in_steps:
            return prior.exp().to(torch.float32)
        # the first step gives the moments, the second the level
        return weights.where(running.updates > 1, prior.exp()).to(torch.float32)


def _as_text(value: Any) -> str:
    """A parameter as text: a function by its name, a schedule that is a dataclass by its own parameters."""
    if isinstance(value, int | float):
        return repr(float(value))
    return value if isinstance(value, str) else getattr(value, "__qualname__", repr(value))


_CHOICES = {
    "normalizer": get_args(Normalizer),
    "estimand": get_args(Estimand),
    "scope": get_args(Scope),
    "domain_mode": get_args(DomainMode),
}
