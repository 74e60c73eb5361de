"""Files that another output has already, byte for byte."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from gneiss.output.parquet import WrittenFile
from gneiss.store.place import Place

_BLOCK_BYTES = 1 << 22


class _OtherBytesError(Exception):
    """What can be read is not what was written."""


@dataclass(frozen=True)
class WrittenBefore:
    """A file of another output, as its receipt has it."""

    folder: Place
    file: WrittenFile

    def copied(self, output: Place) -> WrittenFile | None:
        """The same file in this output; None where it cannot be read as it was written. Raises OutputError."""
        try:
            with (output / self.file.path).create() as target:
                for block in self._blocks():
                    target.write(block)
                if target.checksum != self.file.checksum:
                    raise _OtherBytesError
        except _OtherBytesError:
            return None
        return replace(self.file, etag=target.etag)

    def _blocks(self) -> Iterator[bytes]:
        try:
            with (self.folder / self.file.path).open() as source:
                while block := source.read(_BLOCK_BYTES):
                    yield block
        except OSError as error:
            raise _OtherBytesError from error
