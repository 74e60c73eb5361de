"""DuckDB's threads read one file at the same time, each where it wants."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gneiss.report.stored_files import StoredFiles
from gneiss.store.place import place_of


def test_threads_share_a_file_and_no_position(tmp_path: Path) -> None:
    content = b"".join(number.to_bytes(4, "big") for number in range(20_000))
    (tmp_path / "file").write_bytes(content)
    files = StoredFiles({"gneiss://base/0": place_of(tmp_path / "file")})
    with files.open("gneiss://base/0") as file, ThreadPoolExecutor(4) as pool:

        def numbers(thread: int) -> bool:
            return all(
                file.seek(4 * at) == 4 * at and file.read(40) == content[4 * at : 4 * at + 40]
                for at in range(thread, 20_000, 37)
            )

        assert all(pool.map(numbers, range(4)))
        assert file.seek(-4, io.SEEK_END) == len(content) - 4
        assert file.read() == content[-4:]
        assert file.seek(-8, io.SEEK_CUR) == file.tell() == len(content) - 8
