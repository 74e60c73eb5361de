"""ArrayRecord: Grain reads the records at random, and they are the examples that protobuf reads."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.errors import InputError, MachineError
from gneiss.export import export_arrayrecord, export_hf, tokenized
from gneiss.export.arrayrecord import example
from gneiss.loader import documents, packed, sequences
from gneiss.loader.packed_files import pack

KINDS = {"bytes_list": "bytes", "float_list": "float", "int64_list": "int64"}


@pytest.fixture(scope="module")
def parse() -> Any:
    """From a serialized `tf.train.Example` to its features, by protobuf."""
    protobuf = pytest.importorskip("google.protobuf", reason="needs protobuf")
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    field, file = descriptor_pb2.FieldDescriptorProto, descriptor_pb2.FileDescriptorProto()
    file.name, file.package, file.syntax = "example.proto", "t", "proto3"

    def message(name: str, *fields: tuple[str, int, int, int, str]) -> None:
        made = file.message_type.add(name=name)
        for label, number, of, kind, type_name in fields:
            made.field.add(name=label, number=number, label=of, type=kind, type_name=type_name or None)

    one, many = field.LABEL_OPTIONAL, field.LABEL_REPEATED
    message("BytesList", ("value", 1, many, field.TYPE_BYTES, ""))
    message("FloatList", ("value", 1, many, field.TYPE_FLOAT, ""))
    message("Int64List", ("value", 1, many, field.TYPE_INT64, ""))
    lists = [("bytes_list", 1, ".t.BytesList"), ("float_list", 2, ".t.FloatList"), ("int64_list", 3, ".t.Int64List")]
    message("Feature", *((name, at, one, field.TYPE_MESSAGE, of) for name, at, of in lists))
    message("Entry", ("key", 1, one, field.TYPE_STRING, ""), ("value", 2, one, field.TYPE_MESSAGE, ".t.Feature"))
    message("Features", ("feature", 1, many, field.TYPE_MESSAGE, ".t.Entry"))  # a map, as its entries
    message("Example", ("features", 1, one, field.TYPE_MESSAGE, ".t.Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    kind = message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Example"))
    assert protobuf

    def features(record: bytes) -> dict[str, list[Any]]:
        found = {}
        for entry in kind.FromString(record).features.feature:
            (name,) = (name for name in KINDS if entry.value.HasField(name))
            assert entry.key not in found
            found[entry.key] = list(getattr(entry.value, name).value)
        return found

    return features


INT64 = st.integers(-(2**63), 2**63 - 1)


@given(
    features=st.dictionaries(
        st.text(max_size=9),
        st.one_of(st.text(), INT64, st.floats(width=32, allow_nan=False), st.lists(INT64, min_size=1)),
    )
)
def test_examples_are_what_protobuf_reads(parse: Any, features: dict[str, Any]) -> None:
    expected = {
        name: [value.encode()] if isinstance(value, str) else value if isinstance(value, list) else [value]
        for name, value in features.items()
    }
    assert parse(example(features)) == expected


@pytest.mark.parametrize("what", ["documents", "sequences"])
def test_grain_reads_the_rows_of_parquet(released: Path, tmp_path: Path, parse: Any, what: str) -> None:
    pytest.importorskip("array_record", reason="needs array-record")
    if what == "documents":
        source: Any = documents(released, seed=9)
    else:
        pack(sequences(documents(released), "builtin:cl100k_base", 300), tmp_path / "packed")
        source = packed(tmp_path / "packed")
    done = export_arrayrecord(source, tmp_path / "out", file_bytes=20_000)
    export_hf(source, tmp_path / "hf")
    rows = [row for path in sorted((tmp_path / "hf").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    files = sorted((tmp_path / "out").glob("part-*"))
    assert (done.samples, done.files) == (len(rows), len(files))
    assert done.files > 2
    assert json.loads((tmp_path / "out/export.json").read_text())["format"] == "arrayrecord"
    grain = pytest.importorskip("grain", reason="needs grain")
    read = grain.sources.ArrayRecordDataSource(list(map(str, files)))
    assert len(read) == len(rows)
    for at in np.random.default_rng(0).permutation(len(rows)).tolist():
        found, row = parse(read[at]), rows[at]
        (log_prior,) = found.pop("log_prior")
        assert math.isclose(log_prior, row.pop("log_prior"), rel_tol=1e-6, abs_tol=1e-7)
        for name, column in [("text", None)] if what == "documents" else [("input_ids", None)]:
            value = row.pop(name)
            assert found.pop(name) == ([value.encode()] if isinstance(value, str) else value), column
        for span in ("document", "start", "length", "document_start") if what == "sequences" else ():
            assert found.pop(f"span_{span}") == [each[span] for each in row["spans"]]
        row.pop("spans", None)
        assert found == {
            name: [value.encode() if isinstance(value, str) else value]
            for name, value in row.items()
            if value is not None
        }
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.is_file()}
    (tmp_path / "out/export.json").unlink()  # killed before it was complete
    export_arrayrecord(source, tmp_path / "out", file_bytes=20_000)
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.is_file()} == before


def test_a_tokenizer_is_refused(released: Path, tmp_path: Path) -> None:
    pytest.importorskip("array_record", reason="needs array-record")
    with pytest.raises(InputError, match="arrayrecord: expected documents or packed sequences"):
        export_arrayrecord(tokenized(documents(released), "builtin:cl100k_base"), tmp_path)


def test_without_the_package_it_is_named(released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "array_record.python.array_record_module", None)
    with pytest.raises(MachineError, match=r"pip install 'gneiss-curation\[arrayrecord\]'"):
        export_arrayrecord(documents(released), tmp_path)
    assert not list(tmp_path.iterdir())
