"""The fastText annotator: columns, labels, line breaks, null and odd texts, and what it prepares once per run."""

from pathlib import Path

import fasttext
import numpy as np
import pytest
import yaml
from pydantic import TypeAdapter

from gneiss.annotation import annotate
from gneiss.errors import ModelError, RecipeError
from gneiss.filters.fasttext import PAGES, FastText, FastTextModel, fasttext_scores

ENGINES = ["library", "ensemble", "auto"]
TEXTS = [
    "good text",
    "bad text\nbad",
    "",
    "\0",
    "x\ry",
    "\u3000good text\u2028good ",
    "__label__hq",
    "a</s> bad",
    "</s> bad",
]


@pytest.fixture(scope="module")
def quality(train_fasttext) -> Path:
    return train_fasttext(["__label__hq good text here", "__label__cc bad text there"] * 5)


@pytest.fixture(scope="module")
def science(train_fasttext) -> Path:
    return train_fasttext(["__label__science atoms good here", "__label__cc bad holiday there"] * 5, wordNgrams=1)


def by_library(path: Path, text: str, label: str) -> tuple[float, str]:
    """What a person would write: all labels, the named one, less what predict adds."""
    labels, probabilities = fasttext.load_model(str(path)).f.predict(text + "\n", -1, 0.0, "strict"), {}
    probabilities = {name.removeprefix("__label__"): p - 1e-5 for p, name in labels}
    return probabilities[label], max(probabilities, key=probabilities.get)


@pytest.mark.parametrize("engine", ENGINES)
def test_scores_are_of_the_named_label(quality, science, engine):
    annotator = FastText(
        {
            "dclm": FastTextModel(str(quality), "hq", newlines="join_stripped_lines"),
            "cosmo": FastTextModel(str(quality), "hq"),
            "unwanted": FastTextModel(str(quality), "cc", ("hq",)),
            "science": FastTextModel(str(science), "science"),
        },
        engine,
    )
    table = annotate(annotator, TEXTS)
    assert [(field.name, str(field.type)) for field in table.schema] == [
        (name, type_)
        for model in ("dclm", "cosmo", "unwanted", "science")
        for name, type_ in ((model, "double"), (f"{model}_label", "string"))
    ]
    for row, text in zip(table.to_pylist(), TEXTS, strict=True):
        spaced, joined = text.replace("\n", " "), " ".join(text.strip().splitlines())
        for name, path, read, label in (
            ("dclm", quality, joined, "hq"),
            ("cosmo", quality, spaced, "hq"),
            ("unwanted", quality, spaced, "cc"),
            ("science", science, spaced, "science"),
        ):
            score, top = by_library(path, read, label)
            assert row[name] == pytest.approx(score, abs=1e-6)
            assert row[f"{name}_label"] == top
    scores = table["cosmo"].to_numpy()
    assert scores.min() < 0.5 < scores.max()  # it is not the top label's probability
    assert table["dclm"][5] != table["cosmo"][5]  # the line breaks do matter there


