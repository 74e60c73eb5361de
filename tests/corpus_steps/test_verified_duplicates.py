"""Verified near-duplicates across shards: one shard of all documents decides the same."""

from __future__ import annotations

import json
import math
import random
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.batch import TextBatch
from gneiss.corpus_steps import NearDuplicates
from gneiss.dedup.minhash import candidates as candidates_module
from gneiss.dedup.minhash.criteria import Verification
from gneiss.errors import RecipeError
from gneiss.pipelines.run import run
from gneiss.recipe.recipe import Recipe
from gneiss.stages.corpus import Corpus
from tests import runs
from tests.dedup.minhash import oracle
from tests.dedup.minhash.test_minhash import near_keys
from tests.dedup.minhash.test_verified import Found, expected

NEAR = {"bands": 10, "rows": 2, "shingle_words": 2}
VERIFIED = ["near_cluster_size", "near_first", "near_similarity", "near_candidates", "near_rejected"]


def recipe(**parameters: Any) -> Recipe:
    """A phase that drops short texts, and one that finds near-duplicates."""
    phases = [
        {"name": "long", "rules": {"long": "text_bytes > 5"}},
        {"name": "unique", "near_duplicates": {**NEAR, **parameters}, "rules": {"first": "near_first"}},
    ]
    return Recipe.model_validate({"name": "verified", "budgets": {"documents": 1}, "phases": phases})


def texts_of(seed: int) -> list[bytes | None]:
    """Variants of few texts, copies, and what takes no part."""
    draw = random.Random(seed)
    base = [" ".join(random.Random(n).choices("abcdefgh", k=12)) for n in range(5)]
    texts: list[bytes | None] = []
    for _ in range(24):
        words = draw.choice(base).split()
        for _ in range(draw.randint(0, 3)):
            words[draw.randrange(len(words))] = draw.choice("abcdefgh")
        texts.append(" ".join(words).encode())
    return [*texts, b"", None, b"a b", b"\xff"]


def found(recipe: Recipe, source: Path, output: Path, partitions: int | None = None) -> pa.Table:
    with mock.patch("gneiss.pipelines.run.Corpus", partial(Corpus, partitions=partitions)):
        run(recipe, source, output, backend=runs.InThisProcess())
    return runs.annotations(output)


@pytest.mark.parametrize(
    "verify", [0.5, {"at_least": 0.6, "clusters": "complete"}, {"at_least": 0.7, "similarity": "containment"}], ids=str
)
@pytest.mark.slow
def test_many_shards_decide_as_one(tmp_path: Path, verify: Any) -> None:
    every = [texts_of(seed) for seed in range(3)]
    for number, texts in enumerate(every):
        runs.write_corpus(tmp_path / f"many/{number}.parquet", texts)
    runs.write_corpus(tmp_path / "one/0.parquet", [text for texts in every for text in texts])
    one = found(recipe(scope="shard", verify=verify), tmp_path / "one", tmp_path / "of one")
    for partitions in (1, 3):
        many = found(recipe(verify=verify), tmp_path / "many", tmp_path / f"of many {partitions}", partitions)
        assert many.select(VERIFIED).to_pylist() == one.select(VERIFIED).to_pylist()
    assert runs.promised(tmp_path / "of many 1") == runs.promised(tmp_path / "of many 3")
    sizes = one["near_cluster_size"].to_pylist()
    assert max(size or 0 for size in sizes) > 2
    assert any(one["near_rejected"].to_pylist())


