"""What reading JSON Lines costs, in MB of text per second of CPU time on one thread, against other readers of it.

    python scripts/bench_formats.py --corpus DIR [--quick] [--json FILE]

DIR holds Parquet files with a column `text`. Their texts become one file of JSON Lines with an id, a URL and a struct
of metadata, compressed by zstd. `read`: as a run reads a shard, its documents and then its other columns; `read_again`:
all columns, as a worker reads them that does not hold them; `write`: the same rows as Parquet, as gneiss writes it,
without reading; `whole`: both, as a run does it, by default with zstd at level 3. pyarrow and orjson read the same
file, decompressed by the same library. The best of three.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.json as pj
from bench_filters import Figures, describe, read_corpus, timed

from gneiss.batch import TextBatch
from gneiss.curate.reading import read_documents
from gneiss.input.shard import Shard, cut_shards, reading_on
from gneiss.output.parquet import WrittenFile, write_parquet
from gneiss.store.place import Place, place_of

T = TypeVar("T")
#: Of Parquet: what `whole` is named, and how it is written.
COMPRESSIONS: dict[str, dict[str, Any]] = {
    "": {},
    "_level_2": {"level": 2},
    "_level_1": {"level": 1},
    "_snappy": {"compression": "snappy", "level": None},
    "_uncompressed": {"compression": "none", "level": None},
}


def main() -> None:
    """Measure and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="20 MB of text")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    pa.set_cpu_count(1)
    batch = read_corpus(options.corpus, 20_000_000 if options.quick else 150_000_000)
    figures = {**describe(options.corpus, batch), **jsonl_part(batch)}
    for name, figure in figures.items():
        print(f"{name}: {figure}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def jsonl_part(batch: TextBatch) -> Figures:
    """Reading and writing a file of JSON Lines."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "corpus.jsonl.zst"
        written, sizes = write_lines(path, batch), dict[str, int]()
        (shard,) = cut_shards(path, text="text", shard_max_bytes=2**62).shards
        reader = reading_on()(shard)
        next(as_a_run_reads(shard))  # kernels are compiled
        schema = reader.schema()
        again, tables = best(lambda: [table for _, table in reader.tables()])
        arrow, found = best(lambda: arrow_read(path))
        assert found["text"].combine_chunks() == pa.concat_tables(tables)["text"].combine_chunks()
        figures = {
            "decompress": best(lambda: sum(map(len, blocks(path))))[0],
            "read": best(lambda: sum(table.num_rows for table in as_a_run_reads(shard)))[0],
            "read_again": again,
            "pyarrow_read": arrow,
            "write": best(lambda: write_parquet(iter(tables), schema, place_of(folder), "out.parquet"))[0],
        }
        for name, how in COMPRESSIONS.items():
            figures[f"whole{name}"], file = best(partial(convert, shard, schema, place_of(folder), how))
            sizes[f"parquet_bytes{name}"] = file.size_bytes
        if importlib.util.find_spec("orjson"):
            figures["orjson_loads"] = best(lambda: orjson_read(path))[0]
    rates: Figures = {
        f"jsonl_{name}_mb_per_s": round(batch.size_bytes / 1e6 / figure, 1) for name, figure in figures.items()
    }
    return {"jsonl_bytes": written, **sizes, **rates}


def write_lines(path: Path, batch: TextBatch) -> int:
    """The file; its size before it is compressed."""
    documents = (
        {
            "text": text,
            "id": f"<urn:{number:036x}>",
            "url": f"https://example.org/pages/{number}",
            "score": number / 7,
            "metadata": {"lang": "en", "date": "2024-01-01", "tokens": len(text) // 4, "tags": ["a", "b"]},
        }
        for number, text in enumerate(batch.texts())
    )
    lines = (json.dumps(document, ensure_ascii=False) for document in documents)
    data = "\n".join(lines).encode()
    with pa.CompressedOutputStream(str(path), "zstd") as file:
        file.write(data)
    return len(data)


def as_a_run_reads(shard: Shard) -> Iterator[pa.Table]:
    """All columns: those that documents have, for the whole shard, and then the others, for what is kept."""
    of_worker = reading_on()(shard)
    documents = read_documents(of_worker, "text", {"id": "id", "url": "url"})
    texts = documents.batch.to_arrow()
    names = of_worker.schema().names
    for first, table in of_worker.tables([name for name in names if name != "text"]):
        text = texts.slice(first, table.num_rows).cast(pa.string())
        yield table.append_column("text", text).select(names)


def convert(shard: Shard, schema: pa.Schema, folder: Place, how: dict[str, Any]) -> WrittenFile:
    """JSON Lines to Parquet."""
    return write_parquet(as_a_run_reads(shard), schema, folder, "whole.parquet", **how)


def best(function: Callable[[], T]) -> tuple[float, T]:
    """See `timed`, of three times."""
    return min((timed(function) for _ in range(3)), key=lambda found: found[0])


def blocks(path: Path) -> Iterator[bytes]:
    """The bytes of a file, decompressed."""
    with pa.CompressedInputStream(str(path), "zstd") as file:
        while block := file.read(1 << 23):
            yield block


def arrow_read(path: Path) -> pa.Table:
    """All columns, as pyarrow reads them: in blocks of 8 MB."""
    with pa.CompressedInputStream(str(path), "zstd") as file:
        return pj.read_json(file, read_options=pj.ReadOptions(use_threads=False, block_size=1 << 23))


def orjson_read(path: Path) -> int:
    """All lines as Python's values, and no columns of them yet."""
    import orjson

    rest, count = b"", 0
    for block in blocks(path):
        lines = (rest + block).split(b"\n")
        rest = lines.pop()
        count += sum(1 for line in lines if orjson.loads(line))
    return count


if __name__ == "__main__":
    main()
