"""What reading JSON Lines costs, in MB of text per second of CPU time on one thread, against other readers of it.

    python scripts/bench_formats.py --corpus DIR [--quick] [--json FILE]

DIR holds Parquet files with a column `text`. Their texts become one file of JSON Lines with an id, a URL and a struct
of metadata, compressed by zstd. `scan`: what a shard costs before its first row (its columns); `read`: all columns,
after that; `write`: the same rows as Parquet, as gneiss writes it, without reading; `whole`: scan, read and write.
pyarrow and orjson read the same file, decompressed by the same library.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.json as pj
from bench_filters import Figures, describe, read_corpus, timed

from gneiss.batch import TextBatch
from gneiss.input.shard import Shard, cut_shards, reading_on
from gneiss.output.parquet import write_parquet
from gneiss.store.place import place_of


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
        written = write_lines(path, batch)
        (shard,) = cut_shards(path, text="text", shard_max_bytes=2**62).shards
        reader = reading_on()(shard)
        rows_of(cut_shards(path, text="text").shards[0], limit=1)  # kernels are compiled
        scan, schema = timed(reader.schema)
        read, tables = timed(lambda: [table for _, table in reader.tables()])
        text, _ = timed(lambda: [table.num_rows for _, table in shard.tables(["text"])])
        write, _ = timed(lambda: write_parquet(iter(tables), schema, place_of(folder), "out.parquet"))
        whole, _ = timed(lambda: convert(reading_on()(shard), folder))
        fast, _ = timed(lambda: write_parquet(iter(tables), schema, place_of(folder), "out.parquet", level=1))
        arrow, found = timed(lambda: arrow_read(path))
        assert found["text"].combine_chunks() == pa.concat_tables(tables)["text"].combine_chunks()
        figures = {
            "scan": scan,
            "read": read,
            "read_text_only": text,
            "write": write,
            "write_level_1": fast,
            "whole": whole,
            "pyarrow_read": arrow,
            "decompress": timed(lambda: sum(map(len, blocks(path))))[0],
        }
        if importlib.util.find_spec("orjson"):
            figures["orjson_loads"] = timed(lambda: orjson_read(path))[0]
    rates: Figures = {f"jsonl_{name}_mb_per_s": round(batch.size_bytes / 1e6 / its, 1) for name, its in figures.items()}
    return {"jsonl_bytes": written, **rates}  # fmt: skip


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


def rows_of(shard: Shard, limit: int) -> int:
    """The rows of the first tables."""
    return sum(table.num_rows for (_, table), _ in zip(shard.tables(), range(limit), strict=False))


def convert(shard: Shard, folder: str) -> None:
    """JSON Lines to Parquet."""
    write_parquet((table for _, table in shard.tables()), shard.schema(), place_of(folder), "whole.parquet")


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
