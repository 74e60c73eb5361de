"""`gneiss weights`: against a slow oracle, the same bytes however cut and however often killed, and what is refused."""

from __future__ import annotations

import json
import math
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from gneiss import run
from gneiss.cli.main import app
from gneiss.errors import GneissError, InputError, OutputError
from gneiss.layers import weights
from gneiss.layers.upsampling import Upsampling
from gneiss.layers.weights import write_weights
from gneiss.output import annotation_tables
from gneiss.output.finished_run import open_run
from gneiss.output.layers import LAYER_KEY
from gneiss.recipe.recipe import Recipe
from tests import runs
from tests.chaos.killing import NEVER, killed_at
from tests.support import with_columns, write_documents

Copy = Callable[[Path], Path]


def rows_of(output: Path, layer: str) -> list[dict[str, Any]]:
    """Every row of a layer, shard by shard in bytewise order of paths."""
    folder = output / "annotations" / layer
    paths = sorted(folder.rglob("*.parquet"), key=lambda path: path.relative_to(folder).as_posix().encode())
    return [row for path in paths for row in pq.read_table(path).to_pylist()]


def slow_log_weight(row: Mapping[str, Any], alpha: float, beta: float, quality: str | None) -> float:
    whole = max(row.get("exact_copies") or 1, row.get("near_cluster_size") or 1) - 1
    copies = (row["dedup_repeated_bytes"] or 0) / max(row["text_bytes"], 1) + whole
    value = -alpha * math.log1p(copies)
    if quality and row[quality] is not None and beta:
        p = min(max(row[quality], 1e-6), 1 - 1e-6)
        value += beta * (math.log(p) - math.log(1 - p))
    return min(max(value, -math.log(4)), math.log(4))


def check_against_oracle(output: Path, alpha: float, beta: float, quality: str | None) -> None:
    base, found = rows_of(output, "base"), rows_of(output, "weights")
    assert [(row["row"], row["id"]) for row in found] == [(row["row"], row["id"]) for row in base]
    kept = [row for row in base if row["status"] == "kept"]
    raw = [slow_log_weight(row, alpha, beta, quality) for row in kept]
    log_z = math.log(math.fsum(map(math.exp, raw)) / len(raw))
    expected = iter([value - log_z for value in raw])
    index = iter(range(len(kept)))
    for row, base_row in zip(found, base, strict=True):
        if base_row["status"] == "kept":
            assert row["log_prior"] == pytest.approx(next(expected), abs=1e-14)
            assert row["document"] == next(index)
            assert row["repeated_bytes"] == base_row["dedup_repeated_bytes"]
        else:
            assert {name: value for name, value in row.items() if value is not None}.keys() <= {"row", "id"}
    mean = math.fsum(math.exp(row["log_prior"]) for row in found if row["log_prior"] is not None) / len(kept)
    assert mean == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(("alpha", "beta", "quality"), [(0.5, 0.0, None), (2.0, 0.0, "prose"), (0.0, 0.7, "prose")])
@pytest.mark.slow
def test_weights_are_those_of_the_formula(
    alpha: float, beta: float, quality: str | None, curated: Path, copy_of: Copy
) -> None:
    output = copy_of(curated)
    write_weights(output, alpha=alpha, beta=beta, quality=quality)
    check_against_oracle(output, alpha, beta, quality)
    assert len({row["log_prior"] for row in rows_of(output, "weights")}) > 5


def test_copies_are_repeated_bytes_and_the_larger_of_exact_and_near_copies(curated: Path, copy_of: Copy) -> None:
    output = copy_of(curated)
    with_columns(
        output,
        {"exact_copies": lambda n: 1 + n % 3, "near_cluster_size": lambda n: None if n % 5 else 4},
        {"exact_copies": pa.int64(), "near_cluster_size": pa.int64()},
    )
    metadata = write_weights(output).metadata
    check_against_oracle(output, 0.5, 0.0, None)
    neutral = {"inclusion_probability": 1.0, "quality": None, "perplexity": None, "category": None}
    assert metadata["parameters"]["absent"] == neutral
    row = next(row for row in rows_of(output, "weights") if row["near_cluster_size"] == 4)
    assert row["copies"] >= 3
    assert row["inclusion_probability"] == 1


