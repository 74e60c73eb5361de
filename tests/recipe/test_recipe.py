"""Recipes: every fault is one line that says what to do, and the hash is of what a recipe means."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from gneiss.errors import RecipeError
from gneiss.recipe.recipe import Recipe, recipe_names

GOOD = """\
name: good
description: what it does
input: {text: text, id: id, derived_from_text: {token_count: tokens}}
shard_max_bytes: 1000000
budgets: {documents: 0.01, shards: 1}
phases:
  - name: first
    dedup: {min_length: 100, policy: union}
    annotate:
      - readability:
      - tokens: {tokenizer: builtin:cl100k_base}
      - fasttext:
          models:
            dclm: {source: dclm.bin, label: hq, newlines: join_stripped_lines}
            science: {source: science.bin, label: science}
    aliases: {dclm_fastText_score: dclm}
    rules:
      quality: dclm_fastText_score > 0.002
      readable: eflaw < CASE WHEN science_label = 'science' THEN 70 ELSE 30 END
    keep: quality AND readable
  - name: second
    rules: {long: text_chars > 100}
"""


def refusal_of(text: str) -> str:
    with pytest.raises(RecipeError) as caught:
        Recipe.parse(text, "good.yaml")
    message = str(caught.value)
    assert message.startswith("good.yaml: ")
    assert "\n" not in message
    assert len(message) < 500
    return message.removeprefix("good.yaml: ")


def test_a_good_recipe_is_understood() -> None:
    recipe = Recipe.parse(GOOD)
    assert [phase.name for phase in recipe.phases] == ["first", "second"]
    assert recipe.model_files == ("dclm.bin", "science.bin")
    assert [column.name for column in recipe.columns][:6] == [
        "text_bytes",
        "text_chars",
        "dedup_bytes",
        "dedup_fraction",
        "dedup_repeated_bytes",
        "eflaw",
    ]
    assert recipe.phases[1].decision.keep == "long"


@pytest.mark.parametrize("name", recipe_names())
@pytest.mark.slow
def test_every_packaged_recipe_loads_and_says_what_it_is(name: str) -> None:
    recipe = Recipe.load(name)
    assert recipe.name == name
    assert len(recipe.description) > 40
    assert all(phase.rules or phase.edit for phase in recipe.phases), "every phase does something"


@pytest.mark.parametrize(
    ("was", "becomes", "told"),
    [
        ("description:", "descripton:", "unknown key 'descripton'; did you mean 'description'?"),
        ("name: good", "nam: good", "unknown key 'nam'; did you mean 'name'?"),
        ("derived_from_text:", "derived_from:", "unknown key 'input.derived_from'; did you mean 'derived_from_text'?"),
        ("shard_max_bytes", "shard_max_byte", "unknown key 'shard_max_byte'; did you mean 'shard_max_bytes'?"),
        ("documents: 0.01", "document: 0.01", "unknown key 'budgets.document'; did you mean 'documents'?"),
        ("min_length", "min_lenght", "dedup: unknown key 'min_lenght'; did you mean 'min_length'?"),
        (
            "dedup: ",
            "near_duplicates: {band: 3}\n    dedup: ",
            "near_duplicates: unknown key 'band'; did you mean 'bands'",
        ),
        ("    rules:\n", "    rule:\n", "unknown key 'phases.0.rule'; did you mean 'rules'?"),
        ("readability:", "readabilty:", "annotate: no annotator 'readabilty'; did you mean 'readability'?"),
        ("tokenizer:", "tokeniser:", "annotate: tokens: unknown key 'tokeniser'; did you mean 'tokenizer'?"),
        ("{source: dclm.bin", "{sorce: dclm.bin", "unknown key 'models.dclm.sorce'; did you mean 'source'?"),
        ("newlines:", "newline:", "annotate: fasttext: unknown key 'models.dclm.newline'; did you mean 'newlines'?"),
        ("models:", "model:", "annotate: fasttext: unknown key 'model'; did you mean 'models'?"),
        ("eflaw <", "eflow <", "rule 'readable': no annotation 'eflow'; did you mean 'eflaw'?"),
        ("{dclm_fastText_score: dclm}", "{dclm_fastText_score: dcml}", "no annotation 'dcml'; did you mean 'dclm'?"),
        ("quality AND", "qualty AND", "keep: no rule 'qualty'; did you mean 'quality'?"),
        ("token_count: tokens", "token_count: token", "no numeric annotation 'token'; did you mean 'tokens'?"),
    ],
)
def test_a_misspelt_key_is_met_with_the_nearest_one(was: str, becomes: str, told: str) -> None:
    assert GOOD.count(was) == 1
    assert told in refusal_of(GOOD.replace(was, becomes))


@pytest.mark.parametrize(
    ("was", "becomes", "told"),
    [
        ("min_length: 100", "min_length: 1", "dedup: min_length: Input should be greater than or equal to 2"),
        ("min_length: 100", "min_length: '100'", "found '100'"),
        ("min_length: 100", "min_length: 100.5", "found 100.5"),
        ("dedup: ", "near_duplicates: {bands: 0}\n    dedup: ", "near_duplicates: bands: expected 1 to 1024, found 0"),
        ("dedup: ", "near_duplicates: {bands: many}\n    dedup: ", "near_duplicates: bands: Input should be a"),
        ("dedup: ", "near_duplicates: {scope: dump}\n    dedup: ", "near_duplicates: scope: Input should be"),
        ("dedup: ", "near_duplicates: {scope: group}\n    dedup: ", "`scope: group` goes with a pattern `group_by`"),
        ("dedup: ", "exact_duplicates: {normalize: x}\n    dedup: ", "exact_duplicates: normalize: Input"),
        ("policy: union", "policy: first", "'protect', 'union' or 'all', found 'first'"),
        ("documents: 0.01", "documents: 2", "budgets.documents: Input should be less than or equal to 1, found 2"),
        ("documents: 0.01", "documents: .nan", "budgets.documents"),
        ("shards: 1", "shards: -1", "budgets.shards"),
        ("shard_max_bytes: 1000000", "shard_max_bytes: 0", "shard_max_bytes"),
        ("name: good", "name: Good recipe", "name: String should match pattern"),
        ("name: good", "name: [good]", "name: Input should be a valid string, found ['good']"),
        ("name: first", "name: First", "phases.0.name"),
        ("label: hq, ", "", "annotate: fasttext: models.dclm.label: Field required"),
        ("newlines: join_stripped_lines", "newlines: drop", "found 'drop'"),
        ("- readability:\n", "- 3\n", "phases.0.annotate.0: expected NAME or NAME: {parameters}, found 3"),
        ("- readability:\n", "- readability: 3\n", "found {'readability': 3}"),
        ("tokens: {tokenizer: builtin:cl100k_base}", "tokens: {tokenizer: 3}", "tokenizer"),
        ("  quality: dclm", "  Quality: dclm", "rule 'Quality': expected a lower-case name"),
        ("  quality: dclm", "  a-b: dclm", "rule 'a-b': expected a lower-case name"),
        ("  quality: dclm", "  true: dclm", "found True"),
        ("  quality: dclm", "  'true': dclm", "rule 'true': this is an SQL keyword"),
        ("quality: dclm_fastText_score > 0.002", "quality: dclm_fastText_score", "found a number"),
        ("keep: quality AND readable", "keep: quality AND", "keep: expected a boolean SQL expression"),
        ("{long: text_chars > 100}", "{}\n    keep: 'false'", "keep: 'false', but there are no rules"),
        ("name: second", "name: first", "two phases are named 'first'"),
        ("name: second", "name: second\n    dedup: {min_length: 9}", "only one phase can have dedup"),
        ("{long:", "{quality:", "phase 'second': the rule 'quality' is defined twice"),
        ("name: second", "name: second\n    annotate: [readability]", "the annotation 'eflaw' is computed twice"),
        ("- readability:\n", "- readability:\n      - readability:\n", "the annotation 'eflaw' is computed twice"),
        ("science: {source", "Dclm: {source", "the annotation 'Dclm' is computed twice"),
        ("science: {source", "dclm_label: {source", "two models both give the column 'dclm_label'"),
        ("science: {source", "dedup_bytes: {source", "the annotation 'dedup_bytes' is computed twice"),
        ("science: {source", "text_chars: {source", "the annotation 'text_chars' is computed twice"),
        ("science: {source", "status: {source", "an annotation cannot be named 'status'"),
        ("science: {source", "'a b': {source", "an annotation cannot be named 'a b'"),
        ("science: {source", "'': {source", "an annotation cannot be named ''"),
        ("token_count: tokens", "text: tokens", "'text' is the text or the id itself"),
        ("token_count: tokens", "token_count: science_label", "no numeric annotation 'science_label'"),
    ],
)
def test_a_wrong_value_is_refused_with_where_and_what(was: str, becomes: str, told: str) -> None:
    assert GOOD.count(was) == 1
    assert told in refusal_of(GOOD.replace(was, becomes))


@pytest.mark.parametrize(
    "name", ["row", "id", "status", "reason", "dropped_in", "failed", "decisive", "content_hash", "dedup_cuts"]
)
def test_columns_of_every_annotation_shard_are_reserved(name: str) -> None:
    told = refusal_of(f"name: a\nphases:\n- name: p\n  annotate: [tokens: {{column: {name}}}]\n")
    assert f"an annotation cannot be named '{name}'" in told


@pytest.mark.parametrize(
    ("twice", "key"),
    [
        ("name: good\nname: good\n", "name"),
        ("    keep: quality AND readable\n    keep: quality OR readable\n", "keep"),
        ("      quality: dclm_fastText_score > 0.1\n      quality: dclm_fastText_score > 0.2\n", "quality"),
        ("            dclm: {source: a.bin, label: hq}\n            dclm: {source: b.bin, label: hq}\n", "dclm"),
    ],
)
def test_a_key_that_is_given_twice_is_refused(twice: str, key: str) -> None:
    first = twice.splitlines(keepends=True)[0]
    where = {
        "name": ("name: good\n", first),
        "keep": ("    keep: quality AND readable\n", first),
        "quality": ("      quality: dclm_fastText_score > 0.002\n", first),
        "dclm": ("            dclm: {source: dclm.bin, label: hq, newlines: join_stripped_lines}\n", first),
    }[key]
    assert GOOD.count(where[0]) == 1
    Recipe.parse(GOOD.replace(where[0], first))
    told = refusal_of(GOOD.replace(where[0], twice))
    assert f"the key {key!r} is given twice" in told


@pytest.mark.parametrize("text", ["", "3", "- a\n- b", "just words", "null", "[]"])
def test_what_is_no_mapping_is_refused(text: str) -> None:
    assert "expected a mapping with name and phases, found" in refusal_of(text)


@pytest.mark.parametrize(
    "text", ["name: a\n", "name: a\nphases: []\n", "name: a\nphases: {}\n", "phases: [{name: a}]\n"]
)
def test_what_lacks_a_name_or_phases_is_refused(text: str) -> None:
    refusal_of(text)


# YAML from strangers.


@pytest.mark.parametrize(
    "text",
    [
        "name: [a\nb: c",
        "name: a\n\tphases: b",
        "name: 'a",
        "name: \x00",
        "? [a, b]\n: c",
        "[" * 5000,
        "{a: " * 5000,
        "!!python/object/apply:os.system ['true']",
        "!!python/name:os.system",
        "name: !!python/object/new:object {}",
        "name: *missing",
        "%YAML 9.9\n---\nname: a",
        "name: a\n---\nname: b",
    ],
)
@pytest.mark.slow
def test_bad_yaml_is_refused_in_one_line(text: str) -> None:
    assert refusal_of(text).startswith("no valid YAML")


def test_aliases_that_would_expand_without_end_do_no_harm() -> None:
    """Ten levels of ten references each: 10^10 words, were they ever written out."""
    levels = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    levels += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 11)]
    bomb = "\n".join(levels) + "\n"
    started = time.process_time()
    for text in (bomb, bomb + "name: *a10\nphases: *a10\n", f"x: &x [*x, *x]\nname: *x\n{bomb}"):
        refusal_of(text)
    assert refusal_of("name: &n [&m [*n], *m]\nphases: *n\n")
    assert time.process_time() - started < 60, "written out it would take for ever"


def test_a_recipe_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(b"name: \xff\n")
    with pytest.raises(RecipeError, match=r"r\.yaml: cannot read the recipe"):
        Recipe.load(path)


def test_a_missing_file_and_an_unknown_name_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"missing\.yaml: cannot read the recipe"):
        Recipe.load(tmp_path / "missing.yaml")
    with pytest.raises(RecipeError, match=r"no recipe 'gneisweb-bytes'; did you mean 'gneissweb-bytes'\?"):
        Recipe.load("gneisweb-bytes")
    with pytest.raises(RecipeError, match=r"no recipe '\.\./recipe'"):
        Recipe.load("../recipe")


def test_model_paths_count_from_the_folder_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "good.yaml"
    path.write_text(GOOD)
    assert Recipe.load(path).folder == tmp_path
    assert Recipe.load(str(path)).digest() == Recipe.parse(GOOD).digest()


# The hash.


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ("name: good\n", "# a comment\nname: 'good'\n"),
        ("description: what it does\n", "description: >-\n  what it\n  does\n"),
        ("description: what it does\ninput:", "input:"),  # swapped below
        ("    keep: quality AND readable\n", "    keep: |\n      quality\n        AND readable\n"),
        ("dclm_fastText_score > 0.002", "'dclm_fastText_score  >   0.002 '"),
        (
            "{source: dclm.bin, label: hq, newlines: join_stripped_lines}",
            "{newlines: join_stripped_lines, other_labels: [cc], label: hq, source: dclm.bin}",
        ),
        ("{min_length: 100, policy: union}", "{policy: union, min_length: 100, unit: bytes, scope: shard}"),
        ("- readability:", "- readability"),
        ("- readability:", "- readability: {}"),
        ("tokens: {tokenizer: builtin:cl100k_base}", "tokens"),
        ("tokens: {tokenizer: builtin:cl100k_base}", "tokens: {engine: auto, column: tokens}"),
        ("budgets: {documents: 0.01, shards: 1}", "budgets:\n  shards: 1\n  documents: 1.0e-2"),
        ("documents: 0.01", "documents: 0.02"),  # which accepts an output as it is
        ("{long: text_chars > 100}", "{long: text_chars > 100}\n    annotate: []\n    aliases: {}"),
        ("{text: text, id: id, derived", "{derived"),
    ],
)
@pytest.mark.slow
def test_the_hash_is_the_same_however_the_recipe_is_written(was: str, becomes: str) -> None:
    assert GOOD.count(was) == 1
    rewritten = GOOD.replace(was, becomes)
    if was.startswith("description: what it does\ninput:"):
        rewritten += "description: what it does\n"
    assert rewritten != GOOD
    assert Recipe.parse(rewritten).digest() == Recipe.parse(GOOD).digest()


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ("> 0.002", "> 0.0021"),
        ("THEN 70", "THEN 71"),
        ("= 'science'", "= 'Science'"),
        ("= 'science'", "= ' science'"),
        ("quality AND readable", "quality OR readable"),
        ("quality AND readable", "readable AND quality"),
        ("min_length: 100", "min_length: 101"),
        ("policy: union", "policy: protect"),
        ("label: hq", "label: cc, other_labels: [hq]"),
        ("newlines: join_stripped_lines", "newlines: space"),
        ("source: dclm.bin", "source: other.bin"),
        ("tokens: {tokenizer: builtin:cl100k_base}", "tokens: {tokenizer: tokenizer.json}"),
        ("token_count: tokens", "token_count: null"),
        ("{text: text,", "{text: content,"),
        ("name: second", "name: third"),
        ("- readability:\n      - tokens: {tokenizer: builtin:cl100k_base}\n",
         "- tokens\n      - readability\n"),  # columns come in another order
    ],
)  # fmt: skip
@pytest.mark.slow
def test_the_hash_differs_when_the_meaning_does(was: str, becomes: str) -> None:
    assert GOOD.count(was) == 1
    assert Recipe.parse(GOOD.replace(was, becomes)).digest() != Recipe.parse(GOOD).digest()


def test_the_order_of_rules_counts_because_failed_lists_them_in_order() -> None:
    first, second = "rules: {a: text_chars > 1, b: text_chars > 2}", "rules: {b: text_chars > 2, a: text_chars > 1}"
    digests = {Recipe.parse(f"name: x\nphases:\n- name: p\n  {rules}\n").digest() for rules in (first, second)}
    assert len(digests) == 2


def test_the_canonical_recipe_is_a_recipe_with_the_same_hash() -> None:
    import yaml

    recipe = Recipe.parse(GOOD)
    again = Recipe.parse(yaml.safe_dump(recipe.canonical(), sort_keys=False))
    assert again.digest() == recipe.digest()
    assert again.canonical()["phases"][0]["annotate"][1] == {
        "tokens": {"tokenizer": "builtin:cl100k_base", "column": "tokens", "engine": "auto"}
    }


def test_white_space_inside_quotes_is_part_of_a_rule() -> None:
    rule = "\"science_label = 'a  b'   AND text_chars > 1\""
    recipe = Recipe.parse(GOOD.replace("text_chars > 100", rule).replace("{long:", "{long: "))
    assert recipe.phases[1].rules["long"] == "science_label = 'a  b' AND text_chars > 1"


def test_a_comment_in_a_rule_ends_with_its_line() -> None:
    rules = "  rules:\n    long: |\n      text_chars > 100 -- or else\n      OR text_bytes > 7\n"
    (phase,) = Recipe.parse(f"name: a\nphases:\n- name: p\n{rules}").phases
    assert phase.rules["long"] == "text_chars > 100 -- or else\nOR text_bytes > 7"


def test_a_recipe_is_a_value() -> None:
    import pickle

    recipe = Recipe.parse(GOOD, folder=Path("here"))
    again = pickle.loads(pickle.dumps(recipe))  # noqa: S301 - as a worker gets it
    assert again == recipe
    assert again.folder == Path("here")
    assert again.digest() == recipe.digest()
    with pytest.raises(ValueError, match="frozen"):
        recipe.name = "other"


def test_annotations_are_not_named_as_those_of_new_shards() -> None:
    phase = "{name: one, annotate: [{fasttext: {models: {gneiss_row: {source: m.bin, label: hq}}}}]}"
    with pytest.raises(RecipeError, match=r"an annotation cannot be named 'gneiss_row': annotation shards have"):
        Recipe.parse(f"name: x\nphases: [{phase}]")


@pytest.mark.processes
def test_reading_a_recipe_starts_no_compiler() -> None:
    script = "import gneiss.recipe, sys; assert 'numba' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
