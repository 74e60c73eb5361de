"""What a run over an object store costs beside the same run on a disk; one call, which says how each figure is counted.

    python scripts/bench_stores.py [--files 8] [--tiny 1000] [--latency-ms 20] [--workers 2] [--json FILE]

The store is the S3 server of the tests (SeaweedFS, in a wheel), behind a proxy in a process of its own that waits
before each request. The input is made here. The server and the proxy share the machine with the run, so that a ratio
of wall times says the least that a store of others would reach.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import Pipe, Process
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from gneiss.store.place import place_of
from tests.store import faults, s3_server

#: Documents of each file, and milliseconds before each request, of the runs that count round trips.
FEW_DOCUMENTS, SLOW_MS = 50, 500.0
RECIPE = """
name: bench-stores
phases:
  - name: only
    dedup: {min_length: 80}
    annotate: [readability, {tokens: {tokenizer: "builtin:cl100k_base"}}]
    rules: {readable: eflaw < 30, tokens_normal: tokens_per_char < 2}
"""
WORDS = "the river runs south and a cat sat by old walls while rain fell on our small town all day long again".split()  # noqa: SIM905
DOCUMENTS, ROW_GROUP = 20_000, 5_000


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--tiny", type=int, default=1000)
    parser.add_argument("--latency-ms", type=float, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "recipe.yaml").write_text(RECIPE)
        for part in ("large", "tiny", "one", "few", "thrice"):
            (folder / part).mkdir()
        for number in range(3 * given.files):
            write(folder / f"thrice/{number:03}.parquet", number, FEW_DOCUMENTS)
            if number < given.files:
                write(folder / f"few/{number:03}.parquet", number, FEW_DOCUMENTS)
        for number in range(given.files):
            write(folder / f"large/{number}.parquet", number, DOCUMENTS)
        for number in range(given.tiny):
            write(folder / f"tiny/{number:05}.parquet", number, 1)
        tables = [pq.read_table(folder / f"tiny/{number:05}.parquet") for number in range(given.tiny)]
        pq.write_table(pa.concat_tables(tables), folder / "one/all.parquet")
        figures = measure(folder, given)
    for key, (value, how) in figures.items():
        print(f"{key:32} {value:10.3f}  {how}")
    if given.json:
        given.json.write_text(json.dumps({key: value for key, (value, _) in figures.items()}, indent=1))


def write(path: Path, seed: int, documents: int) -> None:
    """A Parquet file of sentences."""
    draw = random.Random(seed)
    texts = [" ".join(draw.choices(WORDS, k=draw.randint(50, 400))).capitalize() + "." for _ in range(documents)]
    table = pa.table({"id": [f"{seed}-{n}" for n in range(documents)], "text": texts})
    pq.write_table(table, path, row_group_size=ROW_GROUP, compression="zstd")


def measure(folder: Path, given: argparse.Namespace) -> dict[str, tuple[float, str]]:
    """Every figure, and how it is counted."""
    (folder / "server").mkdir()
    with (
        s3_server.running(folder / "server") as server,
        proxied(server.ports["s3"], given.latency_ms) as (port, counts),
    ):
        bucket = server.bucket("bench")
        os.environ |= s3_server.environment(f"http://127.0.0.1:{port}")
        for part in ("large", "tiny", "few", "thrice"):
            for file in place_of(folder / part).files():
                server.put("bench", f"{part}/{file.name}".encode(), (folder / part / file.name).read_bytes())
        footers = [pq.read_metadata(path) for path in sorted((folder / "large").iterdir())]
        groups = [footer.row_group(number) for footer in footers for number in range(footer.num_row_groups)]
        text = sum(group.column(1).total_uncompressed_size for group in groups)
        disk, store = [], []
        for number in range(given.rounds):
            disk.append(seconds(folder, str(folder / "large"), str(folder / f"out-{number}"), given.workers))
            counts()
            store.append(seconds(folder, f"{bucket}/large", f"{bucket}/out-{number}", given.workers))
            asked = counts()
        tiny_disk = seconds(folder, str(folder / "tiny"), str(folder / "out-tiny"), given.workers)
        one_disk = seconds(folder, str(folder / "one"), str(folder / "out-one"), given.workers)
        counts()
        tiny_store = seconds(folder, f"{bucket}/tiny", f"{bucket}/out-tiny", given.workers)
        tiny_asked = counts()
        few, thrice = (waits(folder, server.ports["s3"], bucket, part, given.workers) for part in ("few", "thrice"))
    shutil.rmtree(folder / "server")
    n, each = given.files, f"{given.latency_ms:.0f} ms before each request"
    wall, cpu = (median(times[i] for times in disk) / median(times[i] for times in store) for i in (0, 1))
    many = f"{n} shards of {text / n / 1e6:.0f} MB of text; whole commands, median of {given.rounds}"
    tiny = f"wall time of {given.tiny} files of a document, less that of one file of all of them on disk"
    asked_for, tiny_asked_for = (str(dict(sorted(counts.items()))) for counts in (asked, tiny_asked))
    return {
        "throughput against disk": (wall, f"wall time on disk / over the store, {each}; {many}"),
        "CPU against disk": (cpu, "CPU time of the command and its workers, the same runs"),
        "disk, MB/s of text": (text / 1e6 / median(times[0] for times in disk), "wall time of the whole command"),
        "requests a shard": (sum(asked.values()) / n, f"of the whole run: {asked_for}"),
        "row groups a shard": (len(groups) / n, ""),
        "round trips, one after another": (few, f"{SLOW_MS:.0f} ms more before each, in wall time; {n} small shards"),
        "round trips of a worker's shard": ((thrice - few) / (2 * n / given.workers), f"the same, of {2 * n} more"),
        "tiny files on disk, ms each": ((tiny_disk[0] - one_disk[0]) / given.tiny * 1e3, tiny),
        "tiny files in the store, ms each": ((tiny_store[0] - one_disk[0]) / given.tiny * 1e3, f"the same, {each}"),
        "tiny files on disk, CPU ms each": ((tiny_disk[1] - one_disk[1]) / given.tiny * 1e3, "the same in CPU time"),
        "tiny files, requests each": (sum(tiny_asked.values()) / given.tiny, tiny_asked_for),
    }


def seconds(folder: Path, source: str, output: str, workers: int) -> tuple[float, float]:
    """Wall and CPU time of `gneiss run`."""
    command = [sys.executable, "-m", "gneiss", "run", str(folder / "recipe.yaml"), "--input", source]
    before, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([*command, "--output", output, "--workers", str(workers)], check=True, capture_output=True)
    wall, after = time.perf_counter() - wall, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def waits(folder: Path, port: int, bucket: str, part: str, workers: int) -> float:
    """Round trips that a run over the store makes one after another: by how much it is slower where each takes long."""
    walls = []
    for latency_ms in (0.0, SLOW_MS):
        with proxied(port, latency_ms) as (slow, _):
            os.environ |= s3_server.environment(f"http://127.0.0.1:{slow}")
            walls.append(seconds(folder, f"{bucket}/{part}", f"{bucket}/out-{part}-{latency_ms:.0f}", workers)[0])
    return (walls[1] - walls[0]) / SLOW_MS * 1e3


@contextmanager
def proxied(target: int, latency_ms: float) -> Iterator[tuple[int, Callable[[], Mapping[str, int]]]]:
    """A proxy in a process of its own: its port, and a call that counts the requests since the call before."""
    here, there = Pipe()
    process = Process(target=_proxy, args=(target, latency_ms, there), daemon=True)
    process.start()
    port = here.recv()

    def counts() -> Mapping[str, int]:
        here.send(None)
        return here.recv()  # type: ignore[no-any-return]

    try:
        yield port, counts
    finally:
        process.kill()
        process.join()


def _proxy(target: int, latency_ms: float, pipe: Connection) -> None:
    with faults.before(target) as proxy:
        proxy.faults.append(faults.Fault(before_s=latency_ms / 1e3))
        pipe.send(proxy.port)
        while True:
            with proxy.counted() as counts:
                pipe.recv()
            pipe.send(dict(counts))


if __name__ == "__main__":
    main()