@given(st.lists(st.text("abc ", max_size=9), max_size=8), st.sampled_from(["star", "complete"]))
def test_within_a_shard_as_the_oracle(texts: list[str], clusters: Any) -> None:
    verification = Verification(at_least=0.5, clusters=clusters)
    step = NearDuplicates(bands=6, rows=1, shingle_words=1, verify=verification, scope="shard")
    rows = pa.array(range(0, 2 * len(texts), 2), pa.int64()).to_numpy()
    documents: Any = mock.Mock(shard_id="s", rows=rows, batch=TextBatch.of(texts))
    columns = {
        name: annotation.to_pylist() for name, annotation in step.within_shard(documents, None).annotations.items()
    }
    assert list(columns) == [column.name for column in step.columns]
    own: Found = [
        (number, int(name.split(":")[1]) // 2, size, similarity)
        for number, (name, size, similarity) in enumerate(
            zip(columns["near_cluster"], columns["near_cluster_size"], columns["near_similarity"], strict=True)
        )
        if name is not None
    ]
    assert own == expected(texts, step, candidates_module.MOST_COMPARED)
    assert columns["near_first"] == [name in (None, f"s:{2 * at}") for at, name in enumerate(columns["near_cluster"])]


def test_a_recipe_writes_it_out() -> None:
    short, long = recipe(verify=0.7), recipe(verify={"at_least": 0.7, "similarity": "jaccard"})
    assert short.digest() == long.digest()
    assert short.canonical()["phases"][1]["near_duplicates"]["verify"] == {
        "similarity": "jaccard", "at_least": 0.7, "clusters": "star"
    }  # fmt: skip
    assert Recipe.parse(short.to_yaml()).digest() == short.digest()
    assert "verify" not in recipe().canonical()["phases"][1]["near_duplicates"]
    assert [column.name for column in recipe().phases[1].columns] == ["near_cluster", "near_cluster_size", "near_first"]


@pytest.mark.parametrize(
    ("verify", "message"),
    [
        (1.5, "near_duplicates: verify: at_least: expected above 0 and up to 1, found 1.5"),
        ({"similarity": "cosine"}, "verify.similarity: Input should be 'jaccard' or 'containment'"),
        ({"atleast": 0.8}, "unknown key 'verify.atleast'"),
        (True, "verify: "),
    ],
)
def test_what_is_no_verification_is_refused(verify: Any, message: str) -> None:
    text = f"name: n\nphases: [{{name: p, near_duplicates: {{verify: {json.dumps(verify)}}}}}]"
    with pytest.raises(RecipeError, match=message):
        Recipe.parse(text)


@pytest.mark.parametrize("verify", [None, 0.5], ids=["unverified", "verified"])
@pytest.mark.parametrize("keep", ["text_bytes", "score", "score > 1 AND text_bytes > 3"])
@pytest.mark.slow
def test_the_preferred_are_kept(tmp_path: Path, keep: str, verify: Any) -> None:
    """Of many shards and of one, as the definition says of clusters of components, or of verified pairs."""
    every = [[text for text in texts_of(seed) if text and text != b"\xff"] for seed in range(3)]
    texts = [text.decode() for of_seed in every for text in of_seed]
    scores: list[float | None] = [random.Random(n).choice([None, 0.5, 1.5, 2.5]) for n in range(len(texts))]
    own = iter(scores)
    for number, of_seed in enumerate(every):
        runs.write_corpus(tmp_path / f"many/{number}.parquet", of_seed, score=[next(own) for _ in of_seed])
    runs.write_corpus(tmp_path / "one/0.parquet", [text.encode() for text in texts], score=scores)
    chosen = preferring(keep, "corpus", verify)
    many = found(chosen, tmp_path / "many", tmp_path / "of many", 2)
    one = found(preferring(keep, "shard", verify), tmp_path / "one", tmp_path / "of one")
    for column in set(many.column_names) & {*VERIFIED, "exact_copies", "exact_first"}:
        assert many[column].to_pylist() == one[column].to_pylist(), column

    def preferred(document: int) -> tuple[float, int]:
        score, size = scores[document], len(texts[document])
        value = {"text_bytes": size, "score": score}.get(keep, None if score is None else score > 1 and size > 3)
        if score is None and size <= 3:
            value = {"text_bytes": size, "score": None}.get(keep, False)
        return (math.inf if value is None else -float(value), document)

    order = sorted(range(len(texts)), key=preferred)
    near = chosen.phases[1].steps[1]
    assert isinstance(near, NearDuplicates)
    if verify:
        is_first = dict.fromkeys(order, True)
        is_first |= {
            document: document == first
            for document, first, _, _ in expected(texts, near, candidates_module.MOST_COMPARED, order)
        }
    else:
        keys = [near_keys(texts[document], near) for document in order]
        is_first = {order[document]: document == first for document, first, _ in oracle.components(keys)}
    assert one["near_first"].to_pylist() == [is_first.get(document, True) for document in range(len(texts))]
    exact = {text: next(row for row in order if texts[row] == text) for text in texts}
    assert one["exact_first"].to_pylist() == [exact[text] == document for document, text in enumerate(texts)]
    assert one["near_first"].to_pylist() != one["exact_first"].to_pylist()


def preferring(keep: str, scope: str, verify: Any) -> Recipe:
    """A phase that reads scores, and one that prefers by them."""
    near = {**NEAR, "scope": scope, "keep": keep} | ({"verify": verify} if verify else {})
    phases = [
        {"name": "read", "annotate": [{"input_column": {"name": "score", "type": "float64"}}]},
        {"name": "unique", "exact_duplicates": {"scope": scope, "keep": keep}, "near_duplicates": near},
    ]
    return Recipe.model_validate({"name": "preferring", "phases": phases})


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ("lenght", "near_duplicates.keep: .*lenght"),
        ("near_cluster_size", "near_duplicates.keep: .*near_cluster_size"),
        ("'best'", "near_duplicates.keep: expected a number or boolean for each document, found a string"),
        ("text_bytes > 1; SELECT 1", "near_duplicates.keep: "),
    ],
)
def test_what_is_no_preference_is_refused(keep: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe(keep=keep)


@pytest.mark.parametrize(
    "verify", [pytest.param(None, marks=pytest.mark.exhaustive), 0.5], ids=["unverified", "verified"]
)
@pytest.mark.slow
def test_groups_and_files_do_not_see_each_other(tmp_path: Path, verify: Any) -> None:
    """What is found in a group, or in a file of several shards, is what is found in it by itself."""
    for number, name in enumerate(("x/a", "x/c", "y/b")):
        runs.write_corpus(tmp_path / f"in/{name}.parquet", texts_of(number))
    verified = {"verify": verify} if verify else {}
    columns = [column for column in VERIFIED if verify or column in ("near_cluster_size", "near_first")]

    def of(path: str, **parameters: Any) -> dict[str, list[Any]]:
        chosen = recipe(**parameters, **verified).changed({"shard_max_bytes": 300})
        output = tmp_path / f"out {len(list(tmp_path.iterdir()))}"
        table = found(chosen, tmp_path / "in" / path, output, 3)
        assert len(list((output / "annotations").rglob("*.parquet"))) > 1
        return {name: table[name].to_pylist() for name in columns}

    by_group, by_file, whole = of("", scope="group", group_by="^[xy]"), of("", scope="file"), of("")
    groups, files = [of("x"), of("y")], [of(f"{name}.parquet") for name in ("x/a", "x/c", "y/b")]
    for name in columns:
        assert by_group[name] == [value for group in groups for value in group[name]], name
        assert by_file[name] == [value for file in files for value in file[name]], name
    assert sum(map(bool, by_file["near_first"])) > sum(map(bool, by_group["near_first"]))
    assert sum(map(bool, by_group["near_first"])) > sum(map(bool, whole["near_first"]))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"scope": "group"}, "`scope: group` goes with a pattern `group_by`"),
        ({"group_by": "^x"}, "`scope: group` goes with a pattern `group_by`"),
        ({"scope": "group", "group_by": "("}, "group_by: .* is no regular expression"),
        ({"scope": "world"}, "scope: Input should be 'shard', 'file', 'group' or 'corpus'"),
    ],
)
def test_what_is_no_scope_is_refused(parameters: dict[str, str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe(**parameters)


def test_a_shard_without_a_group_is_refused(tmp_path: Path) -> None:
    runs.write_corpus(tmp_path / "in/a.parquet", texts_of(0))
    with pytest.raises(RecipeError, match=r"near_duplicates.group_by: '.x' does not match the shard 'a'"):
        found(recipe(scope="group", group_by="^x"), tmp_path / "in", tmp_path / "out")
