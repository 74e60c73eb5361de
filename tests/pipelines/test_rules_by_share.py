"""Rules by share in a run: their numbers against SQL over its annotations, and the same bytes however it runs."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from typer.testing import CliRunner

import gneiss
from gneiss.cli.main import app
from gneiss.errors import OutputError, RecipeError
from gneiss.filters.tokens import Tokens
from gneiss.jobs import job
from gneiss.mixture.thresholds import resolved
from gneiss.output import ledger
from gneiss.output.claim import Share
from gneiss.output.finished_run import FinishedRun, open_run
from gneiss.pipelines import adding_up
from gneiss.pipelines import run as run_module
from gneiss.pipelines.run import RunOptions, run_share
from gneiss.recipe.recipe import Recipe
from gneiss.stages import of_recipe
from gneiss.stages.exchange import Exchange
from gneiss.store.place import place_of
from tests import runs

HERE = runs.InThisProcess()
RECIPE = """
name: by-share
shard_max_bytes: 14000
budgets: {documents: 0.5, shards: 1}
phases:
  - name: first
    annotate: [tokens, readability, input_column: {name: topic, type: string}]
    rules:
      enough: text_bytes > 20
      plain: {lowest: 0.7, score: eflaw, by: [topic]}
      packed: {highest: 0.9, score: tokens_per_byte}
    keep: enough AND (plain OR packed)
  - name: second
    near_duplicates: {}
    dedup: {min_length: 60, scope: corpus}
    annotate: [input_column: {name: score, type: float64}]
    rules: {best: {highest: 0.5, score: score}}
  - name: third
    rules: {short: {lowest: 0.8, score: text_bytes}}
"""
LIGHT = """
name: by-share
shard_max_bytes: 14000
budgets: {documents: 0.5, shards: 1}
phases:
  - name: first
    annotate: [tokens, input_column: {name: topic, type: string}]
    rules: {even: {highest: 0.7, score: tokens_per_byte, by: [topic]}, long: {highest: 0.9, score: text_bytes}}
    keep: even OR long
  - name: second
    annotate: [input_column: {name: score, type: float64}]
    rules: {best: {highest: 0.5, score: score}}
"""


def write(path: Path, seed: int) -> None:
    """A file of documents with a topic and a score, of which some are null, some NaN and many equal."""
    texts = runs.documents(40, seed=seed)
    scores = [None if i % 11 == 3 else float("nan") if i % 13 == 5 else (i * 7 + seed) % 10 / 10 for i in range(40)]
    topics = [("a", "it's", None)[(i + seed) % 3] for i in range(40)]
    runs.write_corpus(path, texts, topic=topics, score=pa.array(scores, pa.float64()))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files of two shards."""
    folder = tmp_path_factory.mktemp("corpus")
    for seed in range(2):
        write(folder / f"{seed}.parquet", seed)
    return folder


