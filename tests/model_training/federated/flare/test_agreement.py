"""What the parties of a federation agree on: the same after it is written and read, refused where it says nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from gneiss.errors import InputError
from gneiss.model_training.federated.flare.agreement import Agreement, agreement_of, read_agreement
from gneiss.model_training.federated.strategies.by_name import DEFAULT_RATES

AGREED = Agreement("models.example.org", ("clinic", "library"), words=("red", "green"), buckets=64, rounds=7, rate=0.5)


def test_it_is_the_same_after_it_is_written_and_read(tmp_path: Path) -> None:
    AGREED.write(tmp_path)
    assert read_agreement(tmp_path / "federation.toml") == AGREED
    assert read_agreement(tmp_path / "federation.toml").space.words == ("</s>", "red", "green")


@pytest.mark.parametrize("strategy", DEFAULT_RATES)
def test_it_gives_the_training_of_every_strategy(strategy: str) -> None:
    made = AGREED.federation(strategy)
    assert made.sites == ("clinic", "library")
    assert made.features == AGREED.space.sha256
    assert made.rates.rate == 0.5
    assert made.rates.server_rate == DEFAULT_RATES[strategy][1]


def test_what_an_admin_may_choose_is_not_who_takes_part_nor_what_features_are() -> None:
    assert AGREED.training.keys() == {
        "strategy", "rounds", "steps", "share", "min_answers", "batch", "seed", "rate", "server_rate",
        "region_rounds", "is_trimmed",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"server": "a b"}, "server: expected the name of a host, found 'a b'"),
        ({"server": "-x"}, "server: expected the name of a host"),
        ({"port": 0}, "port: expected 1 to 65535, found 0"),
        ({"sites": ("a.b",)}, "site 'a.b': expected no point in it"),
        ({"sites": ("server", "b")}, "site 'server': expected no point in it, and another name than admin, authority"),
        ({"sites": ("../b",)}, "site '../b': expected at most 64 letters"),
        ({"sites": ()}, "sites: expected 1 to 1,000"),
        ({"sites": ("a", "a")}, "sites: expected 1 to 1,000, sorted and each once"),
        ({"strategy": "fedavgg"}, "strategy 'fedavgg' is not known; did you mean 'fedavg'?"),
        ({"rounds": 0}, "rounds: expected 1 to"),
        ({"rounds": "many"}, "rounds: Input should be a valid integer"),
        ({"min_answers": 9}, "min_answers: expected 1 to 2, found 9"),
        ({"round": 1}, "round: no such setting; did you mean 'rounds'?"),
        ({"word_ngrams": 0}, "word_ngrams: expected 1 to"),
    ],
)
def test_what_it_cannot_say_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=f"^here: {re.escape(said)}"):
        agreement_of({"server": "localhost", "sites": ("a", "b"), **values}, "here")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("server = ", "cannot read: Invalid value"),
        ('server = "x"', "sites: Field required"),
        ('server = "x"\nsites = ["a"]\nvocabulary = 1', "vocabulary: expected the name of a file"),
        ('server = "x"\nsites = ["a"]\nvocabulary = "none.txt"', "none.txt: cannot read the vocabulary"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "federation.toml").write_text(content)
    with pytest.raises(InputError, match=re.escape(said)):
        read_agreement(tmp_path / "federation.toml")