@pytest.mark.parametrize("engine", ENGINES)
def test_empty_texts_and_nulls(quality, engine):
    annotator = FastText({"q": FastTextModel(str(quality), "hq")}, engine)
    assert annotate(annotator, []).num_rows == 0
    table = annotate(annotator, [None, "", None])
    assert table["q"].is_null().to_pylist() == table["q_label"].is_null().to_pylist() == [True, False, True]
    assert table["q"][1].as_py() == pytest.approx(by_library(quality, "", "hq")[0], abs=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_null_where_fasttext_predicts_nothing(quality, tmp_path, engine):
    data = quality.read_bytes()
    data = data.replace(b"</s>\0", b"<+s>\0")  # a model that does not know the end of a line
    path = tmp_path / "model.bin"
    path.write_bytes(data)
    assert fasttext.load_model(str(path)).f.predict("\n", -1, 0.0, "strict") == []
    table = annotate(FastText({"q": FastTextModel(str(path), "hq")}, engine), ["", "good", "__label__hq"])
    assert table["q"].is_null().to_pylist() == table["q_label"].is_null().to_pylist() == [True, False, True]


@pytest.mark.parametrize("engine", ENGINES)
def test_equal_probabilities(quality, tmp_path, engine):
    data = bytearray(quality.read_bytes())
    data[-4 * 2 * 8 :] = bytes(4 * 2 * 8)  # an output matrix of zeros
    path = tmp_path / "model.bin"
    path.write_bytes(data)
    ((label,), _) = fasttext.load_model(str(path)).predict("good text")
    table = annotate(FastText({"q": FastTextModel(str(path), "hq")}, engine), ["good text"])
    assert table.to_pylist() == [{"q": pytest.approx(0.5, abs=1e-6), "q_label": label.removeprefix("__label__")}]


def test_engines_agree_and_batches_do_not_matter(quality, science):
    models = {"q": FastTextModel(str(quality), "hq"), "s": FastTextModel(str(science), "science")}
    whole = {engine: annotate(FastText(models, engine), TEXTS) for engine in ENGINES}
    for engine in ENGINES:
        alone = [annotate(FastText(models, engine), [text]).to_pylist()[0] for text in TEXTS]
        assert whole[engine].to_pylist() == alone
        assert np.allclose(whole[engine]["q"], whole["library"]["q"], rtol=0, atol=1e-6)
    assert whole["auto"].equals(whole["ensemble"])


def test_wrong_labels(quality):
    for engine in ENGINES:
        with pytest.raises(ModelError) as caught:
            annotate(FastText({"q": FastTextModel(str(quality), "science")}, engine), ["x"])
        assert all(part in str(caught.value) for part in (str(quality), "cc, science", "cc, hq"))
        with pytest.raises(ModelError, match="expected the labels"):
            annotate(FastText({"q": FastTextModel(str(quality), "hq", ("cc", "en"))}, engine), ["x"])


@pytest.mark.parametrize("engine", ENGINES)
def test_damaged_file(quality, tmp_path, engine):
    path = tmp_path / "cut.bin"
    path.write_bytes(quality.read_bytes()[:-100])
    with pytest.raises(ModelError, match=str(path)):
        annotate(FastText({"q": FastTextModel(str(path), "hq")}, engine), ["x"])


def test_from_yaml(quality):
    recipe = f"""
    models:
      dclm: {{source: {quality}, label: hq, newlines: join_stripped_lines}}
      cosmo: {{source: {quality}, label: cc, other_labels: [hq]}}
    """
    annotator = TypeAdapter(FastText).validate_python(yaml.safe_load(recipe))
    assert annotator == FastText(
        {
            "dclm": FastTextModel(str(quality), "hq", ("cc",), "join_stripped_lines"),
            "cosmo": FastTextModel(str(quality), "cc", ("hq",), "space"),
        }
    )
    assert annotator.model_files == (str(quality),)
    assert annotate(annotator, ["good"])["dclm"][0].as_py() > 0.5


def test_columns_must_differ():
    model = FastTextModel("m.bin", "hq")
    with pytest.raises(RecipeError, match="a_label"):
        FastText({"a": model, "a_label": model})


def test_prepare(quality, science, train_fasttext, tmp_path):
    hierarchical = train_fasttext(["__label__hq good", "__label__cc bad"], loss="hs")
    models = {
        "q": FastTextModel("hf://a/b@1/q.bin", "hq"),
        "h": FastTextModel("h", "hq"),
        "s": FastTextModel("s", "science"),
        "again": FastTextModel("hf://a/b@1/q.bin", "cc", ("hq",), "join_stripped_lines"),
    }
    files = {"hf://a/b@1/q.bin": quality, "h": hierarchical, "s": science}
    annotator = FastText(models)
    folder = tmp_path / "models"
    prepared = annotator.prepare(files, folder)
    (table,) = folder.iterdir()
    assert prepared == {"hf://a/b@1/q.bin": table, "h": hierarchical, "s": table}
    written = table.stat().st_mtime_ns
    assert annotator.prepare(files, folder) == prepared
    assert table.stat().st_mtime_ns == written  # it was there
    assert annotate(annotator, TEXTS, prepared).equals(annotate(annotator, TEXTS, files))
    assert FastText(models, "library").prepare(files, folder) == files
    swapped = FastText({"s": models["s"], "q": models["q"]})
    with pytest.raises(ModelError, match="expected the labels"):
        annotate(swapped, TEXTS, prepared)
    with pytest.raises(ModelError, match="expected a table of 1 models, found 2"):
        annotate(FastText({"s": models["s"]}), TEXTS, prepared)


def test_scores_alone(quality):
    scores = fasttext_scores(["good", None, "bad"], quality, "cc")
    assert scores.to_pylist() == [
        pytest.approx(by_library(quality, "good", "cc")[0], abs=1e-6),
        None,
        pytest.approx(by_library(quality, "bad", "cc")[0], abs=1e-6),
    ]
    with pytest.raises(ModelError, match="expected the label 'science'"):
        fasttext_scores(["good"], quality, "science")


def test_pages():
    assert [(page.code, page.name, list(page.rules)) for page in PAGES] == [
        ("GW01", "quality", ["quality"]),
        ("GW02", "category", ["in_category"]),
    ]
    assert PAGES[0].rules["quality"] == "dclm > 0.002 OR cosmo > 0.03"