def test_with_alpha_one_a_document_and_its_copies_count_as_one(curated: Path, copy_of: Copy) -> None:
    """What SoftDedup's 1 / commonness is for whole copies; from 4 copies on, the bound."""
    output = copy_of(curated)
    sizes = (1, 2, 3, 4, 7)
    with_columns(output, {"near_cluster_size": lambda n: sizes[n % 5]}, {"near_cluster_size": pa.int64()})
    log_z = write_weights(output, alpha=1.0).metadata["parameters"]["log_z"]
    found = [row for row in rows_of(output, "weights") if row["log_prior"] is not None and not row["repeated_bytes"]]
    assert {row["near_cluster_size"] for row in found} == set(sizes)
    for row in found:
        weight = math.exp(row["log_prior"] + log_z)
        assert weight == pytest.approx(max(1 / row["near_cluster_size"], 1 / 4), rel=1e-12)


FINEWEB_2 = {1: 1, 2: 2, 3: 3, 4: 3, 5: 5, 99: 5, 100: 8, 999: 8, 1000: 1, 10**6: 1}


@pytest.mark.parametrize("options", [{}, {"alpha": 0.5}], ids=["by itself", "with alpha"])
def test_weights_follow_a_table_of_upsampling(options: dict[str, Any], curated: Path, copy_of: Copy) -> None:
    """The factor of FineWeb-2 for the cluster of each document, beside the other factors; the mean is one."""
    output = copy_of(curated)
    sizes = tuple(FINEWEB_2)
    with_columns(output, {"near_cluster_size": lambda n: sizes[n % len(sizes)]}, {"near_cluster_size": pa.int64()})
    parameters = write_weights(output, upsampling="fineweb-2", **options).metadata["parameters"]
    assert parameters["alpha"] == options.get("alpha", 0)
    pairs = zip(rows_of(output, "base"), rows_of(output, "weights"), strict=True)
    found = [(base, row) for base, row in pairs if row["log_prior"] is not None]
    assert {row["near_cluster_size"] for _, row in found} == set(sizes)
    for base, row in found:
        factor = FINEWEB_2[row["near_cluster_size"]]
        assert row["upsampling"] == factor
        expected = slow_log_weight(base, parameters["alpha"], 0.0, None) + math.log(factor) - parameters["log_z"]
        assert row["log_prior"] == pytest.approx(expected, abs=1e-12)
    assert math.fsum(math.exp(row["log_prior"]) for _, row in found) == pytest.approx(len(found))


