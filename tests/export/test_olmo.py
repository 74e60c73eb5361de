"""OLMo-core: read back by a slow reader of the published format, and by the real library where it is installed."""

from __future__ import annotations

import csv
import gzip
import json
import math
import struct
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from gneiss.errors import InputError
from gneiss.export.files import TokenizedDocuments, tokenized
from gneiss.export.olmo import COLUMNS, export_olmo, instance_log_priors
from gneiss.loader.reader import Document, Documents, documents
from tests import runs
from tests.export.test_files import as_bytes

FORMS = {"uint16": "H", "uint32": "I"}


def source_of(released: Path, token_bytes: int = 2) -> TokenizedDocuments:
    return tokenized(documents(released, seed=9), as_bytes, end_of_document=256, token_bytes=token_bytes)


def slow_read(folder: Path) -> list[tuple[list[int], list[dict[str, str]]]]:
    """Of each file: its tokens, and its documents."""
    metadata = json.loads((folder / "export.json").read_text())
    found = []
    for file in metadata["files"]:
        content = (folder / f"{file['name']}.npy").read_bytes()
        tokens = [token for (token,) in struct.iter_unpack(f"<{FORMS[metadata['dtype']]}", content)]
        with gzip.open(folder / f"{file['name']}.csv.gz", "rt", encoding="utf-8", newline="") as lines:
            rows = [dict(zip(COLUMNS, line, strict=True)) for line in csv.reader(lines)]
        assert (len(rows), len(tokens)) == (file["documents"], file["tokens"])
        found.append((tokens, rows))
    return found


@pytest.mark.parametrize("token_bytes", [2, 4])
def test_documents_come_with_ids_and_weights(token_bytes: int, released: Path, tmp_path: Path) -> None:
    done = export_olmo(source_of(released, token_bytes), tmp_path / "olmo", file_tokens=20_000)
    expected = list(documents(released, shuffled=False))
    files = slow_read(tmp_path / "olmo")
    assert (done.samples, done.files) == (len(expected), len(files))
    assert len(files) > 2
    assert all(len(rows) == 1 or len(tokens) <= 20_000 for tokens, rows in files)
    for tokens, rows in files:
        at = 0
        for row in rows:
            document = expected.pop(0)
            end = at + len(document.text.encode()) + 1
            place = (document.id, document.shard, str(document.row), str(document.index), repr(document.log_prior))
            assert tuple(row.values()) == (str(at), str(end), *place)
            assert tokens[at:end] == [*document.text.encode(), 256]
            at = end
        assert at == len(tokens)
    assert not expected


@pytest.mark.parametrize("length", [1, 7, 300, 25_000])
def test_an_instance_weighs_the_mean_of_its_tokens(length: int, released: Path, tmp_path: Path) -> None:
    export_olmo(source_of(released), tmp_path / "olmo", file_tokens=20_000)
    expected = []
    for tokens, rows in slow_read(tmp_path / "olmo"):
        weights = [math.exp(float(row["log_prior"])) for row in rows for _ in range(int(row["start"]), int(row["end"]))]
        expected += [
            math.log(math.fsum(weights[at : at + length]) / length) for at in range(0, len(tokens) - length + 1, length)
        ]
    found = instance_log_priors(tmp_path / "olmo", length)
    assert found.dtype == np.float32
    assert found.shape == (len(expected),)
    assert np.allclose(found, expected, rtol=0, atol=1e-6)
    assert length == 25_000 or len(set(expected)) > 1


def test_a_hostile_id_stays_in_its_line(released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = ['a"b,c', "one\ntwo\r\nthree", "\x0b\x1c\u2028", ",,", "x" * 200_000, ""]
    plain = Documents.read

    def read(self: Documents, epoch: int, start: int, end: int) -> list[Document]:
        there = enumerate(plain(self, epoch, start, end))
        return [replace(document, id=ids[i % len(ids)] or None) for i, document in there]

    monkeypatch.setattr(Documents, "read", lambda *given: iter(read(*given)))
    export_olmo(source_of(released), tmp_path)
    csv.field_size_limit(1 << 20)
    ((_, rows),) = slow_read(tmp_path)
    csv.field_size_limit(1 << 17)
    assert [row["id"] for row in rows[:6]] == ['a"b,c', "one two  three", *ids[2:]]
    lines = gzip.decompress((tmp_path / "part-00000.csv.gz").read_bytes()).decode().split("\n")
    assert len(lines) == 133
    assert [int(line.split(",")[0]) for line in lines[:-1]] == [int(row["start"]) for row in rows]
    monkeypatch.undo()
    found = instance_log_priors(tmp_path, 50)
    export_olmo(source_of(released), tmp_path / "plain")
    assert np.array_equal(found, instance_log_priors(tmp_path / "plain", 50))


def test_documents_need_an_end(released: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected an end_of_document"):
        export_olmo(tokenized(documents(released), as_bytes), tmp_path)


def test_weights_of_something_else_are_refused(released: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"export.json: no OLMo-core export here \(.*No such file"):
        instance_log_priors(tmp_path, 300)
    export_olmo(source_of(released), tmp_path)
    with pytest.raises(InputError, match="sequence_length 0"):
        instance_log_priors(tmp_path, 0)
    path = tmp_path / "part-00000.csv.gz"
    whole = path.read_bytes()
    for broken in (
        b"",
        whole[:100],
        whole[:50] + b"\xff" * 50 + whole[100:],
        gzip.compress(b"0\n", mtime=0),
        gzip.compress(b"\xff", mtime=0),
    ):
        path.write_bytes(broken)
        with pytest.raises(InputError, match="no OLMo-core export here"):
            instance_log_priors(tmp_path, 300)


@pytest.mark.processes
def test_the_real_library_reads_it(released: Path, tmp_path: Path) -> None:
    if find_spec("olmo_core") is None:
        pytest.skip("ai2-olmo-core is not installed")
    export_olmo(source_of(released), tmp_path / "olmo", file_tokens=20_000)
    files = slow_read(tmp_path / "olmo")
    paths = sorted((tmp_path / "olmo").glob("*.npy"))
    outcome = runs.python(Path(__file__).parent / "olmo_process.py", "300", "uint16", "256", *paths)
    assert outcome.returncode == 0, outcome.stderr
    found = json.loads(outcome.stdout.splitlines()[-1])
    bounds = [[[int(row["start"]), int(row["end"])] for row in rows] for _, rows in files]
    assert found["told"] == bounds
    assert found["seen"] == bounds
    expected = [tokens[at : at + 300] for tokens, _ in files for at in range(0, len(tokens) - 299, 300)]
    assert found["instances"] == expected
    assert len(instance_log_priors(tmp_path / "olmo", 300)) == len(expected)
