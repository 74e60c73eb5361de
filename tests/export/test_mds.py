"""MDS: read back by a slow reader of the published format, and by the real library where it is installed."""

from __future__ import annotations

import json
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xxhash

from gneiss.errors import OutputError
from gneiss.export.mds import DOCUMENT_COLUMNS, SEQUENCE_COLUMNS, export_mds
from gneiss.loader.packed_files import pack, packed
from gneiss.loader.packing import sequences
from gneiss.loader.reader import documents
from tests import runs


def slow_read(folder: Path) -> list[dict[str, Any]]:
    """Every sample, by the description of the format."""
    found = []
    for shard in json.loads((folder / "index.json").read_text())["shards"]:
        content = (folder / shard["raw_data"]["basename"]).read_bytes()
        assert shard["raw_data"]["bytes"] == len(content)
        assert shard["raw_data"]["hashes"]["xxh64"] == xxhash.xxh64_hexdigest(content)
        count = int.from_bytes(content[:4], "little")
        assert count == shard["samples"]
        bounds = np.frombuffer(content, "<u4", count + 1, 4).tolist()
        config = json.loads(content[4 + 4 * (count + 1) : bounds[0]])
        assert bounds[-1] == len(content)
        for start, stop in pairwise(bounds):
            found.append(slow_decode(content[start:stop], config))
    return found


def slow_decode(sample: bytes, config: dict[str, Any]) -> dict[str, Any]:
    at = 4 * config["column_sizes"].count(None)
    varying = iter(np.frombuffer(sample, "<u4", at // 4).tolist())
    values: dict[str, Any] = {}
    columns = zip(config["column_names"], config["column_encodings"], config["column_sizes"], strict=True)
    for name, encoding, size in columns:
        data = sample[at : at + (size or (size := next(varying)))]
        at += size
        if encoding == "str":
            values[name] = data.decode()
        elif encoding.startswith("ndarray:"):
            assert data[0] >> 2 == 1
            width = 1 << (data[0] & 3)
            values[name] = np.frombuffer(data[1 + width :], encoding.removeprefix("ndarray:"))
            assert len(values[name]) == int.from_bytes(data[1 : 1 + width], "little")
        else:
            (values[name],) = np.frombuffer(data, encoding).tolist()
    assert at == len(sample)
    return values


@pytest.fixture(scope="module")
def packed_folder(released: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    pack(sequences(documents(released), "builtin:cl100k_base", 300), folder)
    return folder


def test_documents_come_with_ids_and_weights(released: Path, tmp_path: Path) -> None:
    done = export_mds(documents(released, seed=9), tmp_path / "mds", file_bytes=20_000)
    assert done.files > 2
    expected = [
        {"document": d.index, "id": d.id, "shard": d.shard, "row": d.row, "text": d.text, "log_prior": d.log_prior}
        for d in documents(released, shuffled=False)
    ]
    assert slow_read(tmp_path / "mds") == expected
    assert done.samples == len(expected)
    assert all(path.stat().st_size <= 20_000 for path in (tmp_path / "mds").glob("*.mds"))


def test_sequences_come_with_their_packing_map(packed_folder: Path, tmp_path: Path) -> None:
    export_mds(packed(packed_folder), tmp_path / "mds")
    for found, expected in zip(slow_read(tmp_path / "mds"), packed(packed_folder, shuffled=False), strict=True):
        assert found["sequence"] == expected.id
        assert found["log_prior"] == expected.log_prior
        assert np.array_equal(found["tokens"], expected.tokens)
        assert np.array_equal(found["span_document"], expected.spans.document)
        assert np.array_equal(found["span_document_start"], expected.spans.document_start)


def test_an_export_begins_anew_or_not_at_all(released: Path, tmp_path: Path) -> None:
    export_mds(documents(released), tmp_path / "mds")
    with pytest.raises(OutputError, match=r"expected an empty folder, found 'index.json'"):
        export_mds(documents(released), tmp_path / "mds")
    (tmp_path / "mds/index.json").unlink()  # as a killed one leaves it
    export_mds(documents(released), tmp_path / "mds")
    assert len(slow_read(tmp_path / "mds")) == 132
    (tmp_path / "mds/index.json").unlink()
    (tmp_path / "mds/shard.00001.mds").write_bytes(b"left")
    with pytest.raises(OutputError, match="left by another export"):
        export_mds(documents(released), tmp_path / "mds")


@pytest.mark.processes
@pytest.mark.parametrize("what", ["documents", "sequences"])
def test_the_real_library_reads_it_and_writes_the_same(
    released: Path, packed_folder: Path, tmp_path: Path, what: str
) -> None:
    if find_spec("streaming") is None:
        pytest.skip("mosaicml-streaming is not installed")
    source = documents(released) if what == "documents" else packed(packed_folder)
    columns = DOCUMENT_COLUMNS if what == "documents" else SEQUENCE_COLUMNS
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    done = export_mds(source, ours, file_bytes=30_000)
    outcome = runs.python(Path(__file__).parent / "streaming_process.py", ours, theirs, json.dumps(columns))
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout.split()[-1] == str(done.samples)
    written = {path.name: path.read_bytes() for path in ours.iterdir() if path.is_file()}
    assert done.files > 1
    assert {path.name: path.read_bytes() for path in theirs.iterdir() if path.suffix == ".mds"} == {
        name: content for name, content in written.items() if name.endswith(".mds")
    }
    assert json.loads(written["index.json"]) == json.loads((theirs / "index.json").read_text())
