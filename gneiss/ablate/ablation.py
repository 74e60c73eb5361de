"""An ablation: models trained on each corpus from paired seeds, judged on the same held-out texts, and compared."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import xxhash

from gneiss.ablate.corpora import Corpus, Pool, read_pool
from gneiss.ablate.differences import Difference, paired_difference, sentence
from gneiss.ablate.own_trainer import OwnTrainer
from gneiss.ablate.point import Point
from gneiss.ablate.ranks import check_agreement, is_first
from gneiss.ablate.sizes import Training
from gneiss.errors import InputError
from gneiss.output.claim import refuse_nesting
from gneiss.output.differences import run_differences
from gneiss.output.parquet import write_bytes, write_parquet
from gneiss.report.held_out import Contamination, HeldOut, check_shared_words
from gneiss.store.place import Address, Place, place_of
from gneiss.version import __version__

if TYPE_CHECKING:
    from gneiss.ablate.tokens import Encoded, Judged, Tokenizer

RESULT = "ablation.json"
#: Where your own trainer finds its input.
CORPORA, HELD_OUT = "corpora", "held_out"
#: Of a corpus, at least this many bytes a token of the budget are kept in memory.
_POOL_BYTES = 16
_TABLE_ROWS = 256


@dataclass(frozen=True)
class Plan:
    """What is compared, and how.

    seeds: how many; held_out_bytes: of each domain, of UTF-8; tokenizer: see `tokenizer_of`; vocabulary: ids;
    shared_words: see `Contamination`; linupper: a temperature r with which each corpus is also trained on samples
    weighted by their losses; null_pair: also compare two random halves of the first corpus; anneal: the share of the
    budget for which a base model, trained before on the first corpus, is trained on each; confidence: of all
    intervals against the first corpus together; own_trainer: instead of gneiss's; tasks: of lm-evaluation-harness, on
    which models are judged too. Raises InputError.
    """

    training: Training
    seeds: int = 5
    held_out_bytes: int = 200_000
    tokenizer: str = "bpe"
    vocabulary: int = 2048
    shared_words: int = 32
    linupper: float | None = None
    null_pair: bool = False
    anneal: float | None = None
    confidence: float = 0.95
    own_trainer: OwnTrainer | None = None
    tasks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.seeds < 2:
            raise InputError(f"seeds {self.seeds}: expected 2 or more, as one says nothing of the next")
        if self.anneal is not None and not 0 < self.anneal < 1:
            raise InputError(f"anneal {self.anneal}: expected a share of the budget, between 0 and 1")
        check_shared_words(self.shared_words)
        if self.held_out_bytes < 1:
            raise InputError(f"held_out_bytes {self.held_out_bytes}: expected 1 or more")
        other = self.linupper is not None or self.anneal is not None or self.null_pair or self.tasks
        if self.own_trainer and other:
            raise InputError("your own trainer takes a corpus and a seed: no LinUpper, anneal, null pair or tasks")


@dataclass(frozen=True)
class Arm:
    """What one side of a comparison trains on. half: None, or which random half; linupper: see Plan."""

    name: str
    corpus: int
    linupper: float | None = None
    half: int | None = None


@dataclass(frozen=True)
class Trained:
    """A model of an arm.

    epochs: how often it read its pool; points: its learning curve, the last one its result; scores: of tasks, by name.
    """

    arm: str
    seed: int
    tokens: int
    epochs: float
    points: tuple[Point, ...]
    scores: Mapping[str, float] = field(default_factory=dict)

    @property
    def bits_per_byte(self) -> Mapping[str, float]:
        """By domain, after training."""
        return self.points[-1].bits_per_byte


@dataclass(frozen=True)
class Compared:
    """Two arms. mean: of all domains, each counting the same; domains: one by one, not adjusted for their number.

    tasks: by task, score of b minus score of a; here above 0 b is better.
    """

    a: str
    b: str
    mean: Difference
    domains: Mapping[str, Difference]
    tasks: Mapping[str, Difference] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """What the comparison says."""
        return sentence(self.mean, self.a, self.b)


@dataclass(frozen=True)
class Ablation:
    """What came of it.

    pools: by corpus, how many documents and bytes it has and what was left out; differences: in what the recipes and
    models of runs differ from those of the first.
    """

    trained: tuple[Trained, ...]
    comparisons: tuple[Compared, ...]
    pools: Mapping[str, Mapping[str, Any]]
    differences: tuple[str, ...] = ()

    @property
    def arms(self) -> list[str]:
        """Their names, in order."""
        return list(dict.fromkeys(model.arm for model in self.trained))

    def of(self, arm: str) -> list[Trained]:
        """The models of an arm, by seed."""
        return [model for model in self.trained if model.arm == arm]

    def bits_per_byte(self, arm: str) -> float:
        """The mean over seeds of the mean over domains."""
        return fmean(_mean(model) for model in self.of(arm))


def ablate(
    corpora: Sequence[Corpus],
    held_out: HeldOut,
    output: Address,
    plan: Plan,
    *,
    said: Callable[[str], None] = lambda _: None,
) -> Ablation:
    """Train on each corpus with paired seeds, compare all with the first, and write the figures to a folder.

    Each model has the same shape, budget of tokens and tokenizer. Models of the same seed start from the same
    parameters, and documents that two corpora share come in the same order. A killed call goes on where it stopped.
    Within a process group of torch, its processes train each model together, and the first one writes.

    Parameters: `held_out`: what the models are judged on; documents of a corpus that share text with it are left out;
    `output`: a folder; `said`: hears of each model. Raises InputError: see `read_pool`, two corpora of one name, a
    folder with other results; ImportError without torch.

    >>> ablate([Corpus("raw", "raw"), Corpus("curated", "curated")], read_held_out(["news.jsonl"]), "ablation",
    ...        Plan(Training(budget_tokens=50_000_000)))  # doctest: +SKIP
    """
    folder = place_of(output, "output")
    for corpus in corpora:
        refuse_nesting(corpus.folder, [place_of(corpus.folder)], folder)
    if repeated := [corpus.name for i, corpus in enumerate(corpora) if corpus.name in {c.name for c in corpora[:i]}]:
        raise InputError(f"two corpora are called {repeated[0]!r}: name them, NAME=FOLDER")
    runs = {corpus.name: run for corpus in corpora if (run := corpus.run) is not None}
    differences = run_differences(runs)
    for each in differences:
        said(each)
    contamination = Contamination(held_out, plan.shared_words)
    pools = [read_pool(corpus, contamination, _POOL_BYTES * plan.training.budget_tokens) for corpus in corpora]
    for pool in pools:
        said(f"{pool.name}: {pool.documents:,} documents, {pool.contaminated:,} more share text with a held-out set")
    return ablate_pools(pools, held_out, folder, plan, differences=differences, said=said)


def ablate_pools(
    pools: Sequence[Pool],
    held_out: HeldOut,
    folder: Place,
    plan: Plan,
    *,
    arms: Sequence[Arm] | None = None,
    differences: Sequence[str] = (),
    said: Callable[[str], None] = lambda _: None,
) -> Ablation:
    """The same with documents at hand; see `ablate`. arms: other ones than the plan names; differences: of runs."""
    arms = list(_arms(pools, plan)) if arms is None else list(arms)
    if len(arms) < 2:
        raise InputError("expected two corpora or more, or a null pair, found one corpus")
    key = _key(pools, held_out, plan)
    train = (_own if plan.own_trainer else _of_gneiss)(pools, held_out, folder, plan)
    trained = []
    for seed in range(plan.seeds):
        for arm in arms:
            name = f"models/{re.sub(r'[^A-Za-z0-9.+-]', '_', arm.name)}-{_short(arm.name)}-{seed}.json"
            model = _stored(folder / name, key)
            check_agreement(model is not None, plan.training.device)
            if model is None:
                model = train(arm, seed)
                content = {"key": key, **asdict(model)}
                if is_first():
                    write_bytes(json.dumps(content, indent=1, sort_keys=True).encode(), folder, name)
            said(f"{arm.name}, seed {seed}: {_mean(model):.4f} bits per byte")
            trained.append(model)
    comparisons = _comparisons(arms, trained, plan.confidence)
    facts = {
        pool.name: {
            "documents": pool.documents,
            "text_bytes": pool.text_bytes,
            "contaminated_documents": pool.contaminated,
            "sampled_documents": len(pool.texts),
        }
        for pool in pools
    }
    ablation = Ablation(tuple(trained), comparisons, facts, tuple(differences))
    content = {
        "gneiss": __version__,
        "key": key,
        "plan": asdict(plan),
        "corpora": facts,
        "differences": list(differences),
        "held_out": {domain: len(texts) for domain, texts in held_out.texts.items()},
        "comparisons": [{**asdict(each), "sentence": each.sentence} for each in comparisons],
        "models": [asdict(model) for model in trained],
    }
    if is_first():
        write_bytes(json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False).encode(), folder, RESULT)
    return ablation


def _arms(pools: Sequence[Pool], plan: Plan) -> Iterator[Arm]:
    for i, pool in enumerate(pools):
        yield Arm(pool.name, i)
    if plan.linupper is not None:
        for i, pool in enumerate(pools):
            yield Arm(f"{pool.name} + LinUpper", i, linupper=plan.linupper)
    if plan.null_pair:
        yield from (Arm(f"{pools[0].name}, half {half}", 0, half=half) for half in (1, 2))


def _comparisons(arms: Sequence[Arm], trained: Sequence[Trained], confidence: float) -> tuple[Compared, ...]:
    """All arms with the first, the halves with each other; intervals hold together (Bonferroni)."""
    halves = [arm.name for arm in arms if arm.half is not None]
    pairs = [(arms[0].name, arm.name) for arm in arms[1:] if arm.half is None]
    each = 1 - (1 - confidence) / (len(pairs) + bool(halves))
    pairs += [(halves[0], halves[1])] if halves else []
    models = {name: [model for model in trained if model.arm == name] for pair in pairs for name in pair}

    def difference(pair: tuple[str, str], level: float, domain: str | None = None) -> Difference:
        a, b = ([_mean(m) if domain is None else m.bits_per_byte[domain] for m in models[name]] for name in pair)
        return paired_difference(a, b, level)

    def of_task(pair: tuple[str, str], task: str) -> Difference:
        a, b = ([model.scores[task] for model in models[name]] for name in pair)
        return paired_difference(a, b, confidence)

    domains, tasks = list(trained[0].bits_per_byte), list(trained[0].scores)
    return tuple(
        Compared(
            *pair,
            difference(pair, each),
            {domain: difference(pair, confidence, domain) for domain in domains},
            {task: of_task(pair, task) for task in tasks},
        )
        for pair in pairs
    )


def _mean(model: Trained) -> float:
    return fmean(model.bits_per_byte.values())


def _of_gneiss(pools: Sequence[Pool], held_out: HeldOut, _: Place, plan: Plan) -> Callable[[Arm, int], Trained]:
    """gneiss's own trainer, with one tokenizer for all pools."""
    from gneiss.ablate.tokens import Encoded, judged, tokenizer_of

    tokenizer = tokenizer_of(plan.tokenizer, pools, plan.vocabulary)
    encoded = [Encoded.of(pool, tokenizer) for pool in pools]
    domains = judged(held_out.first(plan.held_out_bytes), tokenizer, plan.training.length)

    def train(arm: Arm, seed: int) -> Trained:
        whole = encoded[arm.corpus]
        of_arm = whole if arm.half is None else Encoded.of(whole.pool.half(seed, arm.half == 2), tokenizer)
        return _trained(arm, seed, of_arm, encoded[0], domains, tokenizer, plan)

    return train


