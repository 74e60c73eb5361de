"""Every path of an output, of a run or of an extraction: relative to its folder, and spelled nowhere else."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from itertools import chain, islice

from gneiss.store.at_once import at_once
from gneiss.store.place import Place
from gneiss.store.store import File

DATA = "data"
ANNOTATIONS = "annotations"
BASE_LAYER = "base"
#: The annotations that a run writes; those of later layers lie beside it.
BASE = f"{ANNOTATIONS}/{BASE_LAYER}"
QUARANTINE = "quarantine"
SKIPPED = "skipped"
CARD_FILE = "README.md"
#: A page about the run, which the card links to where it is.
REPORT_FILE = "report.html"
#: Of a mixed corpus: of which runs it is, and by which plan.
MIXTURE_FILE = "mixture.json"
#: What gneiss needs to resume and to describe an output, and readers of its documents may ignore.
OWN = "_gneiss"
RUN_FILE = f"{OWN}/run.json"
RECIPE_FILE = f"{OWN}/recipe.yaml"
STATISTICS_FILE = f"{OWN}/statistics.json"
STATISTICS = f"{OWN}/statistics"
EXTRACTION_FILE = f"{OWN}/extraction.json"
#: How the files of a large input were cut.
CUTS_FILE = f"{OWN}/cuts.zst"
LOCK_FILE = f"{OWN}/lock"
#: Who holds a share of a run: `3-of-8`.
SHARES = f"{OWN}/shares"
LEDGER = f"{OWN}/ledger"
LAYERS = f"{OWN}/layers"
EXCHANGE = f"{OWN}/exchange"
#: Answers of heads, until the layer that they make is whole.
HEADS = f"{OWN}/heads"
#: What later runs need of this one's documents to compare theirs with them.
INDEX = f"{OWN}/index"
INDEX_FILE = re.compile(rf"{INDEX}/\d+/[^/]+\.json")
#: The output of a run whose documents are laid into new shards at its end, until they are.
CURATED = f"{OWN}/curated"
LOGS = f"{OWN}/logs"
#: A file of a shard: its id, and a format of documents.
_SHARD_FILE = re.compile(r"(.*)\.(?:parquet|jsonl|jsonl\.gz|jsonl\.zst)", re.DOTALL)
_STATISTICS_OF = re.compile(r"(.*)\.json", re.DOTALL)
#: What the name of a part of an archive's documents ends with.
_PART = re.compile(r"-\d{5}$")


def data_path(shard_id: str, format: str = "parquet") -> str:
    """The kept documents of a shard."""
    return f"{DATA}/{shard_id}.{format}"


def annotations_path(shard_id: str, layer: str = BASE_LAYER) -> str:
    """The annotations of a shard in a layer; that of `base` exists only once all other files of the shard do."""
    return f"{annotations_folder(layer)}/{shard_id}.parquet"


def annotations_folder(layer: str = BASE_LAYER) -> str:
    """The annotations of all shards in a layer."""
    return f"{ANNOTATIONS}/{layer}"


def answers_folder(layer: str) -> str:
    """The answers of all heads whose scores a layer is to have."""
    return f"{HEADS}/{layer}"


def answers_path(shard_id: str, layer: str, head: str) -> str:
    """The answers of a head for the documents of a shard."""
    return f"{answers_folder(layer)}/{head}/{shard_id}.parquet"


def layer_file(layer: str) -> str:
    """The metadata of a layer; this file exists only once the layer is whole."""
    return f"{LAYERS}/{layer}.json"


def quarantine_path(id_: str) -> str:
    """The quarantined rows of a shard, or records of an archive; there only if there are any."""
    return f"{QUARANTINE}/{id_}.parquet"


def statistics_path(shard_id: str) -> str:
    """The statistics and examples of a shard."""
    return f"{STATISTICS}/{shard_id}.json"


def shard_paths(shard_id: str, format: str) -> tuple[str, ...]:
    """Every file of a shard that a run writes; `format`: of its documents."""
    documents = data_path(shard_id, format)
    return documents, annotations_path(shard_id), quarantine_path(shard_id), statistics_path(shard_id)


def count_path(name: str, increment: int) -> str:
    """A count that only stages after `curate` know, of the shards of an increment."""
    return f"{OWN}/{name}-{increment:03d}.txt" if increment else f"{OWN}/{name}.txt"


def part_path(task_id: str, part: int) -> str:
    """A part of the documents of an archive."""
    return data_path(f"{task_id}-{part:05d}")


def skipped_path(task_id: str) -> str:
    """The skipped records of an archive; this file exists only once all others of the archive do."""
    return f"{SKIPPED}/{task_id}.parquet"


def task_files(output: Place) -> Iterator[tuple[str, str, File]]:
    """Each file that an extraction left for an archive: the archive's id, its path in the output, and the file."""
    for id_, path, file in _files_of(output, DATA, QUARANTINE, SKIPPED):
        yield (_PART.sub("", id_) if path.startswith(f"{DATA}/") else id_), path, file


