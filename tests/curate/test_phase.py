"""Phases: a failing annotator costs its document alone, and dropped documents take no part in what follows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest

from gneiss.annotation import Annotate, Column
from gneiss.batch import TextBatch
from gneiss.curate.curate import Curated, curate
from gneiss.curate.loaded_models import LoadedModels, PhaseModels, load_models
from gneiss.edit import Edited, Edits
from gneiss.errors import InputError, ModelError
from gneiss.filters.readability import Readability
from gneiss.input.plan import make_plan
from gneiss.recipe.recipe import Recipe
from gneiss.recipe.rule import locked_connection
from tests.support import recipe_of, shard_of, write_documents

READABLE = "- {name: only, annotate: [readability], rules: {readable: eflaw < 30}}"
TEXTS = ["A first short text.", "This one goes boom.", "", "And one more text.", None]


def curate_breaking(path: Path, breaks: Callable[[TextBatch, Annotate], Mapping[str, pa.Array]]) -> Curated:
    """Curate TEXTS with a readability annotator that does what `breaks` says."""
    recipe = recipe_of(READABLE)
    (phase,) = load_models(recipe).phases
    ((_, compute),) = phase.annotators
    broken = (Readability(), lambda batch: breaks(batch, compute))
    return curate(shard_of(path, TEXTS), recipe, LoadedModels((PhaseModels((broken,)),), locked_connection()))


def explode(error: BaseException) -> Callable[[TextBatch, Annotate], Mapping[str, pa.Array]]:
    def compute(batch: TextBatch, annotate: Annotate) -> Mapping[str, pa.Array]:
        if any("boom" in text for text in batch.texts()):
            raise error
        return annotate(batch)

    return compute


def test_a_document_that_an_annotator_fails_on_is_quarantined_alone(tmp_path: Path) -> None:
    found = curate_breaking(tmp_path / "a.parquet", explode(ValueError("cannot read boom\nsecond line")))
    rows = found.annotations.to_pylist()
    assert [row["status"] for row in rows] == ["kept", "quarantined", "kept", "kept", "quarantined"]
    assert rows[1]["reason"] == "readability failed: ValueError"
    assert rows[4]["reason"] == "null text"
    for name in ("eflaw", "words", "text_bytes", "content_hash", "dropped_in"):
        assert rows[1][name] is None
    assert rows[1]["failed"] == rows[1]["decisive"] == []
    whole = curate(shard_of(tmp_path / "b.parquet", TEXTS), recipe_of(READABLE), load_models(recipe_of(READABLE)))
    others = [0, 2, 3]
    assert found.annotations.take(others).equals(whole.annotations.take(others)), "the others are as ever"
    assert found.statistics.counts["quarantined"] == 2
    assert found.unusable == {1: "readability failed: ValueError", 4: "null text"}


def test_an_answer_of_the_wrong_length_is_a_failure(tmp_path: Path) -> None:
    def compute(batch: TextBatch, annotate: Annotate) -> Mapping[str, pa.Array]:
        computed = dict(annotate(batch))
        if any("boom" in text for text in batch.texts()):
            computed["eflaw"] = pa.array([1.0] * (len(batch) + 1))
        return computed

    found = curate_breaking(tmp_path / "a.parquet", compute)
    assert found.annotations["reason"].to_pylist()[1] == "readability failed: ValueError"


@pytest.mark.parametrize("kind", [ModelError, KeyboardInterrupt])
def test_what_concerns_the_worker_is_no_fault_of_a_document(tmp_path: Path, kind: type[BaseException]) -> None:
    with pytest.raises(kind):
        curate_breaking(tmp_path / "a.parquet", explode(kind("the model is gone")))


def test_a_document_that_fails_in_a_later_phase_loses_what_was_decided_before(tmp_path: Path) -> None:
    recipe = recipe_of(
        "- {name: first, rules: {short: text_chars < 18}, keep: short OR NOT short}\n"
        "- {name: second, annotate: [readability], rules: {readable: eflaw < 30}}"
    )
    tools = load_models(recipe)
    ((_, compute),) = tools.phases[1].annotators
    broken = PhaseModels(((Readability(), lambda batch: explode(OSError("boom"))(batch, compute)),))
    found = curate(
        shard_of(tmp_path / "a.parquet", TEXTS), recipe, LoadedModels((tools.phases[0], broken), tools.connection)
    )
    row = found.annotations.to_pylist()[1]
    assert (row["status"], row["failed"], row["text_chars"]) == ("quarantined", [], None)
    counts = found.statistics.counts
    assert counts["rows"] == counts["kept"] + counts["dropped"] + counts["quarantined"] == 5


def test_an_annotator_of_another_column_costs_its_document_too(tmp_path: Path) -> None:
    (tmp_path / "blocked.txt").write_text("bad.example\n")
    annotate = f"annotate: [urls: {{domains: [{tmp_path / 'blocked.txt'}]}}]"
    recipe = recipe_of(f"- {{name: only, {annotate}, rules: {{ok: NOT url_domain_listed}}}}", input="{url: address}")
    loaded = load_models(recipe)
    ((urls, compute),) = loaded.phases[0].annotators
    broken = PhaseModels(((urls, lambda batch: explode(OSError("no"))(batch, compute)),))
    addresses = ["https://bad.example/x", "https://boom.example/", None, "https://good.example"]
    shard = shard_of(tmp_path / "a.parquet", list("abcd"), address=addresses)
    found = curate(shard, recipe, LoadedModels((broken,), loaded.connection))
    assert found.unusable == {1: "urls failed: OSError"}
    assert found.annotations["url_domain_listed"].to_pylist() == [True, None, False, False]


# Two phases.

PASSAGE = "a passage of some length that is in two documents"


def two_phases(first_rule: str, second: str) -> Recipe:
    return recipe_of(f"- {{name: first, rules: {{fit: {first_rule}}}}}\n- {{name: second, {second}}}")


def test_a_document_dropped_before_is_no_first_copy(tmp_path: Path) -> None:
    recipe = two_phases("text_chars > 60", "dedup: {min_length: 20}")
    texts = [PASSAGE, f"{PASSAGE} and enough more to be kept", f"What comes before: {PASSAGE}, what comes after"]
    found = curate(shard_of(tmp_path / "a.parquet", texts), recipe, load_models(recipe))
    rows = found.annotations.to_pylist()
    assert [row["dropped_in"] for row in rows] == ["first", None, None]
    assert found.texts.text(0) == texts[1], "the first that reached the phase is whole"
    assert [cut["source_row"] for cut in rows[2]["dedup_cuts"]] == [1]
    assert found.statistics.counts["orphaned_bytes"] == 0


def test_annotations_of_phases_that_were_not_reached_are_null(tmp_path: Path) -> None:
    recipe = two_phases("text_chars > 20", "dedup: {min_length: 20}, annotate: [readability], rules: {r: eflaw < 3}")
    found = curate(shard_of(tmp_path / "a.parquet", ["short", PASSAGE, PASSAGE]), recipe, load_models(recipe))
    rows = found.annotations.to_pylist()
    assert (rows[0]["text_chars"], rows[0]["failed"]) == (5, ["fit"])
    for name in ("eflaw", "words", "dedup_bytes", "dedup_fraction", "dedup_repeated_bytes", "dedup_cuts"):
        assert rows[0][name] is None
        assert rows[1][name] is not None
    assert rows[1]["failed"] == ["r"]
    assert rows[2]["text_chars"] == 0, "of the text as the last phase left it"
    assert rows[2]["dropped_in"] is None, "an empty text has EFLAW 0"


def test_rules_of_a_later_phase_see_annotations_of_an_earlier_one(tmp_path: Path) -> None:
    recipe = recipe_of(
        "- {name: first, annotate: [readability]}\n- {name: second, rules: {few: words < 3}}\n"
        "- {name: third, rules: {one: words < 2}}"
    )
    found = curate(shard_of(tmp_path / "a.parquet", ["a", "a b", "a b c"]), recipe, load_models(recipe))
    assert found.annotations["dropped_in"].to_pylist() == [None, "third", "second"]
    assert found.annotations["failed"].to_pylist() == [[], ["one"], ["few"]]
    assert found.annotations["words"].to_pylist() == [1, 2, 3]
    assert found.statistics.dropped_in == {"first": 0, "second": 1, "third": 1}
    assert found.statistics.patterns == {"first": {"": 3}, "second": {"1": 2, "0": 1}, "third": {"1": 1, "0": 1}}


def test_edits_of_one_phase_are_the_text_of_the_next(tmp_path: Path) -> None:
    recipe = recipe_of(
        "- {name: first, dedup: {min_length: 20}}\n- {name: second, annotate: [readability], rules: {r: words > 0}}"
    )
    found = curate(shard_of(tmp_path / "a.parquet", [PASSAGE, f"Only this. {PASSAGE}"]), recipe, load_models(recipe))
    assert found.annotations["words"].to_pylist() == [10, 2]
    assert found.texts.texts() == [PASSAGE, "Only this. "]
    assert np.array_equal(found.edited, [False, True])


# Editors.


@dataclass(frozen=True)
class Capitals:
    """Replaces every capital, and counts them; breaks on `!`."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """Its one annotation."""
        return (Column("capitals", "int64", "capitals replaced"),)

    def edit(self, batch: TextBatch) -> Edited:
        """One edit a capital."""
        if any("!" in text for text in batch.texts()):
            raise OSError("no exclamations")
        found = [(i, at) for i, text in enumerate(batch.texts()) for at, c in enumerate(text) if c.isupper()]
        document, start = np.array(found, np.int64).reshape(-1, 2).T
        edits = Edits(document, start, start + 1, TextBatch.of(["<>"] * len(found)))
        counts = pa.array(np.bincount(document, minlength=len(batch)))
        return Edited(edits, {"capitals": counts})


def curate_with_capitals(path: Path, texts: list[str | None], phase: str, slices: int = 16_000_000) -> Curated:
    with (
        mock.patch.dict("gneiss.filters.catalogue.EDITORS", {"capitals": Capitals}),
        mock.patch("gneiss.curate.phase.BATCH_BYTES", slices),
    ):
        recipe = recipe_of(phase)
        return curate(shard_of(path, texts), recipe, load_models(recipe))


@pytest.mark.parametrize("slices", [16_000_000, 10])
def test_an_editor_changes_texts_before_they_are_annotated(tmp_path: Path, slices: int) -> None:
    texts = ["One Two", "none", "", None, "THREE", "four! Five"]
    phase = "- {name: only, edit: [capitals], rules: {long: text_bytes > 4}}"
    found = curate_with_capitals(tmp_path / "a.parquet", texts, phase, slices)
    rows = found.annotations.to_pylist()
    assert [row["status"] for row in rows] == ["kept", "dropped", "dropped", "quarantined", "kept", "quarantined"]
    assert rows[5]["reason"] == "capitals failed: OSError"
    assert [row["capitals"] for row in rows] == [2, 0, 0, None, 5, None]
    assert [row["text_bytes"] for row in rows[:3]] == [9, 4, 0]
    assert found.texts.texts() == ["<>ne <>wo", "<>" * 5]
    assert found.edited.tolist() == [True, True]


def test_dedup_goes_before_editors_where_both_would_change_a_byte(tmp_path: Path) -> None:
    passage = "A passage Of some length that is in Two documents"
    phase = "- {name: only, edit: [capitals], dedup: {min_length: 20}}"
    found = curate_with_capitals(tmp_path / "a.parquet", [f"X{passage}", f"Y{passage}Z"], phase)
    assert found.texts.texts() == [f"<>{passage}".replace("A", "<>").replace("O", "<>").replace("T", "<>"), "<><>"]
    rows = found.annotations.to_pylist()
    assert [row["capitals"] for row in rows] == [4, 5], "what an editor would change, whatever dedup has cut"
    assert [row["dedup_bytes"] for row in rows] == [0, len(passage)]


# Inputs beside the text.


def test_an_annotator_may_read_urls_and_a_missing_one_is_an_empty_string(tmp_path: Path) -> None:
    (tmp_path / "blocked.txt").write_text("bad.example\n")
    annotate = f"annotate: [urls: {{domains: [{tmp_path / 'blocked.txt'}]}}]"
    recipe = recipe_of(f"- {{name: only, {annotate}, rules: {{ok: NOT url_domain_listed}}}}", input="{url: address}")
    addresses = ["https://a.bad.example/x", None, "https://good.example"]
    found = curate(shard_of(tmp_path / "a.parquet", ["a", "b", "c"], address=addresses), recipe, load_models(recipe))
    assert found.annotations["url_domain_listed"].to_pylist() == [True, False, False]
    assert found.kept.tolist() == [1, 2]
    with pytest.raises(InputError, match="expected a column 'address'"):
        make_plan(recipe, write_documents(tmp_path / "in" / "a.parquet", ["a"]))