def _trained(
    arm: Arm,
    seed: int,
    of_arm: Encoded,
    base: Encoded,
    domains: Mapping[str, Judged],
    tokenizer: Tokenizer,
    plan: Plan,
) -> Trained:
    from gneiss.ablate.model import Shape, new_model
    from gneiss.ablate.trainer import annealing, constant, falling, train
    from gneiss.reweight.reweighter import SampleReweighter

    full, reweighter = plan.training, None
    if arm.linupper is not None:
        reweighter = SampleReweighter("linupper", r=arm.linupper, burn_in_steps=round(full.warm_up_share * full.steps))
    model = new_model(Shape(full.size, tokenizer.vocabulary, full.length), seed, full.device)
    last, schedule = full, falling(full)
    if plan.anneal is not None:  # the base is the same for all arms of a seed
        before, last = _split(full, plan.anneal)
        sequences = base.sequences(base.pool.order(seed), before.steps * before.batch, before.length)
        train(model, sequences, domains, before, schedule=constant(before), seed=seed)
        schedule = annealing(last)
    sequences = of_arm.sequences(of_arm.pool.order(seed), last.steps * last.batch, last.length)
    points = train(model, sequences, domains, last, schedule=schedule, seed=seed, reweighter=reweighter)
    tokens = last.steps * last.step_tokens
    scores = {}
    if plan.tasks and is_first():
        from gneiss.ablate.harness import HarnessModel, task_scores

        scores = task_scores(HarnessModel(model, tokenizer, full.length, full.device), plan.tasks)
    return Trained(arm.name, seed, tokens, tokens / of_arm.size, tuple(points), scores)