@pytest.fixture(scope="module")
def whole(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the recipe with three phases."""
    output = tmp_path_factory.mktemp("runs") / "whole"
    gneiss.run(Recipe.parse(RECIPE), corpus, output, backend=HERE)
    return output


def within(table: pa.Table, score: str, by: str, share: float, is_highest: bool) -> set[tuple[str, int]]:
    """The documents within a share of tokens by a score, as SQL finds them."""
    order = "DESC" if is_highest else "ASC"
    with duckdb.connect() as connection:
        connection.register("documents", table)
        found = connection.sql(f"""
            WITH scored AS (SELECT shard, row, tokens, {by} AS category, {score} AS value FROM documents
                            WHERE {score} IS NOT NULL AND NOT isnan({score}::DOUBLE)),
            sums AS (SELECT DISTINCT category, value,
                         sum(tokens) OVER (PARTITION BY category ORDER BY value {order}
                                           RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS within,
                         sum(tokens) OVER (PARTITION BY category) AS total FROM scored),
            ends AS (SELECT category, arg_min(value, (abs(within - {share} * total), within)) AS last
                     FROM sums GROUP BY ALL)
            SELECT shard, row FROM scored JOIN ends ON scored.category IS NOT DISTINCT FROM ends.category
            WHERE value {">=" if is_highest else "<="} last""")
        return set(found.fetchall())


def documents(output: Path) -> pa.Table:
    """The annotations of all usable documents, with their shard."""
    run = open_run(output)
    tables = [
        table.append_column("shard", pa.array([shard.id] * len(table)))
        for shard in run.shards
        for _, table in run.batches(shard)
    ]
    table = pa.concat_tables(tables)
    return table.filter(pc.not_equal(table["status"], "quarantined"))


def true_for(table: pa.Table, rule: str) -> set[tuple[str, int]]:
    """The documents that a rule is true for."""
    rows = zip(table["shard"].to_pylist(), table["row"].to_pylist(), table["failed"].to_pylist(), strict=True)
    return {(shard, row) for shard, row, failed in rows if rule not in failed}


@pytest.mark.slow
def test_numbers_are_what_sql_finds_over_the_documents_that_enter_the_phase(whole: Path) -> None:
    table = documents(whole)
    assert true_for(table, "plain") == within(table, "eflaw", "topic", 0.7, False)
    assert true_for(table, "packed") == within(table, "tokens_per_byte", "1", 0.9, True)
    second = table.filter(pc.fill_null(pc.not_equal(table["dropped_in"], "first"), True))
    assert 0 < second.num_rows < table.num_rows
    assert true_for(second, "best") == within(second, "score", "1", 0.5, True)
    third = second.filter(pc.fill_null(pc.not_equal(second["dropped_in"], "second"), True))
    assert 0 < third.num_rows < second.num_rows
    assert true_for(third, "short") == within(third, "text_bytes", "1", 0.8, False)


@pytest.fixture(scope="module")
def light(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the recipe with two phases."""
    output = tmp_path_factory.mktemp("runs") / "light"
    gneiss.run(Recipe.parse(LIGHT), corpus, output, backend=HERE)
    return output


@pytest.mark.slow
def test_the_output_holds_a_recipe_with_the_numbers_which_runs_without_shares(
    corpus: Path, light: Path, tmp_path: Path
) -> None:
    stored = open_run(light).recipe
    assert not stored.shares
    assert stored.conditions["best"] == '/* highest 0.5 of tokens by score */ "score" >= 0.5e0'
    assert stored.digest() in (light / "README.md").read_text()
    gneiss.run(stored, corpus, tmp_path / "absolute", backend=HERE)
    assert runs.promised(tmp_path / "absolute") == runs.promised(light)
    before = runs.touched(light)
    assert gneiss.run(Recipe.parse(LIGHT), corpus, light, backend=HERE).finished_before == len(open_run(light).shards)
    assert {name for name, at in runs.touched(light).items() if before.get(name) != at} <= {"_gneiss/lock"}


@pytest.mark.slow
def test_steps_of_later_phases_see_what_the_numbers_keep(corpus: Path, whole: Path, tmp_path: Path) -> None:
    gneiss.run(open_run(whole).recipe, corpus, tmp_path / "absolute", backend=HERE)
    assert runs.promised(tmp_path / "absolute") == runs.promised(whole)


@pytest.mark.slow
@pytest.mark.parametrize("text", [LIGHT, RECIPE], ids=["light", "whole"])
def test_decide_finds_the_same_numbers_in_a_finished_run(
    text: str, light: Path, whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = light if text == LIGHT else whole
    for source in (run, light):
        decided = tmp_path / source.name
        gneiss.decide(Recipe.parse(text), source, decided, backend=HERE)
        assert runs.promised(decided) == runs.promised(run)


@pytest.mark.slow
def test_annotations_are_computed_once(corpus: Path, light: Path, tmp_path: Path) -> None:
    computed: list[int] = []
    of_tokens = Tokens.load

    def counting(self: Tokens, files: Any) -> Any:
        compute = of_tokens(self, files)

        def counted(batch: Any) -> Any:
            computed.append(len(batch))
            return compute(batch)

        return counted

    with mock.patch.object(Tokens, "load", counting):
        gneiss.run(Recipe.parse(LIGHT), corpus, tmp_path / "again", backend=HERE)
    assert sum(computed) == documents(light).num_rows
    assert runs.promised(tmp_path / "again") == runs.promised(light)


@pytest.mark.slow
def test_sketches_of_many_shards_are_added_up_in_groups(corpus: Path, light: Path, tmp_path: Path) -> None:
    with mock.patch.object(of_recipe, "GROUP_FILES", 2):
        gneiss.run(Recipe.parse(LIGHT), corpus, tmp_path / "groups", backend=HERE)
    assert runs.promised(tmp_path / "groups") == runs.promised(light)
    stages = {entry.stage for entry in ledger.entries(place_of(tmp_path / "groups"))}
    assert {"sums_of_first", "thresholds_of_first", "sums_of_second"} <= stages


@pytest.mark.slow
def test_numbers_do_not_depend_on_how_the_input_is_cut(corpus: Path, light: Path, tmp_path: Path) -> None:
    found = gneiss.run(
        Recipe.parse(LIGHT).changed({"shard_max_bytes": 1_000_000}), corpus, tmp_path / "out", backend=HERE
    )
    assert found.recipe.conditions == open_run(light).recipe.conditions
    assert found.documents == open_run(light).documents


@pytest.mark.slow
@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_a_run_that_was_ended_in_any_stage_resumes(every: int, corpus: Path, light: Path, tmp_path: Path) -> None:
    recipe, writes = Recipe.parse(LIGHT), 0
    while ends(recipe, corpus, tmp_path / f"{writes}", writes):
        gneiss.run(recipe, corpus, tmp_path / f"{writes}", backend=HERE)
        assert runs.promised(tmp_path / f"{writes}") == runs.promised(light), writes
        writes += every
    assert writes > 4 * len(open_run(light).shards)


def ends(recipe: Recipe, corpus: Path, output: Path, writes: int) -> bool:
    """Whether a run ends that may write so many files of stages, and then no more."""
    write, left = Exchange._write, [writes]

    def failing(self: Exchange, *arguments: Any) -> Any:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return write(self, *arguments)

    with mock.patch.object(Exchange, "_write", failing):
        try:
            gneiss.run(recipe, corpus, output, backend=HERE)
        except KeyboardInterrupt:
            return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize("file", ["_gneiss/statistics.json", "README.md", "_gneiss/recipe.yaml"])
def test_a_run_that_was_ended_at_its_end_resumes(file: str, corpus: Path, light: Path, tmp_path: Path) -> None:
    recipe, write = Recipe.parse(LIGHT), run_module.write_bytes

    def failing(content: bytes, root: Any, path: str) -> Any:
        if path == file:
            raise KeyboardInterrupt
        return write(content, root, path)

    added_up = mock.patch.multiple(adding_up, write_bytes=failing, write_new=failing)
    with added_up, mock.patch.object(run_module, "write_bytes", failing), pytest.raises(KeyboardInterrupt):
        gneiss.run(recipe, corpus, tmp_path / "out", backend=HERE)
    gneiss.run(recipe, corpus, tmp_path / "out", backend=HERE)
    assert runs.promised(tmp_path / "out") == runs.promised(light)


@pytest.mark.slow
@pytest.mark.parametrize("of", [1, 3])
def test_drivers_of_shares_wait_for_the_numbers(of: int, corpus: Path, light: Path, tmp_path: Path) -> None:
    def share(task: int) -> Any:
        return run_share(Recipe.parse(LIGHT), corpus, tmp_path / "shared", Share(task, of), RunOptions(backend=HERE))

    with mock.patch.object(job, "LOOK_SECONDS", 0.02), ThreadPoolExecutor(of) as pool:
        assert any(pool.map(share, range(of)))
    assert runs.promised(tmp_path / "shared") == runs.promised(light)


@pytest.mark.processes
def test_worker_processes_change_no_byte(corpus: Path, light: Path, tmp_path: Path) -> None:
    gneiss.run(Recipe.parse(LIGHT), corpus, tmp_path / "out", workers=2, backend="local")
    assert runs.promised(tmp_path / "out") == runs.promised(light)


@pytest.mark.slow
def test_new_shards_of_a_finished_output_are_decided_by_its_numbers(corpus: Path, light: Path, tmp_path: Path) -> None:
    grown, output = tmp_path / "input", tmp_path / "out"
    shutil.copytree(corpus, grown)
    shutil.copytree(light, output)
    before = runs.promised(output)
    write(grown / "new.parquet", 7)
    run = gneiss.run(Recipe.parse(LIGHT), grown, output, backend=HERE)
    assert {name: runs.promised(output)[name] for name in before if name.startswith(("data/", "annotations/"))} == {
        name: checksum for name, checksum in before.items() if name.startswith(("data/", "annotations/"))
    }
    assert run.recipe.conditions == open_run(light).recipe.conditions
    gneiss.run(run.recipe, grown, tmp_path / "absolute", backend=HERE)
    assert runs.promised(tmp_path / "absolute") == runs.promised(output)
    assert gneiss.run(Recipe.parse(LIGHT), grown, output, backend=HERE).finished_before == len(run.shards)


def test_new_shards_of_an_output_without_numbers_are_refused(corpus: Path, tmp_path: Path) -> None:
    grown = tmp_path / "input"
    shutil.copytree(corpus, grown)
    with mock.patch.object(of_recipe, "thresholds_of", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        gneiss.run(Recipe.parse(LIGHT), grown, tmp_path / "out", backend=HERE)
    write(grown / "new.parquet", 7)
    with pytest.raises(OutputError, match="its rules by share have no numbers yet; run with the input that it had"):
        gneiss.run(Recipe.parse(LIGHT), grown, tmp_path / "out", backend=HERE)


@pytest.mark.slow
def test_a_shard_that_cannot_be_read_has_no_share(corpus: Path, tmp_path: Path) -> None:
    damaged, without = tmp_path / "damaged", tmp_path / "without"
    shutil.copytree(corpus, damaged)
    shutil.copytree(corpus, without)
    recipe = Recipe.parse(LIGHT).changed({"shard_max_bytes": 1_000_000})
    content = bytearray((damaged / "1.parquet").read_bytes())
    content[200:400] = bytes(200)
    (damaged / "1.parquet").write_bytes(content)
    (without / "1.parquet").unlink()
    found = gneiss.run(recipe, damaged, tmp_path / "out", backend=HERE)
    assert list(found.quarantined_shards) == ["1"]
    assert found.recipe.conditions == gneiss.run(recipe, without, tmp_path / "two", backend=HERE).recipe.conditions
    again = gneiss.run(recipe, damaged, tmp_path / "out", backend=HERE)
    assert (again.finished_before, again.documents) == (1, found.documents)


@pytest.mark.slow
def test_a_laid_out_run_has_the_numbers(corpus: Path, light: Path, tmp_path: Path) -> None:
    recipe = Recipe.parse(LIGHT).changed({"output.shard_bytes": 20_000})
    for _ in range(2):
        found = gneiss.run(recipe, corpus, tmp_path / "out", backend=HERE)
        assert found.recipe.conditions == open_run(light).recipe.conditions
        assert found.documents == open_run(light).documents


def of_one_phase(corpus: Path, output: Path, rule: str, annotate: str = "tokens") -> FinishedRun:
    """A run of a recipe with one rule."""
    phase = f"{{name: only, annotate: [{annotate}], rules: {{rule: {rule}}}}}"
    text = f"{{name: one, budgets: {{documents: 0.5}}, phases: [{phase}]}}"
    return gneiss.run(Recipe.parse(text), corpus, output, backend=HERE)


@pytest.mark.slow
def test_scores_that_are_missing_or_all_the_same(tmp_path: Path) -> None:
    texts = runs.documents(20, seed=2)
    columns = {"none": pa.nulls(20, pa.float64()), "nan": [float("nan")] * 20, "flat": [0.5] * 20}
    runs.write_corpus(tmp_path / "in/0.parquet", texts, **columns)
    for name in columns:
        annotate = f"tokens, input_column: {{name: {name}, type: float64}}"
        found = of_one_phase(tmp_path / "in", tmp_path / name, f"{{highest: 0.1, score: {name}}}", annotate)
        condition = found.recipe.conditions["rule"]
        if name == "flat":
            assert (condition, found.documents) == ('/* highest 0.1 of tokens by flat */ "flat" IS NOT NULL', 20)
        else:
            assert condition == f"/* highest 0.1 of tokens by {name}, which no document has */ false"
            assert found.documents == 0


def test_an_input_without_documents_has_numbers_that_keep_none(tmp_path: Path) -> None:
    runs.write_corpus(tmp_path / "in/0.parquet", [])
    found = of_one_phase(tmp_path / "in", tmp_path / "out", "{lowest: 0.5, score: text_bytes}")
    assert found.recipe.conditions["rule"].endswith("which no document has */ false")
    assert of_one_phase(tmp_path / "in", tmp_path / "out", "{lowest: 0.5, score: text_bytes}").finished_before == 1


@pytest.mark.slow
def test_a_rule_of_a_filter_and_an_alias_can_be_shares(corpus: Path, tmp_path: Path) -> None:
    text = """
name: others
budgets: {documents: 0.5}
phases:
  - name: only
    annotate: [tokens]
    aliases: {size: text_bytes}
    filters: [fineweb: {rules: {fineweb_long_lines: {lowest: 0.5, score: size}}}]
    keep: fineweb_long_lines
"""
    found = gneiss.run(Recipe.parse(text), corpus, tmp_path / "out", backend=HERE)
    condition = found.recipe.conditions["fineweb_long_lines"]
    assert condition.startswith('/* lowest 0.5 of tokens by size */ "size" < ')
    table = documents(tmp_path / "out")
    assert true_for(table, "fineweb_long_lines") == within(table, "text_bytes", "1", 0.5, False)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("{highest: 0, score: text_bytes}", "greater than 0"),
        ("{highest: 1, score: text_bytes}", "less than 1"),
        ("{highest: 0.5, score: text_byte}", "text_byte"),
        ("{highest: 0.5, score: topic}", "'topic': expected a number, found string"),
        ("{highest: 0.5, score: text_bytes, by: [tokens_per_byte]}", "expected a string, a whole number or a flag"),
        ("{highest: 0.5, score: later}", "later"),
    ],
)
def test_a_share_that_cannot_be_found_is_refused_before_the_run(rule: str, message: str) -> None:
    text = f"""
name: refused
phases:
  - name: only
    annotate: [tokens, input_column: {{name: topic, type: string}}]
    rules: {{rule: {rule}}}
  - name: next
    annotate: [input_column: {{name: later, type: int64}}]
"""
    with pytest.raises(RecipeError, match=message):
        Recipe.parse(text)


def test_what_counts_no_tokens_or_names_shares_apart_is_refused() -> None:
    phase: dict[str, Any] = {"name": "only", "rules": {"rule": {"highest": 0.5, "score": "text_bytes"}}}
    with pytest.raises(RecipeError, match=r"rule 'rule': highest 0\.5 .*nothing counts tokens by then; annotate"):
        Recipe.model_validate({"name": "none", "phases": [phase, {"name": "next", "annotate": ["tokens"]}]})
    with pytest.raises(RecipeError, match="shares: write each in place of the condition of its rule"):
        Recipe.model_validate({"name": "none", "phases": [{**phase, "shares": {}}]})


def test_too_many_categories_end_the_run_by_name(corpus: Path, tmp_path: Path) -> None:
    rule = "{highest: 0.5, score: text_bytes, by: [topic]}"
    few = mock.patch("gneiss.recipe.limits.MOST_CATEGORIES", 2)
    with few, pytest.raises(RecipeError, match=r"within topic: 3 categories; at most 2 are allowed"):
        of_one_phase(corpus, tmp_path / "out", rule, "tokens, input_column: {name: topic, type: string}")


def test_a_recipe_keeps_its_shares_when_written_and_changed() -> None:
    recipe = Recipe.parse(LIGHT)
    assert Recipe.parse(recipe.to_yaml()).shares == recipe.shares
    assert Recipe.parse(recipe.to_yaml()).digest() == recipe.digest()
    changed = recipe.changed({"phases.second.rules.best": {"lowest": 0.2, "score": "score"}})
    assert str(changed.shares["best"]) == "lowest 0.2 of tokens by score"
    assert list(changed.phases[0].rules) == ["even", "long"]
    assert not recipe.changed({"phases.second.rules.best": "score > 0.5"}).phases[1].shares
    with pytest.raises(
        RecipeError, match="its number is found by `gneiss run`, or, in a finished run, by `gneiss explain`"
    ):
        recipe.phases[1].decision  # noqa: B018 - it raises


@pytest.mark.slow
def test_a_dry_run_finds_the_numbers_within_its_file(corpus: Path, tmp_path: Path) -> None:
    dry = gneiss.dry_run(Recipe.parse(LIGHT), corpus / "0.parquet")
    found = gneiss.run(Recipe.parse(LIGHT), corpus / "0.parquet", tmp_path / "out", backend=HERE)
    assert dry.recipe.conditions == found.recipe.conditions
    assert dry.statistics.counts == found.statistics.counts
    path = tmp_path / "light.yaml"
    path.write_text(LIGHT)
    shown = CliRunner().invoke(app, ["dry-run", str(path), "--input", str(corpus / "0.parquet")])
    assert "shares of tokens refer to the rows read here: a run computes other thresholds" in " ".join(
        shown.output.split()
    )


def test_explain_shows_the_numbers_of_the_output(light: Path, tmp_path: Path) -> None:
    path = tmp_path / "light.yaml"
    path.write_text(LIGHT)
    before = CliRunner().invoke(app, ["explain", str(path)])
    assert "rule      best: highest 0.5 of tokens by score, as a run finds it" in before.output
    number = 'rule      best: /* highest 0.5 of tokens by score */ "score" >= 0.5e0'
    for given in ([str(path)], []):
        shown = CliRunner().invoke(app, ["explain", *given, "--input", str(light)])
        assert number in shown.output
    run = open_run(light)
    other = Recipe.parse(LIGHT.replace("by-share", "other"))
    assert resolved(other, run).conditions == run.recipe.conditions


@pytest.mark.slow
def test_an_estimate_has_the_stages(corpus: Path) -> None:
    found = gneiss.estimate(Recipe.parse(LIGHT), corpus, shards=2, backend=HERE)
    assert {"phases_to_first+scores_of_first", "thresholds_of_first"} <= {stage.name for stage in found.stages}
