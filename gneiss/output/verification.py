"""Verification: whether every file of an output is what its receipt says, and all rows are accounted for."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from gneiss.errors import InputError, OutputError, StoreError, first_line
from gneiss.output import layout, ledger
from gneiss.output.finished_run import FinishedRun, open_run
from gneiss.output.ledger import COMMITTED, CURATE, Receipt
from gneiss.output.manifests import Manifest
from gneiss.output.parquet import WrittenFile, read_footer
from gneiss.store.at_once import at_once
from gneiss.store.place import Address, Place, place_of

#: The stages whose tasks write the files that an output is made of.
_LAST_STAGES = (CURATE, "reshard", "mix", "extract")
#: What becomes of rows, of a run and of an extraction: in each, they add up to the rows that came in.
_FATES = (("kept", "dropped", "quarantined"), ("documents", "skipped", "quarantined"))
#: Folders in which nothing lies that no receipt names.
_RECEIPTED = (layout.DATA, layout.BASE, layout.QUARANTINE, layout.SKIPPED, layout.STATISTICS)


@dataclass(frozen=True)
class Problem:
    """What is wrong with a file of an output; path: in it."""

    path: str
    what: str


@dataclass(frozen=True)
class Verified:
    """What was verified of an output, and what is wrong with it."""

    output: Place
    tasks: int
    files: int
    size_bytes: int
    rows: int
    layers: tuple[str, ...]
    problems: tuple[Problem, ...]


def verify(output: Address) -> Verified:
    """Check every file of an output against its receipt: bytes, rows, layers, index, unknown files.

    Raises InputError if there is no run, OutputError while a driver writes to the output, StoreError.

    >>> from gneiss import verify
    >>> verify("curated").problems  # doctest: +SKIP
    ()
    """
    folder = place_of(output)
    try:
        if (folder / layout.RUN_FILE).find() is None:
            raise InputError(f"{folder}: no run here: expected {layout.RUN_FILE}; name the output of `gneiss run`")
        if holder := (folder / layout.LOCK_FILE).holder():
            raise OutputError(f"{folder}: {holder.name} is writing here; verify it when that has ended")
        there = {file.name: file.size_bytes for file in folder.files()}
    except OSError as error:
        raise InputError(f"{folder}: cannot read: {first_line(error)}") from error
    receipts, problems = _receipts(folder, there)
    written = [file for receipt in receipts for file in receipt.files]
    kept, found = _index_files(folder, there)
    problems += found
    written += kept
    problems += [found for found in at_once(lambda file: _damage(folder, file, there), written) if found]
    problems += [
        Problem(receipt.files[-1].path if receipt.files else receipt.task, what)
        for receipt in receipts
        for what in _lost(receipt)
    ]
    problems += _orphans(receipts, there)
    run, found = _whole(folder, receipts, there)
    problems += found
    layers: list[str] = []
    if run is not None and not problems:
        layers, found = _layers(run, there)
        problems += found
    rows, size = sum(receipt.rows or 0 for receipt in receipts), sum(file.size_bytes for file in written)
    return Verified(folder, len(receipts), len(written), size, rows, tuple(layers), tuple(problems))


def _receipts(folder: Place, there: Mapping[str, int]) -> tuple[list[Receipt], list[Problem]]:
    """The receipts of the tasks that wrote the output; of one that the ledger lacks, what its last file says."""
    latest: dict[tuple[str, str], Receipt] = {}
    for entry in ledger.entries(folder):
        if entry.stage in _LAST_STAGES:
            latest[entry.stage, entry.task] = entry
    known = [receipt for receipt in latest.values() if receipt.state == COMMITTED]
    named = {file.path for receipt in known for file in receipt.files}
    problems = []
    for path in sorted(there.keys() - named):
        if path.startswith((f"{layout.BASE}/", f"{layout.SKIPPED}/")):
            receipt = ledger.receipt_of(folder, path)
            if receipt is None:
                problems.append(
                    Problem(path, "no receipt is in the ledger or in its footer, or a file of it is damaged")
                )
            else:
                known.append(receipt)
    return known, problems


def _index_files(folder: Place, there: Iterable[str]) -> tuple[list[WrittenFile], list[Problem]]:
    """The files of an index, as its manifests have them."""
    files: list[WrittenFile] = []
    problems = []
    for path in sorted(path for path in there if layout.INDEX_FILE.fullmatch(path)):
        try:
            files += Manifest.read(folder / path).written
        except (OSError, ValueError) as error:
            problems.append(Problem(path, f"cannot be read: {first_line(error)}"))
    return files, problems


def _damage(folder: Place, file: WrittenFile, there: Mapping[str, int]) -> Problem | None:
    """What a file has that it did not have when it was written."""
    if (size := there.get(file.path)) is None:
        return Problem(file.path, "missing")
    if size != file.size_bytes:
        return Problem(file.path, f"expected {file.size_bytes} bytes, found {size}")
    try:
        checksum = (folder / file.path).checksum()
    except (OSError, StoreError) as error:
        return Problem(file.path, f"cannot be read: {first_line(error)}")
    if checksum != file.checksum:
        return Problem(file.path, f"expected the checksum {file.checksum} (xxh3-128), found {checksum}")
    return None


def _lost(receipt: Receipt) -> Iterator[str]:
    """Rows of a task that its receipt does not account for."""
    counts = receipt.counts
    fates = next((fate for fate in _FATES if fate[0] in counts), None)
    if fates is None or (total := sum(counts.get(name, 0) for name in fates)) != receipt.rows:
        yield f"{receipt.rows} rows came in, and {total if fates else 'none'} are accounted for"
    if not fates or fates[0] != "kept":
        return
    expected = {layout.DATA: counts["kept"], layout.BASE: receipt.rows, layout.QUARANTINE: counts["quarantined"]}
    for name, rows in expected.items():
        files = [file for file in receipt.files if file.path.startswith(f"{name}/")]
        found = sum(file.rows for file in files)
        if found != rows and not (name == layout.QUARANTINE and receipt.stage != CURATE):
            yield f"expected {rows} rows in {name}/, found {found}"


def _orphans(receipts: Iterable[Receipt], there: Iterable[str]) -> Iterator[Problem]:
    """Files that no receipt names."""
    receipts = list(receipts)
    named = {file.path for receipt in receipts for file in receipt.files}
    is_resharded = any(receipt.stage == "reshard" for receipt in receipts)
    moved = layout.QUARANTINE if is_resharded else None  # files of the first run
    for path in sorted(there):
        folder = next((name for name in _RECEIPTED if path.startswith(f"{name}/")), None)
        if folder not in (None, moved) and path not in named:
            yield Problem(path, "no receipt names it")


def _whole(
    folder: Place, receipts: Sequence[Receipt], there: Mapping[str, int]
) -> tuple[FinishedRun | None, list[Problem]]:
    """The run, if it is finished, and where its counts are not those of its receipts."""
    totals = Counter[str]()
    for receipt in receipts:
        totals.update({"rows": receipt.rows or 0, **receipt.counts})
    if layout.EXTRACTION_FILE in there:
        found = json.loads((folder / layout.EXTRACTION_FILE).read())
        counts = {"records": totals["rows"], "documents": totals["documents"]}
        return None, list(_differing(layout.EXTRACTION_FILE, counts, found))
    if layout.STATISTICS_FILE not in there:
        return None, [Problem(layout.STATISTICS_FILE, "missing: the run is not finished; the same command resumes it")]
    try:
        run = open_run(folder)
    except InputError as error:
        return None, [Problem(layout.STATISTICS_FILE, first_line(error))]
    counts = {name: totals[name] for name in ("rows", "kept", "dropped", "quarantined")}
    problems = list(_differing(layout.STATISTICS_FILE, counts, run.counts))
    held = {id_ for id_ in run.quarantined_shards if layout.annotations_path(id_) in there}
    problems += [Problem(layout.annotations_path(id_), "there, although its shard is quarantined") for id_ in held]
    try:
        files = (path for path in there if path.startswith(f"{layout.QUARANTINE}/"))
        quarantined = sum(read_footer(folder / path).num_rows for path in files)
    except (OSError, pa.ArrowException) as error:
        return run, [*problems, Problem(layout.QUARANTINE, f"a file of it cannot be read: {first_line(error)}")]
    if quarantined != totals["quarantined"]:
        what = f"expected {totals['quarantined']} rows in its files together, found {quarantined}"
        problems.append(Problem(layout.QUARANTINE, what))
    return run, problems


def _differing(path: str, counts: Mapping[str, int], found: Mapping[str, int]) -> Iterator[Problem]:
    for name, count in counts.items():
        if found[name] != count:
            yield Problem(path, f"{found[name]} {name}, but {count} by the receipts")


def _layers(run: FinishedRun, there: Mapping[str, int]) -> tuple[list[str], list[Problem]]:
    """The whole layers of a run, and what is wrong with its layers: rows, ids, what nobody wrote."""
    problems: list[Problem] = []
    files = {path for path in there if path.startswith(f"{layout.LAYERS}/")}
    names = sorted(path.removeprefix(f"{layout.LAYERS}/").removesuffix(".json") for path in files)
    expected = {layout.annotations_path(shard.id, name) for name in names for shard in run.shards}
    for path in sorted(there):
        is_of_layer = path.startswith(f"{layout.ANNOTATIONS}/") and not path.startswith(f"{layout.BASE}/")
        if is_of_layer and path not in expected:
            problems.append(Problem(path, "of no whole layer, or of no shard of the run"))
    for name in names:
        try:
            run.layers([name])
            for shard in run.shards:
                for _ in run.batches(shard, [], [name]):
                    pass
        except (InputError, OSError, pa.ArrowException) as error:
            problems.append(Problem(layout.layer_file(name), first_line(error)))
    return names, problems