def _split(training: Training, share: float) -> tuple[Training, Training]:
    """The training of a base, judged at its end only, and of what is annealed."""
    annealed = max(1, round(share * training.steps))
    base = replace(training, budget_tokens=(training.steps - annealed) * training.step_tokens, evaluations=1)
    return base, replace(training, budget_tokens=annealed * training.step_tokens)


def _own(pools: Sequence[Pool], held_out: HeldOut, folder: Place, plan: Plan) -> Callable[[Arm, int], Trained]:
    """Your own trainer, which reads Parquet files; it is given the budget, and trusted to keep to it."""
    own, budget = plan.own_trainer, plan.training.budget_tokens
    assert own is not None
    for domain, texts in held_out.texts.items():
        if not re.fullmatch(r"(?:[\w+ -][\w.+ -]*/)*[\w+ -][\w.+ -]*", domain):
            raise InputError(
                f"held-out domain {domain!r}: your own trainer finds it by this name, as a file; take letters,"
                " digits and one of ._+-/ and space, and no point at the beginning"
            )
        _write_texts(texts, folder, f"{HELD_OUT}/{domain}.parquet")
    for i, pool in enumerate(pools):
        _write_texts(pool.texts, folder, f"{CORPORA}/{i}/part-00000.parquet")

    def train(arm: Arm, seed: int) -> Trained:
        places = {"corpus": folder / f"{CORPORA}/{arm.corpus}", "held_out": folder / HELD_OUT}
        found = own.bits_per_byte({**places, "seed": seed, "budget_tokens": budget}, list(held_out.texts))
        return Trained(arm.name, seed, budget, 0.0, (Point(budget, found),))

    return train


