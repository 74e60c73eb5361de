"""Megatron-LM: read back by a slow reader of the published format, and by the real library where it is installed."""

from __future__ import annotations

import json
import struct
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from gneiss.export.files import tokenized
from gneiss.export.megatron import export_megatron
from gneiss.loader.reader import Document, documents
from tests import runs
from tests.export.test_files import as_bytes

CODES = {4: ("<i", 4), 8: ("<H", 2)}


def slow_read(prefix: Path) -> list[list[int]]:
    """Every document's tokens, by the description of the format."""
    index, tokens = prefix.with_name(prefix.name + ".idx").read_bytes(), prefix.with_name(prefix.name + ".bin")
    assert index[:9] == b"MMIDIDX\0\0"
    assert struct.unpack("<Q", index[9:17]) == (1,)
    form, size = CODES[index[17]]
    sequences, bounds = struct.unpack("<QQ", index[18:34])
    assert bounds == sequences + 1
    values = struct.unpack(f"<{sequences}i{sequences}q{bounds}q", index[34:])
    lengths, starts = values[:sequences], values[sequences : 2 * sequences]
    assert values[2 * sequences :] == tuple(range(bounds))
    content = tokens.read_bytes()
    assert starts == tuple(sum(lengths[:i]) * size for i in range(sequences))
    assert len(content) == sum(lengths) * size
    return [
        list(struct.unpack(f"<{length}{form[1]}", content[start : start + length * size]))
        for length, start in zip(lengths, starts, strict=True)
    ]


def prefixes(folder: Path) -> list[Path]:
    return [folder / file["prefix"] for file in json.loads((folder / "export.json").read_text())["files"]]


@pytest.mark.parametrize("token_bytes", [2, 4])
def test_documents_come_with_ids_and_weights(token_bytes: int, released: Path, tmp_path: Path) -> None:
    source = tokenized(documents(released, seed=9), as_bytes, end_of_document=256, token_bytes=token_bytes)
    done = export_megatron(source, tmp_path / "megatron", file_tokens=20_000)
    expected = list(documents(released, shuffled=False))
    parts = prefixes(tmp_path / "megatron")
    assert (done.samples, done.files) == (len(expected), len(parts))
    assert len(parts) > 2
    found = [slow_read(prefix) for prefix in parts]
    assert all(len(part) == 1 or sum(map(len, part)) <= 20_000 for part in found)
    assert [tokens for part in found for tokens in part] == [[*d.text.encode(), 256] for d in expected]
    sidecars = {
        name: [np.load(f"{prefix}.{name}.npy", allow_pickle=False) for prefix in parts]
        for name in ("log_prior", "document")
    }
    assert [len(values) for values in sidecars["log_prior"]] == list(map(len, found))
    assert {name: values[0].dtype for name, values in sidecars.items()} == {"log_prior": "<f4", "document": "<i8"}
    assert np.concatenate(sidecars["document"]).tolist() == [d.index for d in expected]
    assert np.array_equal(np.concatenate(sidecars["log_prior"]), np.array([d.log_prior for d in expected], np.float32))
    metadata = json.loads((tmp_path / "megatron/export.json").read_text())
    tokens = sum(map(len, found[0]))
    assert metadata["files"][0] == {"prefix": "part-00000", "documents": len(found[0]), "tokens": tokens}


def test_documents_without_tokens_are_left_out_of_the_sidecars_too(released: Path, tmp_path: Path) -> None:
    expected = list(documents(released, shuffled=False))
    middle = sorted(len(d.text) for d in expected)[66]
    source = tokenized(documents(released), lambda text: as_bytes(text if len(text) > middle else ""))
    done = export_megatron(source, tmp_path)
    left = [d for d in expected if len(d.text) > middle]
    assert 0 < done.samples == len(left) < len(expected)
    assert slow_read(tmp_path / "part-00000") == [[*d.text.encode()] for d in left]
    assert np.load(tmp_path / "part-00000.document.npy").tolist() == [d.index for d in left]


@pytest.mark.processes
@pytest.mark.parametrize("token_bytes", [2, 4])
def test_the_real_library_reads_it_and_writes_the_same(token_bytes: int, released: Path, tmp_path: Path) -> None:
    if find_spec("megatron") is None or find_spec("torch") is None:
        pytest.skip("megatron-core is not installed")
    source = tokenized(documents(released), as_bytes, end_of_document=256, token_bytes=token_bytes)
    export_megatron(source, tmp_path / "ours")
    outcome = runs.python(
        Path(__file__).parent / "megatron_process.py", tmp_path / "ours/part-00000", tmp_path / "theirs"
    )
    assert outcome.returncode == 0, outcome.stderr
    found = json.loads(outcome.stdout.splitlines()[-1])
    assert found["tokens"] == slow_read(tmp_path / "ours/part-00000")
    assert found["bounds"] == list(range(133))
    assert found["code"] == {2: 8, 4: 4}[token_bytes]
    for suffix in (".bin", ".idx"):
        assert (tmp_path / f"ours/part-00000{suffix}").read_bytes() == (tmp_path / f"theirs{suffix}").read_bytes()
    # What Megatron looks up are places in the sidecars: the texts between the ends of documents are those documents'.
    compared = 0
    for tokens, places in found["samples"]:
        pieces = bytes(10 if token == 256 else token for token in tokens)  # an end is a line break here
        texts = [bytes(found["tokens"][place][:-1]) + b"\n" for place in places]
        assert any(b"".join(texts)[at:].startswith(pieces) for at in range(len(texts[0])))
        compared += len(places) > 2
    assert compared > 3
    check_weights(found["weighted"], list(documents(released, shuffled=False)))


def check_weights(samples: list[dict[str, list[float]]], expected: list[Document]) -> None:
    """Every label is of the document that is told, with its weight; each document's labels are its text in order."""
    for sample in samples:
        runs_of: list[tuple[float, list[float]]] = []
        for label, document, log_prior, mask in zip(
            *(sample[name] for name in ("labels", "document", "log_prior", "loss_mask")), strict=True
        ):
            assert (document == -1) <= (mask == 0)
            if document == -1:
                assert log_prior == 0
                continue
            assert log_prior == np.float32(expected[int(document)].log_prior)
            if not runs_of or runs_of[-1][0] != document:
                runs_of.append((document, []))
            runs_of[-1][1].append(label)
        for document, labels in runs_of:
            whole = [*expected[int(document)].text.encode(), 256]
            assert any(whole[at : at + len(labels)] == labels for at in range(len(whole)))
    assert len({log_prior for sample in samples for log_prior in sample["log_prior"]}) > 2
