"""What the whole path costs, against the same steps done by the libraries one after another, in one run, one thread.

    python scripts/bench_pipeline.py --corpus DIR [--quick] [--json FILE]
                                     [--models DIR] [--gpt2 FILE] [--starcoder FILE]

DIR holds Parquet files with columns `text` and `id`. Configuration A cuts repeats of 200 bytes and counts GPT-2 tokens;
B, the published recipe, cuts repeats of 50 GPT-2 tokens and counts StarCoder tokens. Models: six of 2,000,000 buckets,
100 dimensions and 70,000 words with the labels hq and cc, trained on the corpus itself unless --models names a folder
with dclm.bin, cosmo.bin, science.bin, technology.bin, education.bin, medical.bin. Without --gpt2 and --starcoder (a
tokenizer.json each) vocabularies in their shape, cut from cl100k_base, stand in.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from bench_filters import Figures, describe, read_corpus, starcoder_shaped, timed, train_models

from gneiss.batch import TextBatch
from gneiss.corpus_steps import Dedup
from gneiss.curate.curate import curate
from gneiss.curate.loaded_models import load_models, prepare
from gneiss.dedup import find_spans
from gneiss.edit import Edits
from gneiss.filters import cl100k
from gneiss.input.plan import make_plan
from gneiss.output.commit import commit
from gneiss.recipe.recipe import Recipe
from gneiss.store.place import place_of

QUICK_BYTES = 45_000_000
MODELS = ("dclm", "cosmo", "science", "technology", "education", "medical")


def main() -> None:
    """Measure both configurations and print their figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="folder of Parquet files with columns text and id")
    parser.add_argument("--quick", action="store_true", help="the first 45 MB")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--models", type=Path, help="folder with six .bin files")
    parser.add_argument("--gpt2", type=Path, help="GPT-2's tokenizer.json")
    parser.add_argument("--starcoder", type=Path, help="StarCoder's tokenizer.json")
    arguments = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    limit = QUICK_BYTES if arguments.quick else None
    figures = describe(arguments.corpus, read_corpus(arguments.corpus, limit))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        shards = _shards(arguments.corpus, limit, folder / "corpus")
        models = _models(arguments.models, read_corpus(arguments.corpus, 15_000_000), folder, arguments.quick)
        shaped = starcoder_shaped(cl100k.reference())
        gpt2 = arguments.gpt2 or _written(_gpt2_shaped(shaped), folder / "gpt2.json")
        starcoder = arguments.starcoder or _written(shaped, folder / "starcoder.json")
        for name, dedup, counted in (
            ("a", Dedup(min_length=200, unit="bytes", policy="protect"), gpt2),
            ("b", Dedup(min_length=50, unit="tokens", tokenizer=str(gpt2), policy="union"), starcoder),
        ):
            recipe = _recipe(models, dedup, counted)
            measured = _configuration(recipe, shards, folder / name, arguments.quick)
            figures |= {f"{key}_{name}": value for key, value in measured.items()}
    figures["counted"] = (
        "CPU seconds of this process, models loaded before; the libraries' dedup is divsufsort and Kasai's LCP alone,"
        " and they annotate the text that our spans leave"
        + (
            "; quick: the first model's fastText seconds, times six; the others have 4 dimensions"
            if arguments.quick
            else ""
        )
    )
    for name, value in figures.items():
        print(f"{name:45} {value:.4g}" if isinstance(value, float) else f"{name:45} {value}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")


