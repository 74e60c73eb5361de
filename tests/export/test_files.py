"""What exports share: refusals, folders that are complete or begun anew, files of bounded size; the command."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from gneiss.cli.main import app
from gneiss.errors import InputError, OutputError
from gneiss.export.files import Export, Source, parts, tokenized
from gneiss.export.hf_datasets import export_hf
from gneiss.export.mds import export_mds
from gneiss.export.megatron import export_megatron
from gneiss.export.olmo import export_olmo
from gneiss.loader.packed_files import pack, packed
from gneiss.loader.packing import sequences
from gneiss.loader.reader import documents
from gneiss.store.place import place_of

OF_SAMPLES = [export_mds, export_hf]
OF_TOKENS = [export_megatron, export_olmo]
INDICES = {
    export_mds: "index.json",
    export_hf: "export.json",
    export_megatron: "export.json",
    export_olmo: "export.json",
}


def as_bytes(text: str) -> npt.NDArray[np.int32]:
    return np.frombuffer(text.encode(), np.uint8).astype(np.int32)


def source_of(export: Export, output: Path) -> Source:
    whole = documents(output)
    return tokenized(whole, as_bytes, end_of_document=256) if export in OF_TOKENS else whole


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@given(st.lists(st.integers(0, 9)), st.integers(0, 20), st.integers(1, 4) | st.none())
def test_parts_are_as_full_as_they_may_be(sizes: list[int], limit: int, most: int | None) -> None:
    found = [(number, list(part)) for number, part in parts(sizes, int, limit, most)]
    assert [number for number, _ in found] == list(range(len(found)))
    assert [size for _, part in found for size in part] == sizes
    bound = most or len(sizes)
    for i, (_, part) in enumerate(found):
        assert part
        assert len(part) == 1 or (sum(part) <= limit and len(part) <= bound)
        if i + 1 < len(found):
            assert sum(part) + found[i + 1][1][0] > limit or len(part) == bound


@pytest.mark.parametrize("export", [*OF_SAMPLES, *OF_TOKENS])
@pytest.mark.parametrize("where", [".", "exported", "data/deeper", ".."])
@pytest.mark.slow
def test_a_run_is_not_exported_into_itself(
    export: Export, where: str, released: Path, copy_of: Callable[[Path], Path]
) -> None:
    output = copy_of(released)
    before = sorted(output.parent.rglob("*"))
    with pytest.raises(OutputError, match="overlap; choose another output"):
        export(source_of(export, output), output / where)
    assert sorted(output.parent.rglob("*")) == before


@pytest.mark.parametrize("export", [*OF_SAMPLES, *OF_TOKENS])
def test_an_export_is_the_same_again_begins_anew_or_not_at_all(export: Export, released: Path, tmp_path: Path) -> None:
    folder, index = tmp_path / "there", INDICES[export]
    done = export(source_of(export, released), folder)
    first = contents(folder)
    assert (done.folder, done.samples, done.files) == (place_of(folder), 132, 1)
    with pytest.raises(OutputError, match=f"expected an empty folder, found '{index}'"):
        export(source_of(export, released), folder)

    (folder / index).unlink()  # as a killed one leaves it
    victim = min(path for path in folder.iterdir() if path.is_file())
    victim.write_bytes(b"cut off")
    (folder / f".{victim.name}.123.part").write_bytes(b"half")
    (folder / f".{index}.123.part").write_bytes(b"half")
    export(source_of(export, released), folder)
    assert contents(folder) == first

    (folder / index).unlink()
    with place_of(folder / "_gneiss/lock").lock(), pytest.raises(OutputError, match="another run is writing here"):
        export(source_of(export, released), folder)
    victim.with_name(victim.name.replace("00000", "00001")).write_bytes(b"left")
    with pytest.raises(OutputError, match=r"00001.*: left by another export; choose another folder"):
        export(source_of(export, released), folder)
    assert not (folder / index).exists()


@pytest.mark.parametrize("export", [*OF_SAMPLES, *OF_TOKENS])
def test_a_failed_export_has_no_index_and_no_temporary_files(
    export: Export, released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_of(export, released)
    kind = type(documents(released))
    read = kind.read

    def failing(self: object, epoch: int, start: int, end: int) -> Iterator[object]:
        for i, document in enumerate(read(self, epoch, start, end)):  # type: ignore[arg-type]
            if i == 100:
                raise InputError("no more")
            yield document

    monkeypatch.setattr(kind, "read", failing)
    with pytest.raises(InputError, match="no more"):
        export(source, tmp_path / "there")
    left = list((tmp_path / "there").glob("*")) if (tmp_path / "there").exists() else []
    assert not [path for path in left if path.name.startswith(".") or path.name == INDICES[export]]
    monkeypatch.setattr(kind, "read", read)
    assert export(source, tmp_path / "there").samples == 132


def test_a_file_of_mds_is_as_full_as_its_limit_allows(released: Path, tmp_path: Path) -> None:
    export_mds(documents(released), tmp_path / "one", file_bytes=10_000_000)
    (path,) = (tmp_path / "one").glob("*.mds")
    size = path.stat().st_size
    size += len(str(size)) - len("10000000")  # the limit is told in the file
    assert export_mds(documents(released), tmp_path / "exact", file_bytes=size).files == 1
    assert (tmp_path / "exact/shard.00000.mds").stat().st_size == size
    assert export_mds(documents(released), tmp_path / "less", file_bytes=size - 1).files == 2


@pytest.mark.parametrize("export", OF_SAMPLES)
def test_what_packs_nothing_takes_no_tokenizer(export: Export, released: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected documents or packed sequences, found a tokenizer"):
        export(tokenized(documents(released), as_bytes), tmp_path / "there")


@pytest.mark.parametrize("export", OF_TOKENS)
@pytest.mark.slow
def test_what_packs_by_itself_takes_a_tokenizer(export: Export, released: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a tokenizer for the documents"):
        export(documents(released), tmp_path / "there")
    pack(sequences(documents(released), "builtin:cl100k_base", 300), tmp_path / "packed")
    with pytest.raises(InputError, match="expected the output of a run, found packed sequences"):
        export(packed(tmp_path / "packed"), tmp_path / "there")


@pytest.mark.parametrize(
    ("token_bytes", "encode", "message"),
    [
        (2, lambda text: [1 << 16], "from 0 to 65535, found 6 to 65536"),
        (4, lambda text: [5, 1 << 31], "from 0 to 2147483647, found 5 to 2147483648"),
        (4, lambda text: [7, -1], "from 0 to 2147483647, found -1 to 7"),
    ],
)
@pytest.mark.parametrize("export", OF_TOKENS)
def test_tokens_that_do_not_fit_are_refused(
    export: Export, token_bytes: int, encode: Callable[[str], list[int]], message: str, released: Path, tmp_path: Path
) -> None:
    source = tokenized(documents(released), encode, end_of_document=6, token_bytes=token_bytes)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=f"expected tokens of {token_bytes} bytes, {message}; take token_bytes=4"):
        export(source, tmp_path / "there")


def test_settings_are_checked(released: Path) -> None:
    source = partial(tokenized, documents(released), as_bytes)
    with pytest.raises(InputError, match="token_bytes 3: expected 2 or 4"):
        source(token_bytes=3)
    for token_bytes, end in ((2, 1 << 16), (4, 1 << 31), (4, -1)):
        with pytest.raises(InputError, match="expected a token id that fits"):
            source(token_bytes=token_bytes, end_of_document=end)


@pytest.mark.slow
def test_the_command_picks_a_format_by_name(released: Path, tmp_path: Path) -> None:
    def said(*arguments: str | Path) -> str:
        ended = CliRunner().invoke(app, ["export", *map(str, arguments)], catch_exceptions=False)
        assert ended.exit_code == 0, ended.output
        return ended.output

    tokens = ("--tokenizer", "builtin:cl100k_base", "--end-of-document", "100257")
    assert "132 documents in 1 files" in said(released, "--format", "hf", "-o", tmp_path / "hf")
    assert "132 documents in 1 files" in said(released, "--format", "olmo", *tokens, "-o", tmp_path / "olmo")
    assert "132 documents in 1 files" in said(released, "--format", "megatron", *tokens, "-o", tmp_path / "megatron")
    pack(sequences(documents(released), "builtin:cl100k_base", 300), tmp_path / "packed")
    with pytest.raises(InputError, match="packed sequences are tokens already"):
        said(tmp_path / "packed", "--format", "hf", *tokens, "-o", tmp_path / "other")
    for option in (("--end-of-document", "3"), ("--token-bytes", "2")):
        with pytest.raises(InputError, match="--end-of-document and --token-bytes need --tokenizer"):
            said(released, *option, "-o", tmp_path / "other")