def delete_tasks(output: Place, ids: Collection[str]) -> None:
    """Delete whatever was written of archives that could not be extracted. Raises OutputError."""
    if not ids:
        return
    for part in list(ids_in(output, DATA)):
        if _PART.sub("", part) in ids:
            (output / data_path(part)).delete()
    for id_ in ids:
        (output / quarantine_path(id_)).delete()
        (output / skipped_path(id_)).delete()


def shard_files(output: Place) -> Iterator[tuple[str, str, File]]:
    """Each file that a run left for a shard: the shard's id, its path in the output, and the file."""
    return _files_of(output, DATA, BASE, QUARANTINE, STATISTICS)


def new_shard_files(output: Place) -> Iterator[tuple[str, str, File]]:
    """The same of shards into which a run was laid out; what was quarantined keeps the names of the shards before."""
    return _files_of(output, DATA, BASE)


def traceback_path(kind: str) -> str:
    """The first traceback of a kind of defect."""
    return f"{LOGS}/{kind}.txt"


def ledger_segment(number: int) -> str:
    """A segment of the ledger."""
    return f"{LEDGER}/{number:06d}.jsonl"


def ledger_segments(output: Place) -> list[int]:
    """The numbers of the segments of the ledger that are there, in order."""
    found = (re.fullmatch(r"(\d+)\.jsonl", file.name) for file in (output / LEDGER).files())
    return sorted(int(match[1]) for match in found if match)


def running_file(share: str) -> str:
    """What a driver, of this share or of all, says of the tasks that it waits for."""
    return f"{LEDGER}/running{share and '-'}{share}.json"


def running_files(output: Place) -> list[str]:
    """Those that are there."""
    names = sorted(file.name for file in (output / LEDGER).files())
    return [f"{LEDGER}/{name}" for name in names if re.fullmatch(r"running(-\d+-of-\d+)?\.json", name)]


def share_lock(share: str) -> str:
    """What the driver of a share holds."""
    return f"{SHARES}/{share}"


def share_locks(output: Place) -> list[str]:
    """The shares that drivers hold, or held."""
    return sorted(file.name for file in (output / SHARES).files() if re.fullmatch(r"\d+-of-\d+", file.name))


def index_folder(increment: int) -> str:
    """What an increment of a run adds to its index; the first run is number 0."""
    return f"{INDEX}/{increment:03d}"


def exchange_of(increment: int) -> str:
    """What the stages of an increment hand on."""
    return f"{EXCHANGE}/{increment:03d}" if increment else EXCHANGE


def index_file(key: str, increment: int) -> str:
    """What is in that folder for a step; this file exists only once all others of the step do."""
    return f"{index_folder(increment)}/{key}.json"


def exchange_folder(stage: str, folder: str = EXCHANGE) -> str:
    """What the tasks of a stage hand on, or keep in another folder."""
    return f"{folder}/{stage}"


def exchange_path(stage: str, task: int, folder: str = EXCHANGE) -> str:
    """What a task of a stage hands on, or keeps in another folder."""
    return f"{exchange_folder(stage, folder)}/{task:06d}.arrows"


def tiles_folder(stage: str, folder: str = EXCHANGE) -> str:
    """What the tasks of a stage hand on, merged."""
    return f"{folder}/{stage}.tiles"


def tile_path(stage: str, tile: int, folder: str = EXCHANGE) -> str:
    """A tile of it."""
    return f"{tiles_folder(stage, folder)}/{tile:06d}.arrows"


def grid_path(stage: str, folder: str = EXCHANGE) -> str:
    """How it is merged."""
    return f"{tiles_folder(stage, folder)}/grid.json"


def ids_in(output: Place, folder: str) -> Iterator[str]:
    """The ids of the shards of which a file of a known format lies in a folder of an output, bytewise by its path."""
    names = sorted((file.name for file in (output / folder).files()), key=str.encode)
    yield from (match[1] for name in names if (match := _SHARD_FILE.fullmatch(name)))


def _files_of(output: Place, *folders: str) -> Iterator[tuple[str, str, File]]:
    def listed(folder: str) -> Iterator[File]:
        files = (output / folder).files()
        return chain(list(islice(files, 1)), files)  # the first request of each list is made at once

    for folder, files in zip(folders, at_once(listed, folders), strict=True):
        pattern = _STATISTICS_OF if folder == STATISTICS else _SHARD_FILE
        for file in files:
            if match := pattern.fullmatch(file.name):
                yield match[1], f"{folder}/{file.name}", file
