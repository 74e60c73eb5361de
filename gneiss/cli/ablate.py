"""`gneiss ablate`: small models trained on each of some corpora, and what they say of these."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated

import typer

from gneiss.cli.terminal import console, say, table
from gneiss.errors import InputError, MachineError

if TYPE_CHECKING:
    from gneiss.ablate import Ablation, Corpus


def ablate(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN",
            help="Output folders of finished runs, or folders of Parquet files. NAME=FOLDER names a corpus.",
        ),
    ],
    held_out: Annotated[
        list[Path],
        typer.Option(help="Held-out file, or folder of files (.parquet, .jsonl, .txt), each a domain. Repeatable."),
    ],
    output: Annotated[str, typer.Option("--output", "-o", help="Output folder. The same command resumes.")],
    budget_tokens: Annotated[int, typer.Option(min=1, help="Training tokens per model.")] = 10_000_000,
    seeds: Annotated[int, typer.Option(min=2, help="Number of models per corpus, each with its own seed.")] = 5,
    size: Annotated[str, typer.Option(help="Approximate number of parameters: tiny, 1m, 10m, 30m, 100m.")] = "1m",
    length: Annotated[int, typer.Option(min=2, help="Tokens per sequence.")] = 256,
    batch: Annotated[int, typer.Option(min=1, help="Sequences per step.")] = 32,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate. Default: depends on --size.")] = None,
    tokenizer: Annotated[
        str,
        typer.Option(
            help="`bpe` is trained on all corpora; `bytes`; or a tokenizer as in a recipe, with its --vocabulary."
        ),
    ] = "bpe",
    vocabulary: Annotated[int, typer.Option(help="Vocabulary size, including the end-of-document token.")] = 2048,
    held_out_bytes: Annotated[int, typer.Option(min=1, help="Bytes of each held-out domain to evaluate.")] = 200_000,
    domain: Annotated[
        str | None, typer.Option(help="Column of the held-out files that names the domain of a row.")
    ] = None,
    text_column: Annotated[str, typer.Option(help="Column that holds the text, also in held-out files.")] = "text",
    shared_words: Annotated[
        int,
        typer.Option(help="Exclude training documents that share this many consecutive words with a held-out text."),
    ] = 32,
    linupper: Annotated[
        float | None, typer.Option(help="Also train with loss-weighted samples (LinUpper), at this temperature r.")
    ] = None,
    null_pair: Annotated[
        bool, typer.Option("--null-pair", help="Also compare two random halves of the first corpus, as a control.")
    ] = False,
    anneal: Annotated[
        float | None,
        typer.Option(help="Train a base model on the first corpus, then on each corpus for this share of the budget."),
    ] = None,
    confidence: Annotated[
        float, typer.Option(help="Simultaneous confidence level of the intervals against the first corpus.")
    ] = 0.95,
    trainer: Annotated[
        str | None,
        typer.Option(help="Your own training command, with {corpus} and {seed}, which prints bits per byte as JSON."),
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(
            help="Tasks of lm-evaluation-harness, separated by commas, such as arc_easy,piqa. Requires lm-eval."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="PyTorch device, such as cpu or cuda.")] = "cpu",
    threads: Annotated[
        int, typer.Option(min=1, help="CPU threads. Small models do not train faster with more than one.")
    ] = 1,
) -> None:
    """Train small models on each corpus with paired seeds and compare them on held-out text.

    Example: gneiss ablate base=curated/ new=stricter/ --held-out held-out.jsonl --output ablation/
    """
    from gneiss.ablate import SIZES, OwnTrainer, Plan, Training, read_held_out
    from gneiss.ablate import ablate as compare
    from gneiss.ablate.ranks import joined

    if size not in SIZES:
        raise InputError(f"--size {size}: expected one of {', '.join(SIZES)}")
    training = Training(budget_tokens, SIZES[size], length, batch, learning_rate, device=device)
    plan = Plan(
        training,
        seeds=seeds,
        held_out_bytes=held_out_bytes,
        tokenizer=tokenizer,
        vocabulary=vocabulary,
        shared_words=shared_words,
        linupper=linupper,
        null_pair=null_pair,
        anneal=anneal,
        confidence=confidence,
        own_trainer=None if trainer is None else OwnTrainer(trainer),
        tasks=tuple(tasks.split(",")) if tasks else (),
    )
    read = read_held_out(held_out, text=text_column, domain=domain)
    corpora = [_named(run, text_column) for run in runs]
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # it warns of forks that nobody makes
    if plan.own_trainer is None:
        _use_threads(threads)
        if plan.tasks and find_spec("lm_eval") is None:
            raise MachineError("--tasks needs lm-eval: pip install 'gneiss-curation[harness]'")
    elif int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("--trainer: expected one process, which starts the trainer's own; start without torchrun")
    with joined(device) as is_first:
        found = compare(corpora, read, output, plan, said=say if is_first else lambda _: None)
    if not is_first:
        return
    _print(found)
    say(f"figures    {output}/ablation.json")
    if plan.own_trainer is None:
        _draw(found, output)


def _use_threads(threads: int) -> None:
    try:
        import torch
    except ModuleNotFoundError as missing:
        if missing.name != "torch":
            raise
        raise MachineError("gneiss ablate needs torch: pip install 'gneiss-curation[train]'") from missing
    torch.set_num_threads(threads)


def _draw(ablation: Ablation, output: str) -> None:
    """The picture, where what draws it is installed."""
    if lacking := [package for package in ("altair", "vl_convert") if find_spec(package) is None]:
        say(f"no picture without the package {lacking[0]}: pip install 'gneiss-curation[report]'")
        return
    from gneiss.ablate.charts import ablation_png
    from gneiss.output.parquet import write_bytes
    from gneiss.store.place import place_of

    write_bytes(ablation_png(ablation), place_of(output, "output"), "ablation.png")
    say(f"picture    {output}/ablation.png")


def _named(given: str, text: str) -> Corpus:
    """A corpus of `FOLDER`, called as its last part, or of `NAME=FOLDER`."""
    from gneiss.ablate import Corpus

    named = re.fullmatch(r"([\w.+ -]+)=(.+)", given)
    if named:
        return Corpus(named[1], named[2], text)
    return Corpus(given.rstrip("/").rpartition("/")[2] or given, given, text)


def _print(ablation: Ablation) -> None:
    """Tables of bits per byte, by arm and by domain, then a sentence for each comparison."""
    out, arms = console(), ablation.arms
    domains = list(ablation.trained[0].bits_per_byte)
    means = table("corpus", "bits per byte", "epochs")
    for arm in arms:
        epochs = fmean(model.epochs for model in ablation.of(arm))
        means.add_row(arm, f"{ablation.bits_per_byte(arm):.4f}", f"{epochs:.2f}")
    by_domain = table("domain", *arms)
    for domain in domains:
        values = (fmean(model.bits_per_byte[domain] for model in ablation.of(arm)) for arm in arms)
        by_domain.add_row(domain, *(f"{value:.4f}" for value in values))
    for shown in (means, *([by_domain] if len(domains) > 1 else [])):
        out.print(shown)
        out.print()
    if tasks := list(ablation.trained[0].scores):
        by_task = table("task", *arms)
        for task in tasks:
            by_task.add_row(task, *(f"{fmean(model.scores[task] for model in ablation.of(arm)):.3f}" for arm in arms))
        out.print(by_task)
        out.print()
    for compared in ablation.comparisons:
        say(compared.sentence)
        for task, of in compared.tasks.items():
            say(f"  {task}: {of.mean:+.3f} ({100 * of.confidence:.3g} % interval {of.low:+.3f} to {of.high:+.3f})")
    say("This holds for models of this size and budget, on these held-out texts.")
