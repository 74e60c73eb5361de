"""`gneiss mix`: the corpus is what the plan says, the same bytes however it is made, and what is refused."""

from __future__ import annotations

import json
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from gneiss import run
from gneiss.cli.main import app
from gneiss.errors import InputError, OutputError
from gneiss.layers.weights import write_weights
from gneiss.mixture import Curve, Mixture, Policy, find_buckets, plan_mixture, survey, write_buckets
from gneiss.mixture.mix import named_runs
from gneiss.output.finished_run import open_run
from tests import runs
from tests.chaos.killing import NEVER, killed_at
from tests.support import recipe_of

Copy = Callable[[Path], Path]
HERE = runs.InThisProcess()
NOT_PROMISED = ("_gneiss/ledger/", "_gneiss/lock")
CURVE = Policy(curve=Curve(Fraction(2, 5), Fraction(5)), max_repetition=Fraction(5))


@pytest.fixture(scope="module")
def bucketed(curated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the run with the layers `buckets` and `weights`; nothing writes into it."""
    folder = Path(shutil.copytree(curated, tmp_path_factory.mktemp("bucketed") / "curated"))
    write_buckets(find_buckets(folder, ["prose"], quantiles=5))
    write_weights(folder, beta=0.25, quality="prose")
    return folder


def planned(bucketed: Path, ratio: float = 2.3, **settings: Any) -> Mixture:
    budget = int(ratio * sum(open_run(bucketed).annotations(columns=["tokens"], kept=True)["tokens"].to_pylist()))
    return plan_mixture({"one": bucketed}, budget, **{"policy": CURVE, "buckets": "buckets", **settings})


def files_of(output: Path) -> dict[str, bytes]:
    """All files but the ledger and the lock."""
    found = {str(path.relative_to(output)): path for path in output.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if not name.startswith(NOT_PROMISED)}


def rows_of(output: Path) -> pa.Table:
    return pa.concat_tables([pq.read_table(path) for path in sorted((output / "data").rglob("*.parquet"))])


def test_the_corpus_is_what_the_plan_says(bucketed: Path, tmp_path: Path) -> None:
    mixture = planned(bucketed)
    done = mixture.write(tmp_path / "mixed", backend=HERE, shard_bytes=20_000)
    assert done.files > 2
    table = rows_of(tmp_path / "mixed")
    assert table.num_rows == done.documents == mixture.plan.documents
    assert pc.sum(table["tokens"]).as_py() == mixture.plan.tokens == pytest.approx(mixture.plan.budget, rel=0.01)
    by_bucket = table.group_by("bucket").aggregate([("tokens", "sum")]).to_pylist()
    assert {row["bucket"]: row["tokens_sum"] for row in by_bucket} == {
        part.cell.bucket: part.tokens for part in mixture.plan.parts if part.tokens
    }
    data = pa.concat_tables(
        [pq.read_table(path, columns=["id", "text"]) for path in (bucketed / "data").rglob("*.parquet")]
    )
    texts = dict(zip(data["id"].to_pylist(), data["text"].to_pylist(), strict=True))
    copies = Counter(table["id"].to_pylist())
    kept = open_run(bucketed).annotations(["buckets"], ["bucket"], kept=True)
    whole = {part.cell.bucket: part.whole for part in mixture.plan.parts}
    for id_, bucket in zip(kept["id"].to_pylist(), kept["bucket"].to_pylist(), strict=True):
        assert copies[id_] in (whole[bucket], whole[bucket] + 1)
    for row in table.to_pylist():
        assert row["text"] == texts[row["id"]]
        assert 0 <= row["copy"] < copies[row["id"]]
    assert len({(row["id"], row["copy"]) for row in table.to_pylist()}) == table.num_rows
    described = json.loads((tmp_path / "mixed/mixture.json").read_text())
    assert described["tokens"] == mixture.plan.tokens
    assert not (tmp_path / "mixed/_gneiss/exchange").exists()


def test_it_is_shuffled_among_all_files(bucketed: Path, tmp_path: Path) -> None:
    planned(bucketed).write(tmp_path / "mixed", backend=HERE, shard_bytes=40_000)
    ids = rows_of(tmp_path / "mixed")["id"].to_pylist()
    stems = [id_.split("-")[0] for id_ in ids]  # of the input file
    changes = sum(one != other for one, other in pairwise(stems))
    assert changes > len(ids) / 3
    assert sum(one == other for one, other in pairwise(ids)) < len(ids) / 20


def test_the_same_bytes_however_it_is_cut_and_others_by_another_seed(
    bucketed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned(bucketed).write(tmp_path / "one", backend=HERE, shard_bytes=40_000)
    other = planned(bucketed, seed=1)
    other.write(tmp_path / "seed", backend=HERE, shard_bytes=40_000)
    expected = files_of(tmp_path / "one")
    assert files_of(tmp_path / "seed") != expected
    chosen = [Counter(rows_of(tmp_path / name)["id"].to_pylist()) for name in ("one", "seed")]
    assert chosen[0] != chosen[1]
    monkeypatch.setattr("gneiss.output.annotation_tables.BATCH_ROWS", 7)
    monkeypatch.setattr("gneiss.mixture.mixing.PIECE_BYTES", 3_000)
    monkeypatch.setattr("gneiss.quantiles._WAITING", 9)
    planned(bucketed).write(tmp_path / "cut", backend=HERE, shard_bytes=40_000)
    assert files_of(tmp_path / "cut") == expected
    before = runs.touched(tmp_path / "cut")
    again = planned(bucketed).write(tmp_path / "cut", backend=HERE, shard_bytes=40_000)
    assert again.documents == rows_of(tmp_path / "cut").num_rows
    after = runs.touched(tmp_path / "cut")
    assert {name: state for name, state in after.items() if name.startswith("data/")} == {
        name: state for name, state in before.items() if name.startswith("data/")
    }
    with pytest.raises(OutputError, match="another"):
        other.write(tmp_path / "cut", backend=HERE, shard_bytes=40_000)


@pytest.mark.processes
@pytest.mark.slow
def test_two_workers_write_the_same_bytes(bucketed: Path, tmp_path: Path) -> None:
    planned(bucketed).write(tmp_path / "one", backend=HERE, shard_bytes=40_000)
    planned(bucketed).write(tmp_path / "two", workers=2, backend="local", shard_bytes=40_000)
    assert files_of(tmp_path / "two") == files_of(tmp_path / "one")


def write_until(number: int, mixture: Mixture, output: Path) -> None:
    """A mixing that is killed at its n-th event."""
    with killed_at(number):
        mixture.write(output, backend=HERE, shard_bytes=60_000)


@pytest.mark.processes
@pytest.mark.parametrize("every", [9, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_a_killed_mixing_is_completed(every: int, bucketed: Path, tmp_path: Path) -> None:
    mixture = planned(bucketed)
    mixture.write(tmp_path / "whole", backend=HERE, shard_bytes=60_000)
    expected = files_of(tmp_path / "whole")
    context = get_context("fork")
    for number in range(2, 200, every):
        output = tmp_path / f"killed-{number}"
        process = context.Process(target=write_until, args=(number, mixture, output))
        process.start()
        process.join()
        mixture.write(output, backend=HERE, shard_bytes=60_000)
        assert files_of(output) == expected
        if process.exitcode != -signal.SIGKILL:
            assert number > 10
            break
    write_until(NEVER, mixture, tmp_path / "never")


@pytest.mark.parametrize("ratio", [0.31, 1.0, 3.99])
def test_factors_are_those_of_the_weights(bucketed: Path, ratio: float) -> None:
    plan = planned(bucketed, ratio, weights="weights", buckets=None, policy=Policy(max_repetition=Fraction(100))).plan
    assert len(plan.parts) > 2
    assert plan.tokens == pytest.approx(plan.budget, abs=100)  # half of the longest document
    heavy = max(plan.parts, key=lambda part: part.cell.factor)
    light = min(plan.parts, key=lambda part: part.cell.factor)
    assert heavy.cell.factor > light.cell.factor
    assert heavy.wanted * light.cell.tokens * light.cell.factor == pytest.approx(
        light.wanted * heavy.cell.tokens * heavy.cell.factor, rel=0.05
    )


def test_copies_rehydrate(material: runs.Material, tmp_path: Path) -> None:
    recipe = recipe_of(
        "  - {name: only, exact_duplicates: {scope: corpus}, annotate: [tokens]}", budgets={"documents": 0.5}
    )
    finished = run(recipe, material.input, tmp_path / "curated", backend=HERE)
    table = finished.annotations(columns=["exact_copies", "tokens"], kept=True)
    assert max(table["exact_copies"].to_pylist()) > 1
    plan = plan_mixture({"a": finished}, 10_000, upsampling={1: 1, 2: 3}, policy=Policy()).plan
    counted = table.group_by("exact_copies").aggregate([("tokens", "sum")])
    tokens = {min(row["exact_copies"], 2): 0 for row in counted.to_pylist()}
    for row in counted.to_pylist():
        tokens[min(row["exact_copies"], 2)] += row["tokens_sum"]
    assert {int(part.cell.factor): part.cell.tokens for part in plan.parts} == {1: tokens[1], 3: tokens[2]}


@pytest.mark.slow
def test_several_runs_and_what_differs_between_them(bucketed: Path, material: runs.Material, tmp_path: Path) -> None:
    recipe = material.changed(tmp_path, "eflaw < 30", "eflaw < 29")
    other = run(recipe, material.input, tmp_path / "other", backend=HERE)
    mixture = plan_mixture({"one": bucketed, "two": other}, 30_000, policy=Policy(targets={"two": Fraction(1, 4)}))
    said = "\n".join(mixture.warnings)
    assert "the recipe of two is another one than that of one: phases.only.rules.readable" in said
    shared = {*open_run(bucketed).annotations(kept=True)["id"].to_pylist()} & {
        *other.annotations(kept=True)["id"].to_pylist()
    }
    assert f"about {len(shared)} ids are in more than one run" in said
    tokens = {source: sum(part.tokens for part in parts) for source, parts in mixture.plan.of_sources()}
    assert tokens["two"] == pytest.approx(7_500, abs=150)
    done = mixture.write(tmp_path / "mixed", backend=HERE)
    by_source = rows_of(tmp_path / "mixed").group_by("source").aggregate([("tokens", "sum")]).to_pylist()
    assert {row["source"]: row["tokens_sum"] for row in by_source} == tokens
    assert done.files == 1


def test_shared_ids_are_counted_from_the_lowest_hashes_once_they_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    hashes = draw.integers(0, 1 << 63, 9_000).astype(np.uint64) << np.uint64(1)
    for most, tolerance in ((1 << 20, 0.0), (1_000, 0.15)):
        monkeypatch.setattr(survey, "MOST_IDS", most)
        ids = [survey._Ids(), survey._Ids()]
        for start in range(0, 6_000, 500):
            ids[0].add(hashes[start : start + 500])
            ids[1].add(hashes[3_000 + start : 3_500 + start])
        assert all(len(own.lowest) <= most for own in ids)
        assert survey._shared(ids) == pytest.approx(3_000, rel=tolerance, abs=0)
    assert survey._shared(ids[:1]) == 0


def test_other_tokenizers_are_refused(bucketed: Path, copy_of: Copy) -> None:
    other = copy_of(bucketed)
    recipe = other / "_gneiss/recipe.yaml"
    recipe.write_text(recipe.read_text().replace("builtin:cl100k_base", "other.json"))
    with pytest.raises(InputError, match=r"counted by builtin:cl100k_base, those of two by .*other.json"):
        plan_mixture({"one": bucketed, "two": other}, 1000)
    assert plan_mixture({"one": bucketed, "two": other}, 1000, tokens="text_bytes").plan.tokens


def test_documents_that_changed_since_are_refused(bucketed: Path, copy_of: Copy, tmp_path: Path) -> None:
    output = copy_of(bucketed)
    mixture = planned(output)
    file = output / "data/a.parquet"
    table = pq.read_table(file)
    texts = ["another" if at == 3 else text for at, text in enumerate(table["text"].to_pylist())]
    place = table.column_names.index("text")
    pq.write_table(table.set_column(place, "text", pa.array(texts, table.schema.field("text").type)), file)
    with pytest.raises(OutputError, match=r"a\.parquet: the text \(its hash\)"):
        mixture.write(tmp_path / "mixed", backend=HERE)


@pytest.mark.processes
@pytest.mark.slow
def test_the_command_plans_and_writes(bucketed: Path, tmp_path: Path) -> None:
    arguments = ["mix", f"one={bucketed}", "--budget", "10K", "--buckets", "buckets", "--curve", "0.4:5"]
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0, shown.output
    assert "budget     10,000 tokens, seed 0" in shown.output
    output = tmp_path / "mixed"
    shown = CliRunner().invoke(app, [*arguments, "--output", str(output), "--workers", "1", "--backend", "local"])
    assert shown.exit_code == 0, shown.output
    assert f"files: {output}/data" in shown.output
    assert rows_of(output).num_rows


def test_a_shortfall_is_printed(bucketed: Path) -> None:
    shown = CliRunner().invoke(app, ["mix", str(bucketed), "--budget", "1T", "--buckets", "buckets"])
    assert shown.exit_code == 0
    assert "shortfall  999,9" in shown.output
    assert "×4.00" in shown.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--budget", "many"], "--budget many: expected a number of tokens such as 500M"),
        (["--budget", "1M", "--curve", "0.4"], "--curve 0.4: expected DROP:BEST"),
        (["--budget", "1M", "--target", "web"], "--target web: expected NAME=SHARE"),
        (["--budget", "1M", "--max-share", "-1"], "--max-share -1: expected a number"),
        (["--budget", "1M", "--target", "web=0.5"], "no source 'web'"),
        (["--budget", "1M", "--buckets", "weights"], "the layer 'weights' holds no buckets"),
        (["--budget", "1M", "--weights", "buckets"], "the layer 'buckets' has no log_prior"),
        (["--budget", "1M", "--weights", "weights", "--upsampling", "fineweb-2"], "both are factors of documents"),
        (["--budget", "1M", "--upsampling", "fineweb-2"], "counted no copies"),
    ],
)
def test_what_cannot_be_mixed_is_refused(bucketed: Path, arguments: list[str], message: str) -> None:
    shown = CliRunner().invoke(app, ["mix", str(bucketed), *arguments])
    assert message in str(shown.exception)


def test_names_of_sources(bucketed: Path) -> None:
    assert named_runs(["a=x/y", "x/z"]) == {"a": "x/y", "z": "x/z"}
    with pytest.raises(InputError, match="there is a source 'y' already; name them: NAME=b/y"):
        named_runs(["a/y", "b/y"])
