"""Indexes: what a finished run leaves, on request, so that later documents are compared with its own.

An index has a segment for the first run of an output and for each of its increments, and a manifest in each for every
step that sees the corpus. A segment that is there is never written again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa

from gneiss.corpus_steps import CorpusStep
from gneiss.errors import InputError, first_line
from gneiss.output.layout import RUN_FILE, index_file, index_folder
from gneiss.output.manifests import Manifest
from gneiss.output.parquet import WrittenFile
from gneiss.stages.exchange import Exchange
from gneiss.store.place import Place, place_of


@dataclass(frozen=True)
class KeptSegment:
    """A segment of the index of a step: see Segment. folder: the output; counts: tasks of each kept stage."""

    folder: Place
    increment: int
    key: str
    against: int | None
    shards: tuple[tuple[str, int], ...]
    before: int
    counts: Mapping[str, int]

    def tasks(self, stage: str) -> int:
        """See Segment."""
        return self.counts.get(self._name(stage), 0)

    def batches(self, stage: str, task: int) -> Iterator[pa.RecordBatch]:
        """See Segment. Raises OutputError."""
        return self._files.batches(self._name(stage), task)

    def read(self, stage: str, task: int, first: int, end: int) -> Sequence[pa.RecordBatch]:
        """See Segment. Raises OutputError."""
        return self._files.read(self._name(stage), task, first, end)

    @property
    def written(self) -> list[WrittenFile]:
        """The files in it, as its manifest has them. Raises InputError."""
        return _manifest(self.folder, self.key, self.increment).written

    @property
    def _files(self) -> Exchange:
        return Exchange(self.folder, index_folder(self.increment))

    def _name(self, stage: str) -> str:
        return f"{self.key}_{stage}"


def other_output(address: str, folder: Path) -> Place:
    """An output that a step is run `against`; a relative path is resolved against the recipe's folder."""
    return place_of(address if "://" in address else folder / address)


def segments_against(step: CorpusStep, folder: Path) -> tuple[KeptSegment, ...]:
    """The segments of all outputs that a step is run against. Raises InputError where one has no fitting index."""
    outputs = (other_output(address, folder) for address in step.against)
    return tuple(segment for number, output in enumerate(outputs) for segment in segments_of(output, step, number))


def checksums_against(steps: Iterable[CorpusStep], folder: Path) -> dict[str, str]:
    """Output that steps are run against → sha256 over the manifests of its indexes. Raises InputError."""
    digests: dict[str, Any] = {}
    for step in steps:
        for address in step.against:
            digest = digests.setdefault(address, hashlib.sha256())
            for manifest in _manifests(other_output(address, folder), step):
                digest.update(json.dumps(asdict(manifest), sort_keys=True).encode())
    return {address: digest.hexdigest() for address, digest in digests.items()}


def refuse_other_models(steps: Iterable[CorpusStep], folder: Path, checksums: Mapping[str, str]) -> None:
    """Refuse an index that steps are run against, and was made with other model files. Raises InputError.

    checksums: of the model files of these steps, by source.
    """
    for step in steps:
        for output in (other_output(address, folder) for address in step.against):
            for manifest in _manifests(output, step):
                if manifest.models != (own := [checksums[source] for source in step.model_files]):
                    raise InputError(
                        f"{output}: its index of {step.key} was made with another file than"
                        f" {', '.join(step.model_files)}: expected the checksum {', '.join(own)} (sha256), found"
                        f" {', '.join(manifest.models)}; give both runs the same"
                    )


def segments_of(output: Place, step: CorpusStep, against: int | None = None) -> tuple[KeptSegment, ...]:
    """All segments of the index that an output has of a step. Raises InputError."""
    return tuple(
        KeptSegment(
            output,
            increment,
            step.key,
            against,
            tuple((id_, rows) for id_, rows in manifest.shards),
            manifest.before,
            manifest.tasks,
        )
        for increment, manifest in enumerate(_manifests(output, step))
    )


def count_segments(output: Place, step: CorpusStep) -> int:
    """How many segments the index of a step has."""
    return next(number for number in count() if (output / index_file(step.key, number)).find() is None)


def _manifests(output: Place, step: CorpusStep) -> list[Manifest]:
    """The manifests of an index, checked. Raises InputError where there is none, or one of other parameters."""
    found = []
    for increment in count():
        try:
            found.append(_manifest(output, step.key, increment))
        except FileNotFoundError:
            break
    if not found:
        is_run = (output / RUN_FILE).find() is not None
        advice = "make one by its run, with keep_index" if is_run else "expected the output of a run"
        raise InputError(f"{output}: it has no index of {step.key}; {advice}")
    for manifest in found:
        _refuse_other_parameters(output, step, manifest.parameters)
    return found


def _manifest(output: Place, key: str, increment: int) -> Manifest:
    """Raises FileNotFoundError where there is none, InputError where it cannot be read."""
    place = output / index_file(key, increment)
    try:
        return Manifest.read(place)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"{place}: cannot read: {first_line(error)}") from error


def _refuse_other_parameters(output: Place, step: CorpusStep, found: Mapping[str, Any]) -> None:
    wanted = json.loads(json.dumps(step.index_parameters))
    for name in sorted({*wanted, *found}):
        if (mine := wanted.get(name)) != (theirs := found.get(name)):
            raise InputError(
                f"{output}: its index of {step.key} was made with {name} {theirs!r}, and is to be read with {mine!r};"
                " give both runs the same"
            )