def _configuration(recipe: Recipe, shards: Path, output: Path, quick: bool) -> Figures:
    plan = make_plan(recipe, shards)
    tools = load_models(recipe, prepare(recipe))
    _warm_up(recipe, tools, plan)
    ours: Figures = {}
    decisions: list[bool] = []
    total = 0.0
    for shard in plan.input.shards:
        seconds, curated = timed(lambda: curate(shard, recipe, tools))  # noqa: B023 - called at once
        total += seconds
        total += timed(lambda: commit(curated, recipe, place_of(output)))[0]  # noqa: B023
        decisions += [status == "kept" for status in curated.annotations["status"].to_pylist()]
    size = sum(pq.read_table(shard.file, columns=["text"])["text"].nbytes for shard in plan.input.shards)
    library_seconds, library_decisions, cut = _libraries(recipe, plan, tools, quick)
    for name, seconds in _our_steps(recipe, plan, tools, cut).items():
        ours[f"pipeline_{name}_seconds"] = seconds
    return {
        "pipeline_mb_per_s": size / 1e6 / total,
        "pipeline_over_libraries": sum(library_seconds.values()) / total,
        "pipeline_seconds": total,
        **ours,
        **{f"libraries_{name}_seconds": seconds for name, seconds in library_seconds.items()},
        "pipeline_bytes": size,
        "pipeline_documents": len(decisions),
        "pipeline_decisions_that_differ": int(np.sum(np.array(decisions) != np.array(library_decisions))),
        "pipeline_peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }


def _warm_up(recipe: Recipe, tools: Any, plan: Any) -> None:
    """Compile every kernel: the first documents of the first shard, once."""
    curate(plan.input.shards[0], recipe, tools, 50)


def _our_steps(recipe: Recipe, plan: Any, tools: Any, cut: list[TextBatch]) -> dict[str, float]:
    """Seconds by step, each run alone: dedup with its cut, then every annotator over the cut text."""
    seconds: dict[str, float] = {"dedup": 0.0}
    ((step, model),) = tools.phases[0].steps
    for shard in plan.input.shards:
        batch = TextBatch.of(pq.read_table(shard.file, columns=["text"])["text"])
        seconds["dedup"] += timed(lambda: _cut(batch, step, model))[0]  # noqa: B023
    for annotator, compute in tools.phases[0].annotators:
        name = type(annotator).__name__.lower()
        seconds[name] = sum(timed(lambda: compute(_fresh(batch)))[0] for batch in cut)  # noqa: B023
    return seconds


def _cut(batch: TextBatch, dedup: Dedup, tokenizer: Any) -> TextBatch:
    found = find_spans(
        batch,
        min_length=dedup.min_length,
        unit=dedup.unit,
        tokenizer=tokenizer,
        engine=dedup.engine,
        policy=dedup.policy,
    ).shrink(batch.to_arrow())
    document, start, end, _, _ = found.arrays()
    return Edits(document, start, end).apply(batch)


def _libraries(
    recipe: Recipe, plan: Any, tools: Any, quick: bool
) -> tuple[dict[str, float], list[bool], list[TextBatch]]:
    """Seconds by step of the libraries, the decisions that follow from their answers, and the texts after our cut."""
    from pydivsufsort import divsufsort, kasai
    from textstat import textstat
    from tokenizers import Tokenizer

    fasttext_annotator, _, tokens_annotator = (annotator for annotator, _ in tools.phases[0].annotators)
    ((dedup, tokenizer),) = tools.phases[0].steps
    assert dedup is not None
    seconds = dict.fromkeys(("read", "dedup", "fasttext", "readability", "tokens", "write"), 0.0)
    tables, cut, texts = [], [], []
    for shard in plan.input.shards:
        spent, table = timed(lambda: pq.read_table(shard.file, use_threads=False))  # noqa: B023
        seconds["read"] += spent
        batch = TextBatch.of(table["text"])
        units = np.array(batch.data[batch.offsets[0] : batch.offsets[-1]])
        if dedup.unit == "tokens":
            gpt2 = Tokenizer.from_file(str(dedup.tokenizer))
            spent, ids = timed(lambda: [e.ids for e in gpt2.encode_batch_fast(batch.texts(), add_special_tokens=False)])  # noqa: B023
            seconds["dedup"] += spent
            units = np.concatenate([np.array(document, np.int32) for document in ids])
        spent, order = timed(lambda: divsufsort(units))  # noqa: B023
        seconds["dedup"] += spent
        seconds["dedup"] += timed(lambda: kasai(units, order))[0]  # noqa: B023
        tables.append(table)
        cut.append(_cut(batch, dedup, tokenizer))
        texts.append(cut[-1].texts())
    documents = [text for shard_texts in texts for text in shard_texts]
    scores: dict[str, list[dict[str, float]]] = {}
    for name, model in fasttext_annotator.models.items():
        spent = _score(name, model, documents, scores)
        seconds["fasttext"] += spent if not quick else len(MODELS) * spent if name == MODELS[0] else 0.0
    spent, eflaw = timed(lambda: [textstat.mcalpine_eflaw(text) for text in documents])
    seconds["readability"] = spent
    tokenizer = Tokenizer.from_file(str(tokens_annotator.tokenizer))
    spent, counts = timed(
        lambda: [len(ids) for ids in tokenizer.encode_batch_fast(documents, add_special_tokens=False)]
    )
    seconds["tokens"] = spent
    keep = [_keeps(scores, eflaw[i], counts[i], documents[i], i) for i in range(len(documents))]
    first = 0
    with tempfile.TemporaryDirectory() as folder:
        for number, (table, shard_texts) in enumerate(zip(tables, texts, strict=True)):
            chosen = pa.array(keep[first : first + len(shard_texts)])
            first += len(shard_texts)
            index = table.schema.get_field_index("text")
            table = table.set_column(index, "text", pa.array(shard_texts)).filter(chosen)
            seconds["write"] += timed(
                lambda: pq.write_table(table, f"{folder}/{number}.parquet", compression="zstd")  # noqa: B023
            )[0]
    return seconds, keep, cut


def _score(name: str, model: Any, documents: list[str], scores: dict[str, list[dict[str, float]]]) -> float:
    """Score all documents with one model, which is loaded before and dropped after; returns the seconds of scoring."""
    import fasttext

    loaded = fasttext.load_model(str(model.source))

    def one_line(text: str) -> str:
        return text.replace("\n", " ") if model.newlines == "space" else " ".join(text.strip().splitlines())

    spent, answers = timed(lambda: [loaded.predict(one_line(text), k=2) for text in documents])
    scores[name] = [
        {label.removeprefix("__label__"): float(p) - 1e-5 for label, p in zip(*answer, strict=True)}
        for answer in answers
    ]
    return spent


def _keeps(scores: dict[str, list[dict[str, float]]], eflaw: float, tokens: int, text: str, i: int) -> bool:
    """F and (R or X), and something left after dedup, in plain Python."""
    likes = scores["dclm"][i].get("hq", 0.0) > 0.002 or scores["cosmo"][i].get("hq", 0.0) > 0.03
    categories = ("science", "technology", "education", "medical")
    in_category = any(scores[name][i].get("hq", 0.0) > scores[name][i].get("cc", 0.0) for name in categories)
    ratio = tokens / len(text) if text else -1.0
    low, high = (0.1, 0.5) if in_category else (0.22, 0.28)
    return bool(text and likes and (eflaw < (70 if in_category else 30) or low <= ratio <= high))


def _recipe(models: dict[str, Path], dedup: Dedup, tokenizer: Path) -> Recipe:
    """The packaged recipe with these models (labels hq and cc), dedup and tokenizer."""
    packaged = Recipe.load("gneissweb-bytes").canonical()
    phase = packaged["phases"][0]
    for name, model in phase["annotate"][0]["fasttext"]["models"].items():
        model["source"], model["label"] = str(models[name].resolve()), "hq"
    for name, rule in phase["rules"].items():
        phase["rules"][name] = re.sub(r"_label = '\w+'", "_label = 'hq'", rule)
    phase["annotate"][2]["tokens"]["tokenizer"] = str(tokenizer.resolve())
    phase["dedup"] = dedup.model_dump()
    return Recipe.model_validate(packaged)


def _models(folder: Path | None, batch: TextBatch, scratch: Path, quick: bool) -> dict[str, Path]:
    """Six models of 70,000 words, by name."""
    if folder:
        return {name: folder / f"{name}.bin" for name in MODELS}
    (scratch / "models").mkdir()
    paths = train_models(batch.texts(), 70_000, scratch / "models", quick)
    return dict(zip(MODELS, paths, strict=True))


def _gpt2_shaped(starcoder: str) -> str:
    """The same without splitting digits, and with GPT-2's number of tokens as near as the other vocabulary comes."""
    layout = json.loads(starcoder)
    layout["pre_tokenizer"] = layout["pre_tokenizer"]["pretokenizers"][1]
    return json.dumps(layout)


def _shards(corpus: Path, limit: int | None, folder: Path) -> Path:
    """The corpus' first files, as links, up to a number of bytes of text."""
    folder.mkdir()
    size = 0
    for path in sorted(corpus.glob("*.parquet")):
        (folder / path.name).symlink_to(path.resolve())
        size += pq.read_table(path, columns=["text"]).nbytes
        if limit is not None and size >= limit:
            break
    return folder


def _fresh(batch: TextBatch) -> TextBatch:
    """The same documents without any view computed before."""
    return replace(batch, _views={})


def _written(content: str, path: Path) -> Path:
    path.write_text(content, "utf-8")
    return path


if __name__ == "__main__":
    sys.exit(main())