def test_a_table_of_upsampling_is_read_from_yaml(curated: Path, copy_of: Copy, tmp_path: Path) -> None:
    output, table = copy_of(curated), tmp_path / "table.yaml"
    table.write_text("1: 0.5\n3: 2\n")
    with_columns(output, {"exact_copies": lambda n: 1 + n % 4}, {"exact_copies": pa.int64()})
    ended = CliRunner().invoke(app, ["weights", str(output), "--upsampling", str(table)], catch_exceptions=False)
    assert "upsampling ×0.5 from 1 copies, ×2 from 3 copies" in ended.stdout
    found = {row["exact_copies"]: row["upsampling"] for row in rows_of(output, "weights") if row["exact_copies"]}
    assert found == {1: 0.5, 2: 0.5, 3: 2, 4: 2}


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("{2: 1}", r"rising numbers of copies from 1 on, found \[2\]"),
        ("{1: 1, 3: 2, 2: 2}", "rising numbers"),
        ("{1: 0}", "1: expected a finite factor above 0, found 0"),
        ("{1: .nan}", "finite factor"),
        ("{one: 1}", "lines of a number of copies and a factor"),
        ("[1, 2]", "lines of a number"),
        ("{1: 1, 1: 2}", "no valid YAML"),
        (None, "neither fineweb-2 nor a file"),
    ],
)
def test_what_is_no_table_of_upsampling_is_refused(table: str | None, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "table.yaml"
    if table is not None:
        path.write_text(table)
    with pytest.raises(InputError, match=reason):
        Upsampling.of(str(path))


def test_upsampling_needs_counted_copies(curated: Path, copy_of: Copy) -> None:
    with pytest.raises(InputError, match="the run counted no copies"):
        write_weights(copy_of(curated), upsampling={1: 1, 2: 2})


def test_with_gamma_one_weights_are_softdedups(curated: Path, copy_of: Copy) -> None:
    """1 / commonness, which is the geometric mean of a token's probability: the perplexity, in relation to its mean."""
    output = copy_of(curated)
    commonness: list[float | None] = [0.01 * 1.3 ** (n % 12) if n % 7 else None for n in range(180)]
    with_columns(
        output,
        {"perplexity": lambda n: None if commonness[n] is None else 1 / commonness[n]},  # type: ignore[operator]
        {"perplexity": pa.float64()},
    )
    metadata = write_weights(output, alpha=0.0, gamma=1.0, perplexity="perplexity").metadata
    found = rows_of(output, "weights")
    kept = [(row, p) for row, p in zip(found, commonness, strict=True) if row["log_prior"] is not None]
    known = [p for _, p in kept if p is not None]
    typical = math.prod(p ** (1 / len(known)) for p in known)
    assert metadata["parameters"]["typical_perplexity"] == pytest.approx(1 / typical, rel=1e-12)
    assert metadata["summary"]["documents_without_perplexity"] == len(kept) - len(known) > 0
    raw = [1.0 if p is None else min(max(typical / p, 1 / 4), 4) for _, p in kept]
    assert len({round(weight, 6) for weight in raw}) > 8  # they are not all at the bound
    mean = math.fsum(raw) / len(raw)
    assert [math.exp(row["log_prior"]) for row, _ in kept] == pytest.approx([w / mean for w in raw], rel=1e-12)
    assert [row["perplexity"] for row, _ in kept] == pytest.approx([None if p is None else 1 / p for _, p in kept])
    write_weights(output, layer="brought", perplexity="perplexity")  # a factor, without a part in the weight
    write_weights(output, layer="none")
    priors = [[row["log_prior"] for row in rows_of(output, layer)] for layer in ("brought", "none")]
    assert priors[0] == priors[1]


def test_the_command_says_what_perplexity_did(curated: Path, copy_of: Copy) -> None:
    output = copy_of(curated)
    with_columns(output, {"surprise": lambda n: None if n % 2 else 5.0 + n}, {"surprise": pa.float64()})
    options = ["--alpha", "0", "--gamma", "1", "--perplexity", "surprise"]
    ended = CliRunner().invoke(app, ["weights", str(output), *options], catch_exceptions=False)
    assert ended.exit_code == 0
    assert "with       alpha 0, beta 0, gamma 1, perplexity surprise, log_z " in ended.output
    without = sum(row["perplexity"] is None and row["log_prior"] is not None for row in rows_of(output, "weights"))
    assert f"no perplexity {without} documents, counted as neither common nor rare\n" in ended.output


def test_a_perplexity_that_no_document_has_changes_nothing(curated: Path, copy_of: Copy) -> None:
    output = copy_of(curated)
    with_columns(output, {"perplexity": lambda n: None}, {"perplexity": pa.float64()})
    metadata = write_weights(output, gamma=1.0, perplexity="perplexity").metadata
    assert metadata["parameters"]["typical_perplexity"] is None
    check_against_oracle(output, 0.5, 0.0, None)


@pytest.mark.parametrize("value", [0.0, -3.0, math.inf])
def test_what_is_no_perplexity_is_refused(value: float, curated: Path, copy_of: Copy) -> None:
    output = copy_of(curated)
    with_columns(output, {"perplexity": lambda n: value if n % 2 else 50.0}, {"perplexity": pa.float64()})
    with pytest.raises(InputError, match="perplexity='perplexity': expected finite numbers above 0, found"):
        write_weights(output, perplexity="perplexity")


def test_factors_are_columns_of_their_own(released: Path) -> None:
    base, found = rows_of(released, "base"), rows_of(released, "weights")
    assert {row["category"] for row in found} == {None, *(r["prose_label"] for r in base if r["status"] == "kept")}
    odds = [
        (row["quality_log_odds"], base_row["prose"])
        for row, base_row in zip(found, base, strict=True)
        if row["log_prior"]
    ]
    assert all(value == pytest.approx(math.log(p / (1 - p)), abs=1e-6) for value, p in odds if 1e-6 < p < 1 - 1e-6)
    assert {row["exact_copies"] for row in found} == {None, 1}


def test_metadata_and_footers_say_how(released: Path) -> None:
    metadata = json.loads((released / "_gneiss/layers/weights.json").read_text())
    assert metadata["annotator"] == "weights"
    assert metadata["parameters"]["beta"] == 0.25
    assert metadata["parameters"]["formula"].startswith("log_prior = clip(")
    assert metadata["columns"]["log_prior"]["type"] == "double"
    assert sum(count for _, _, count in metadata["summary"]["log_prior_histogram"]) == metadata["summary"]["documents"]
    footer = pq.read_metadata(released / "annotations/weights/a.parquet").metadata[LAYER_KEY.encode()]
    assert json.loads(footer) == {name: value for name, value in metadata.items() if name != "summary"}
    values = sorted(math.exp(r["log_prior"]) for r in rows_of(released, "weights") if r["log_prior"] is not None)
    for share, name in ((0.0, "p0"), (0.01, "p1"), (0.05, "p5"), (0.25, "p25"), (0.5, "p50"), (0.95, "p95")):
        exact = values[max(math.ceil(share * len(values)), 1) - 1]
        assert metadata["summary"]["weight_quantiles"][name] == pytest.approx(exact, rel=0.025)
    assert values[-1] <= metadata["summary"]["largest_weight_below"] * (1 + 1e-12)


@pytest.mark.parametrize("count", [1, 2, 300])
def test_quantiles_are_of_the_weights_however_few_they_are(count: int, tmp_path: Path) -> None:
    recipe = Recipe.parse("name: plain\nphases: [{name: only, rules: {sane: text_chars >= 0}}]\n")
    write_documents(tmp_path / "in/a.parquet", [f"text {i}" for i in range(count)])
    run(recipe, tmp_path / "in", tmp_path / "out", backend=runs.InThisProcess())
    quantiles = write_weights(tmp_path / "out").metadata["summary"]["weight_quantiles"]
    assert set(quantiles) == {"p0", "p1", "p5", "p25", "p50", "p75", "p95", "p99"}
    assert all(value == pytest.approx(1, rel=0.025) for value in quantiles.values())


def test_portions_do_not_show(released: Path, curated: Path, copy_of: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    output = copy_of(curated)
    monkeypatch.setattr(annotation_tables, "BATCH_ROWS", 7)
    write_weights(output, beta=0.25, quality="prose", category="prose_label")
    assert runs.promised(output) == runs.promised(released)


def test_the_same_call_again_says_that_it_is_there(released: Path) -> None:
    before = runs.touched(released)
    again = write_weights(released, beta=0.25, quality="prose", category="prose_label")
    assert again.was_there
    assert runs.touched(released) == before


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"quality": "proze"}, "no annotation 'proze'; did you mean 'prose'"),
        ({"category": "nothing_like_it"}, "category: no annotation 'nothing_like_it'"),
        ({"category": "failed"}, "expected strings, found lists"),
        ({"quality": "words"}, "expected probabilities, found a column of int64"),
        ({"quality": "eflaw", "layer": "w2"}, "expected probabilities, found"),
        ({"beta": 1.0}, "beta=1.0 needs quality"),
        ({"gamma": 1.0}, "gamma=1.0 needs perplexity"),
        ({"perplexity": "words"}, "perplexity='words': expected perplexities, found a column of int64"),
        ({"perplexity": "perplexed"}, "perplexity: no annotation 'perplexed'"),
        ({"alpha": float("nan")}, "expected a finite number"),
        ({"layer": "base"}, "not `base`"),
        ({"layer": "Weights!"}, "lower-case name"),
    ],
)
def test_unfit_options_are_refused(given: dict[str, Any], message: str, released: Path) -> None:
    before = runs.touched(released)
    with pytest.raises(GneissError, match=message):
        write_weights(released, **given)
    assert runs.touched(released) == before


