"""Curate: against an oracle written one document after another, and the promises it makes to every row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from gneiss.curate.curate import Curated, curate
from gneiss.curate.loaded_models import LoadedModels, load_models
from gneiss.input.shard import Shard, cut_shards
from gneiss.recipe.recipe import Recipe
from tests import oracle
from tests.support import recipe_of, shard_of

POLICIES = ("protect", "union", "all")
DEDUP = """
- name: only
  dedup: {min_length: 20}
  rules: {enough: text_bytes >= 10}
"""


def curate_with(recipe: Recipe, shard: Shard, limit: int | None = None) -> Curated:
    return curate(shard, recipe, load_models(recipe), limit)


def shard_of_bytes(path: Path, texts: Sequence[bytes | None]) -> Shard:
    text = pa.array(texts, pa.binary()).view(pa.string())
    pq.write_table(pa.table({"id": [str(i) for i in range(len(texts))], "text": text}), path, row_group_size=3)
    return cut_shards(path, text="text").shards[0]


@pytest.fixture(scope="module")
def oracle_tools() -> dict[str, tuple[Recipe, LoadedModels]]:
    recipes = {policy: recipe_of(oracle.RECIPE.format(policy=policy)) for policy in POLICIES}
    return {policy: (recipe, load_models(recipe)) for policy, recipe in recipes.items()}


# Spans that repeat, single letters, and characters of two and three bytes that share their first bytes.
parts = st.sampled_from(["abcdefgh", "defghij", "aaaaaa", "€€", "é", "èèè", "x", "y", ""])
texts = st.none() | st.lists(parts, max_size=5).map(lambda p: "".join(p).encode()) | st.just(b"\xffabcdefgh")


@given(st.lists(texts, max_size=8), st.sampled_from(POLICIES))
@pytest.mark.slow
def test_a_shard_is_curated_as_one_document_after_another_would_be(
    tmp_path_factory: pytest.TempPathFactory,
    oracle_tools: dict[str, tuple[Recipe, LoadedModels]],
    given_texts: list[bytes | None],
    policy: str,
) -> None:
    recipe, tools = oracle_tools[policy]
    shard = shard_of_bytes(tmp_path_factory.mktemp("curate") / "a.parquet", given_texts)
    found, expected = curate(shard, recipe, tools), oracle.curated(given_texts, policy)
    ids = [str(i) for i in range(len(given_texts))]
    assert found.annotations["id"].to_pylist() == ids
    assert found.annotations.drop_columns("id").to_pylist() == expected.rows
    assert dict(zip(found.kept.tolist(), [text.encode() for text in found.texts.texts()], strict=True)) == expected.kept
    assert dict(zip(found.kept.tolist(), found.edited.tolist(), strict=True)) == expected.edited
    assert dict(found.statistics.counts) == expected.counts
    assert found.unusable == {row["row"]: row["reason"] for row in expected.rows if row["reason"]}
    assert_statistics_agree(found, recipe)
    assert_samples_agree(found, recipe)


def assert_statistics_agree(found: Curated, recipe: Recipe) -> None:
    """The counts are those of the annotation table."""
    rows, statistics = found.annotations.to_pylist(), found.statistics
    for index, phase in enumerate(recipe.phases):
        earlier = {p.name for p in recipe.phases[:index]}
        entered = [r for r in rows if r["status"] != "quarantined" and r["dropped_in"] not in earlier]
        told = statistics.rule_counts(phase.name, phase.rules)
        for rule in phase.rules:
            failed = sum(rule in row["failed"] for row in rows)
            assert told[rule]["false"] + told[rule]["unknown"] == failed
            assert told[rule]["true"] == len(entered) - failed
            assert told[rule]["decisive"] == sum(rule in row["decisive"] for row in rows)
        assert statistics.dropped_in[phase.name] == sum(row["dropped_in"] == phase.name for row in rows)
    for column in recipe.columns:
        assert statistics.columns[column.name].missing == found.annotations[column.name].null_count
        assert statistics.columns[column.name].documents == len(rows) - found.annotations[column.name].null_count


def assert_samples_agree(found: Curated, recipe: Recipe) -> None:
    rows = found.annotations.to_pylist()
    for rule in (rule for phase in recipe.phases for rule in phase.rules):
        failing = {row["content_hash"] for row in rows if rule in row["failed"]}
        decisive = {row["content_hash"] for row in rows if rule in row["decisive"]}
        examples = found.examples[rule]
        assert len(examples) == min(2, len(failing))
        for example in examples:
            row = rows[example["row"]]
            assert rule in row["failed"]
            assert (example["id"], example["content_hash"]) == (row["id"], row["content_hash"].hex())
            assert xxhash.xxh3_128_hexdigest(example["excerpt"].encode()) == example["content_hash"]
            assert example["decisive"] == (rule in row["decisive"])
            assert example["annotations"] == {column.name: row[column.name] for column in recipe.columns}
        assert sum(example["decisive"] for example in examples) == min(2, len(decisive))


@given(st.lists(texts, min_size=1, max_size=8), st.integers(1, 9))
@settings(max_examples=30)
@pytest.mark.slow
def test_a_limit_curates_the_first_rows_as_if_there_were_no_others(
    tmp_path_factory: pytest.TempPathFactory,
    oracle_tools: dict[str, tuple[Recipe, LoadedModels]],
    given_texts: list[bytes | None],
    limit: int,
) -> None:
    recipe, tools = oracle_tools["protect"]
    folder = tmp_path_factory.mktemp("limit")
    limited = curate(shard_of_bytes(folder / "a.parquet", given_texts), recipe, tools, limit)
    alone = curate(shard_of_bytes(folder / "b.parquet", given_texts[:limit]), recipe, tools)
    assert limited.annotations.equals(alone.annotations)
    assert limited.texts.texts() == alone.texts.texts()


def test_the_same_shard_gives_the_same_answer_with_tools_that_were_used_before(
    tmp_path: Path, oracle_tools: dict[str, tuple[Recipe, LoadedModels]]
) -> None:
    recipe, tools = oracle_tools["union"]
    first = shard_of_bytes(tmp_path / "a.parquet", [b"abcdefgh", b"xabcdefgh"])
    other = shard_of_bytes(tmp_path / "b.parquet", [b"abcdefgh"])
    before = curate(first, recipe, tools)
    assert curate(other, recipe, tools).statistics.counts["dedup_bytes"] == 0, "shards know nothing of each other"
    assert curate(first, recipe, tools).annotations.equals(before.annotations)


def test_the_annotation_shard_has_its_columns_in_order_and_typed(tmp_path: Path) -> None:
    recipe = recipe_of("- {name: a, annotate: [readability], dedup: {}, rules: {r: eflaw < 30}}")
    schema = curate_with(recipe, shard_of(tmp_path / "a.parquet", ["Some text."])).annotations.schema
    assert schema.names == [
        *("row", "id", "status", "reason", "dropped_in", "failed", "decisive", "content_hash"),
        *(column.name for column in recipe.columns),
        "dedup_cuts",
    ]
    assert schema.field("row").type == pa.int64()
    assert schema.field("content_hash").type == pa.binary(16)
    assert schema.field("failed").type == schema.field("decisive").type == pa.list_(pa.string())
    types = {"float64": pa.float64(), "int64": pa.int64(), "string": pa.string(), "bool": pa.bool_()}
    assert all(schema.field(column.name).type == types[column.type] for column in recipe.columns)


def test_an_empty_shard_has_the_schema_of_any_other(tmp_path: Path) -> None:
    recipe = recipe_of("- {name: a, annotate: [readability], dedup: {}, rules: {r: eflaw < 30}}")
    empty = curate_with(recipe, shard_of(tmp_path / "a.parquet", []))
    full = curate_with(recipe, shard_of(tmp_path / "b.parquet", ["Some text.", None]))
    assert empty.annotations.schema.equals(full.annotations.schema)
    assert empty.annotations.num_rows == len(empty.kept) == len(empty.texts) == 0
    assert set(empty.statistics.counts.values()) == {0}
    assert empty.examples == {"r": []}


def test_a_shard_of_nothing_usable_keeps_every_row(tmp_path: Path) -> None:
    recipe = recipe_of("- {name: a, annotate: [readability], dedup: {}, rules: {r: eflaw < 30}}")
    found = curate_with(recipe, shard_of(tmp_path / "a.parquet", [None, None, None]))
    assert found.annotations["status"].to_pylist() == ["quarantined"] * 3
    assert found.statistics.counts["quarantined"] == 3
    assert found.statistics.reasons == {"null text": 3}


def test_a_shard_that_is_all_duplicates_keeps_the_first(tmp_path: Path) -> None:
    text = "The same words, over and over again, in every document."
    found = curate_with(recipe_of(DEDUP), shard_of(tmp_path / "a.parquet", [text] * 50))
    assert found.kept.tolist() == [0]
    assert found.texts.texts() == [text]
    rows = found.annotations.to_pylist()
    assert rows[0]["dedup_repeated_bytes"] == 49 * len(text)
    assert all(row["dedup_cuts"] == [cut_of(0, len(text), 0, 0)] for row in rows[1:])
    assert all((row["failed"], row["decisive"]) == (["enough"], ["enough"]) for row in rows[1:])


def cut_of(start: int, end: int, source_row: int, source_start: int) -> dict[str, Any]:
    return {"start": start, "end": end, "source_shard": None, "source_row": source_row, "source_start": source_start}


def test_a_shard_without_duplicates_is_kept_byte_for_byte(tmp_path: Path) -> None:
    texts = [f"{i}: {'abcdefghijklmnopqrstuvwxyz'[i:]}" for i in range(5)] + ["Zürich €\r\n\0 \u2028end"]
    recipe = recipe_of("- {name: a, dedup: {min_length: 200}}")
    found = curate_with(recipe, shard_of(tmp_path / "a.parquet", texts))
    assert found.texts.texts() == texts
    assert not found.edited.any()
    assert found.annotations["dedup_cuts"].to_pylist() == [[]] * 6


def test_bytes_whose_surviving_copy_was_dropped_are_orphaned(tmp_path: Path) -> None:
    passage = "a passage that occurs in both documents"
    texts = [passage, f"The second one is longer:{passage}", f"Also kept;{passage}"]
    recipe = recipe_of(f"- {{name: a, dedup: {{min_length: 30}}, rules: {{other: text_bytes <> {len(passage)}}}}}")
    found = curate_with(recipe, shard_of(tmp_path / "a.parquet", texts))
    assert found.kept.tolist() == [1, 2]
    counts = found.statistics.counts
    assert counts["dedup_bytes"] == pc.sum(found.annotations["dedup_bytes"]).as_py() == 2 * len(passage)
    assert counts["orphaned_bytes"] == 2 * len(passage)


def test_without_rules_everything_usable_is_kept(tmp_path: Path) -> None:
    found = curate_with(recipe_of("- name: a"), shard_of(tmp_path / "a.parquet", ["x", None, ""]))
    assert found.annotations["status"].to_pylist() == ["kept", "quarantined", "kept"]
    assert found.annotations["failed"].to_pylist() == [[], [], []]
    assert found.statistics.rule_counts("a", []) == {}


def test_repeated_ids_are_counted_and_identity_stays_the_row(tmp_path: Path) -> None:
    shard = shard_of(tmp_path / "a.parquet", ["a", "b", "c", "d", "e"], id=["x", "x", None, None, "y"])
    found = curate_with(recipe_of("- name: a"), shard)
    assert found.statistics.counts["repeated_ids"] == 1
    assert found.annotations["row"].to_pylist() == [0, 1, 2, 3, 4]
    assert found.annotations["id"].to_pylist() == ["x", "x", None, None, "y"]


def test_a_rule_that_fails_on_a_document_is_unknown_for_it_and_counted(tmp_path: Path) -> None:
    recipe = recipe_of("- {name: a, rules: {r: ln(text_bytes) < 3, s: text_bytes > 0 AND ln(text_bytes) < 3}}")
    found = curate_with(recipe, shard_of(tmp_path / "a.parquet", ["abc", "", "x" * 100]))
    assert found.kept.tolist() == [0]
    assert found.annotations["failed"].to_pylist() == [[], ["r", "s"], ["r", "s"]]
    assert found.statistics.patterns == {"a": {"11": 1, "!0": 1, "00": 1}}


def test_documents_beyond_one_batch_are_annotated_as_those_in_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of("- {name: a, annotate: [readability], rules: {r: eflaw < 9}}")
    shard = shard_of(tmp_path / "a.parquet", [f"Text number {i} here. " * (i % 4) for i in range(60)])
    whole = curate_with(recipe, shard)
    for size in (1, 50, 333):
        monkeypatch.setattr("gneiss.curate.phase.BATCH_BYTES", size)
        assert curate_with(recipe, shard).annotations.equals(whole.annotations)
    assert np.array_equal(whole.kept, np.flatnonzero(np.array(whole.annotations["eflaw"].to_pylist()) < 9))