def _write_texts(texts: Sequence[str], folder: Place, path: str) -> None:
    schema = pa.schema([pa.field("text", pa.large_string())])
    parts = (texts[at : at + _TABLE_ROWS] for at in range(0, len(texts), _TABLE_ROWS))
    write_parquet((pa.table({"text": list(part)}, schema=schema) for part in parts), schema, folder, path)


def _key(pools: Sequence[Pool], held_out: HeldOut, plan: Plan) -> str:
    """What a stored model is of: corpora and held-out texts as they are, and the plan but for the number of seeds."""
    left_out = {"seeds", "confidence", *([] if plan.tasks else ["tasks"])}
    settings = {name: value for name, value in asdict(plan).items() if name not in left_out}
    parts = [__version__, held_out.digest, *(f"{pool.name} {pool.digest}" for pool in pools)]
    return xxhash.xxh3_128_hexdigest(json.dumps([*parts, settings], sort_keys=True).encode())


def _short(name: str) -> str:
    return xxhash.xxh3_64_hexdigest(name.encode())[:6]


def _stored(file: Place, key: str) -> Trained | None:
    """A model that was trained before. Raises InputError for one of other corpora or settings."""
    if file.find() is None:
        return None
    content = json.loads(file.read())
    if content.pop("key") != key:
        raise InputError(f"{file}: it is of other corpora or settings; choose another output")
    points = tuple(Point(point["tokens"], point["bits_per_byte"]) for point in content.pop("points"))
    return Trained(**content, points=points)
