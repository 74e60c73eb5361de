"""The embedded corpus: real text contained in every gneiss installation, as Parquet shards like FineWeb's.

Its bytes depend only on the versions of the interpreter and of the packages that gneiss requires. None of it is
committed or downloaded.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa

from gneiss.demo.harvest import Document, Roots, harvest
from gneiss.errors import InputError, OutputError
from gneiss.output.parquet import write_bytes, write_parquet
from gneiss.store.place import place_of

#: Packages that gneiss requires, with enough to read. These and all that they require are read, whatever else is
#: installed beside them.
REQUIREMENTS = (
    "duckdb", "fasttext-community", "huggingface-hub", "kenlm-ex", "numba", "numpy", "psutil", "pyarrow", "pydantic",
    "pydivsufsort", "pyyaml", "ray[default]", "rich", "splintr-rs", "tokenizers", "typer", "xxhash",
)  # fmt: skip
MANIFEST = "_manifest.json"
#: FineWeb's columns, and two that say what a document is. Null where there is no honest value.
SCHEMA = pa.schema(
    {
        "text": pa.string(),
        "id": pa.string(),
        "dump": pa.string(),
        "url": pa.string(),
        "date": pa.string(),
        "file_path": pa.string(),
        "language": pa.string(),
        "language_score": pa.float64(),
        "token_count": pa.int64(),
        "kind": pa.string(),
        "package": pa.string(),
    }
)


@dataclass(frozen=True)
class Manifest:
    """The contents of a sample, without paths or times of the machine; written as _manifest.json next to the shards.

    documents; text_bytes: of UTF-8; duplicates: documents whose whole text an earlier one has; kinds: kind → documents
    and text_bytes; packages: name → version, documents and text_bytes; skipped: reason → files; content_sha256: of all
    ids and texts in order; shards: file → rows and xxh3-128.
    """

    interpreter: str
    documents: int
    text_bytes: int
    duplicates: int
    kinds: Mapping[str, Mapping[str, int]]
    packages: Mapping[str, Mapping[str, str | int]]
    skipped: Mapping[str, int]
    content_sha256: str
    shards: Mapping[str, Mapping[str, str | int]]


def write_sample(
    output: Path,
    *,
    shards: int = 4,
    roots: Roots | None = None,
    requirements: Sequence[str] = REQUIREMENTS,
) -> Manifest:
    """Harvest the corpus into `sample-NNNNN.parquet` and _manifest.json; about 10 s for 5,000 documents of 18 MB.

    Parameters: `output`: a folder, created if missing; `shards`: number of files; `roots`: search paths, the
    running interpreter's by default; `requirements`: the packages to read, with all that they require.
    Raises InputError when there is nothing to read or no shard to write, OutputError when the folder holds other
    Parquet files or cannot be written.

    >>> import tempfile
    >>> site = Path(tempfile.mkdtemp())
    >>> info = site / "tiny-1.dist-info"
    >>> info.mkdir()
    >>> _ = (info / "METADATA").write_text("Name: tiny\\nVersion: 1\\n\\n" + "It is a text to read. " * 20)
    >>> _ = (info / "RECORD").write_text("tiny-1.dist-info/METADATA,,")
    >>> manifest = write_sample(site / "out", shards=1, roots=Roots((site,), None), requirements=["tiny"])
    >>> manifest.documents, manifest.kinds
    (1, {'description': {'documents': 1, 'text_bytes': 439}})
    """
    if shards < 1:
        raise InputError(f"shards: expected at least 1, found {shards}")
    names = [f"sample-{shard:05d}.parquet" for shard in range(shards)]
    if others := sorted(path.name for path in output.glob("*.parquet") if path.name not in names):
        raise OutputError(f"{output}: holds other Parquet files ({', '.join(others[:3])}); choose an empty folder")
    skipped: Counter[str] = Counter()
    # Ids are hashes, so their order is a shuffle without random numbers.
    documents = sorted(
        harvest(roots or Roots.of_interpreter(), requirements, skipped), key=lambda document: document.id
    )
    if not documents:
        raise InputError(f"nothing to harvest: neither a standard library nor any of {', '.join(requirements)} is here")
    bounds = [len(documents) * shard // shards for shard in range(shards + 1)]
    files: dict[str, dict[str, str | int]] = {}
    for shard, name in enumerate(names):
        rows = [_row(document) for document in documents[bounds[shard] : bounds[shard + 1]]]
        written = write_parquet([pa.Table.from_pylist(rows, SCHEMA)], SCHEMA, place_of(output), name)
        files[name] = {"rows": written.rows, "xxh3_128": written.checksum}
    manifest = _manifest(documents, skipped, files)
    write_bytes((json.dumps(asdict(manifest), indent=2) + "\n").encode(), place_of(output), MANIFEST)
    return manifest


def _row(document: Document) -> dict[str, str]:
    return {
        "text": document.text,
        "id": document.id,
        "dump": f"{platform.python_implementation().lower()}-{platform.python_version()}",
        "url": document.url,
        "file_path": document.path,
        "language": "en",
        "kind": document.kind,
        "package": document.package,
    }


def _manifest(
    documents: Sequence[Document], skipped: Mapping[str, int], files: Mapping[str, Mapping[str, str | int]]
) -> Manifest:
    content = hashlib.sha256()
    kinds: Counter[str] = Counter()
    kind_bytes: Counter[str] = Counter()
    packages: Counter[tuple[str, str]] = Counter()
    package_bytes: Counter[tuple[str, str]] = Counter()
    for document in documents:
        text = document.text.encode()
        content.update(document.id.encode() + b"\0" + text + b"\0")
        package = document.package, document.version
        kinds[document.kind] += 1
        kind_bytes[document.kind] += len(text)
        packages[package] += 1
        package_bytes[package] += len(text)
    return Manifest(
        interpreter=f"{platform.python_implementation()} {platform.python_version()}",
        documents=len(documents),
        text_bytes=kind_bytes.total(),
        duplicates=len(documents) - len({document.text for document in documents}),
        kinds={kind: {"documents": kinds[kind], "text_bytes": kind_bytes[kind]} for kind in sorted(kinds)},
        packages={
            package[0]: {
                "version": package[1],
                "documents": packages[package],
                "text_bytes": package_bytes[package],
            }
            for package in sorted(packages)
        },
        skipped=dict(sorted(skipped.items())),
        content_sha256=content.hexdigest(),
        shards=files,
    )