def test_other_parameters_need_another_layer(released: Path, copy_of: Copy) -> None:
    output = copy_of(released)
    with pytest.raises(OutputError, match=r"another beta, quality, category.*another layer name"):
        write_weights(output, alpha=0.5)
    write_weights(output, layer="flat", alpha=0.0)
    assert {row["log_prior"] for row in rows_of(output, "flat")} == {None, 0.0}
    assert rows_of(output, "weights") == rows_of(released, "weights")


def test_an_unfinished_run_is_refused(curated: Path, copy_of: Copy, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"statistics.json: no finished run here"):
        write_weights(tmp_path)
    for missing in ("annotations/base/a.parquet", "_gneiss/statistics.json"):
        output = copy_of(curated)
        (output / missing).unlink()
        with pytest.raises(InputError, match="finish"):
            write_weights(output)
        assert not (output / "annotations/weights").exists()


def test_a_shard_that_has_other_rows_than_its_footer_says_is_refused(curated: Path, copy_of: Copy) -> None:
    output = copy_of(curated)
    path = output / "annotations/base/a.parquet"
    table = pq.read_table(path)
    pq.write_table(table.slice(1).replace_schema_metadata(table.schema.metadata), path)
    with pytest.raises(InputError, match=r"a.parquet: expected \d+ rows, .* damaged"):
        write_weights(output)


