"""`gneiss heads`: what it prints, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from gneiss.batch import TextBatch
from gneiss.cli.main import app
from gneiss.errors import InputError, ModelError
from gneiss.model_training.heads.files import write_head
from gneiss.model_training.heads.head import read_head
from gneiss.output.finished_run import open_run
from tests.model_training.heads.made_heads import encoder_source, linear_head, network_heads, texts_of
from tests.tiny_encoder import WIDTH


def said(*arguments: str | Path) -> str:
    """What a command prints; it must end well."""
    ended = CliRunner().invoke(app, ["heads", *map(str, arguments)], catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    return ended.output


@pytest.mark.processes
def test_heads_are_coded_and_score_a_run(curated: Path, copy_of: Callable[[Path], Path], tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 1)):
        write_head(linear_head(seed), tmp_path / f"{name}.safetensors")
    a, b, coded = (tmp_path / f"{name}.safetensors" for name in ("a", "b", "coded"))
    assert said("code", "--head", a, "--head", b, "-o", coded).startswith(
        "exact      any one of 2 linear heads can be lost\n"
    )
    output = copy_of(curated)
    command = ("score", output, "--head", f"a={a}", "--head", f"b={b}", "--coded", coded, "--backend", "local")
    assert f"layer      {output}/annotations/heads\n" in said(*command)
    assert open_run(output).annotations(["heads"], kept=True)["b"].null_count == 0
    assert "it was there already" in said(*command)


def test_networks_are_merged_and_told_how(tmp_path: Path) -> None:
    paths: list[str | Path] = []
    for number, head in enumerate(network_heads()):
        paths += ["--head", tmp_path / f"{number}.safetensors"]
        write_head(head, tmp_path / f"{number}.safetensors")
        pq.write_table(pa.table({"body": [*texts_of(number)[0], None]}), tmp_path / f"{number}.parquet")
    texts = [argument for number in range(2) for argument in ("--texts", tmp_path / f"{number}.parquet")]
    told = said("code", *paths, "-o", tmp_path / "coded.safetensors", *texts, "--text-column", "body")
    assert told.startswith("estimate   ")
    assert told.count(" nats  ") == 4
    with pytest.raises(InputError, match="column 'text' is not there"):
        said("code", *paths, "-o", tmp_path / "coded.safetensors", *texts)
    pq.write_table(pa.table({"text": pa.nulls(2, pa.string())}), tmp_path / "none.parquet")
    with pytest.raises(InputError, match="no text in the column 'text'"):
        said("code", *paths, "-o", tmp_path / "other.safetensors", *(2 * ["--texts", str(tmp_path / "none.parquet")]))


def test_heads_are_trained_from_one_another(tmp_path: Path) -> None:
    for number in range(2):
        texts, labels = texts_of(number)
        kinds = ["hq" if label else "cc" for label in labels.tolist()]
        pq.write_table(pa.table({"text": texts, "label": kinds}), tmp_path / f"{number}.parquet")
    a, b, linear = (tmp_path / f"{name}.safetensors" for name in ("a", "b", "linear"))
    sizes = ("--hidden", "8", "--buckets", "100", "--epochs", "40")
    assert "a network" in said("train", "-i", tmp_path / "0.parquet", "-o", a, *sizes)
    said("train", "-i", tmp_path / "1.parquet", "-o", b, *sizes, "--start", a)
    one, other = read_head(a), read_head(b)
    assert one.space == other.space
    texts, labels = texts_of(0)
    assert ((one.answers(TextBatch.of(texts)).score > 0.5) == labels).mean() > 0.95
    said("train", "-i", tmp_path / "0.parquet", "-o", linear, "--hidden", "0", "--epochs", "200")
    assert ((read_head(linear).answers(TextBatch.of(texts)).score > 0) == labels).mean() > 0.95
    content = linear.read_bytes()
    said("train", "-i", tmp_path / "0.parquet", "-o", linear, "--hidden", "0", "--epochs", "200")
    assert linear.read_bytes() == content
    pq.write_table(pa.table({"text": ["a"], "label": pa.nulls(1, pa.string())}), tmp_path / "none.parquet")
    with pytest.raises(InputError, match="no labelled text"):
        said("train", "-i", tmp_path / "none.parquet", "-o", a)


def test_heads_over_an_encoder_are_told_where_it_is(curated: Path, tmp_path: Path) -> None:
    heads: list[str | Path] = []
    texts: list[str | Path] = []
    for number in range(2):
        words, labels = texts_of(number)
        kinds = ["hq" if label else "cc" for label in labels.tolist()]
        source, path = tmp_path / f"{number}.parquet", tmp_path / f"{number}.safetensors"
        pq.write_table(pa.table({"text": words, "label": kinds}), source)
        start = ["--start", tmp_path / "0.safetensors"] if number else ["--windows", "2", "--window-tokens", "16"]
        given = ("--encoder", encoder_source().model, "--hidden", "4", "--epochs", "3")
        assert f"a network, {WIDTH} features" in said("train", "-i", source, "-o", path, *given, *start)
        heads += ["--head", path]
        texts += ["--texts", source]
    coded = tmp_path / "coded.safetensors"
    assert said("code", *heads, *texts, "--encoder", encoder_source().model, "-o", coded).count(" nats  ") == 4
    with pytest.raises(InputError, match="say where the encoder is"):
        said("code", *heads, *texts, "-o", coded)
    with pytest.raises(InputError, match="say where the encoder is"):
        said("score", curated, "--head", f"a={tmp_path / '0.safetensors'}")
    with pytest.raises(ModelError, match="the head learnt from another encoder"):
        said("score", curated, "--head", f"a={tmp_path / '0.safetensors'}", "--encoder", encoder_source(1).model)


def test_heads_have_names_of_their_own(curated: Path) -> None:
    with pytest.raises(InputError, match="expected NAME=FILE"):
        said("score", curated, "--head", "a.bin")
    with pytest.raises(InputError, match="a name is there twice"):
        said("score", curated, "--head", "a=a.bin", "--head", "a=b.bin")
