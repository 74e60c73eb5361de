"""The engine while answers come in another thread."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

pytest.importorskip("nvflare", reason="a federation of organisations needs NVIDIA FLARE, which is not installed")

from nvflare.apis.signal import Signal

from gneiss.model_training.federated.engines import Lost
from gneiss.model_training.federated.flare.engine import FlareEngine
from gneiss.model_training.federated.message import Message


class AnsweredMeanwhile(dict[str, float]):
    """When sites were heard; who asks learns that both have been silent, and by then the first one has answered."""

    engine: Any

    def __getitem__(self, site: str) -> float:
        self.engine._under_way.pop("first", None)
        return -1e9


def test_an_answer_that_comes_while_silence_is_looked_for_is_no_loss() -> None:
    clients = SimpleNamespace(get_clients=lambda: [SimpleNamespace(name=name) for name in ("first", "second")])
    engine = FlareEngine(Mock(), Mock(get_engine=lambda: clients), ["first", "second"], 1000, 60.0, Signal())
    for site in ("first", "second"):
        engine.ask(site, Message({}, {}))
    heard = AnsweredMeanwhile(engine._heard)
    heard.engine, engine._heard = engine, heard
    lost = engine.answer(0.0)
    assert isinstance(lost, Lost)
    assert lost.site == "second"
    assert engine.answer(0.0) is None