def release_until(number: int, output: Path) -> None:
    """A release that is killed at its n-th event."""
    with killed_at(number):
        write_weights(output)


@pytest.mark.processes
@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_a_killed_release_is_completed_and_no_file_is_written_twice(every: int, curated: Path, copy_of: Copy) -> None:
    whole = copy_of(curated)
    write_weights(whole)
    expected = runs.promised(whole)
    shards = len(open_run(whole).shards)
    context = get_context("fork")
    for number in range(1, 3 * shards + 3, every):  # a row group, aside, renamed for each shard; two for the metadata
        output = copy_of(curated)
        process = context.Process(target=release_until, args=(number, output))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        before = {name: state for name, state in runs.touched(output).items() if not name.endswith(".part")}
        if not (output / "_gneiss/layers/weights.json").exists() and (output / "annotations/weights").exists():
            there = list((output / "annotations/weights").rglob("[!.]*.parquet"))
            if there:
                with pytest.raises(OutputError, match="finish it as it was begun"):
                    write_weights(output, alpha=0.25)
        write_weights(output)
        assert runs.promised(output) == expected
        after = runs.touched(output)
        assert {name: after[name] for name in before} == before
        shutil.rmtree(output)
    release_until(NEVER, copy_of(curated))


@given(
    copies=st.lists(st.floats(0, 1e12), max_size=20),
    odds=st.lists(st.one_of(st.floats(-20, 20), st.just(math.nan)), max_size=20),
    rarity=st.lists(st.one_of(st.floats(-9, 9), st.just(math.nan)), max_size=20),
    powers=st.tuples(*[st.floats(-3, 3)] * 3),
)
def test_the_kernel_against_the_formula(
    copies: Sequence[float], odds: Sequence[float], rarity: Sequence[float], powers: tuple[float, float, float]
) -> None:
    n = min(len(copies), len(odds), len(rarity))
    columns = [np.array(column[:n], np.float64) for column in (copies, odds, rarity)]
    found = weights._log_weights(*columns, powers, math.log(4))
    alpha, beta, gamma = powers
    for value, c, o, p in zip(found, copies, odds, rarity, strict=False):
        raw = -alpha * math.log1p(c) + (0.0 if math.isnan(o) else beta * o) + (0.0 if math.isnan(p) else gamma * p)
        assert value == pytest.approx(min(max(raw, -math.log(4)), math.log(4)), abs=1e-13)
