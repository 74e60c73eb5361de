"""How the files of a large input were cut, kept in an output: a driver that resumes reads no footer of theirs again.

The first line says how files were cut, and their schemas; then a line for each file: its name, a tab, its version, its
parts. A file of another version is cut again; so is every file where the first line is another one.
"""

from __future__ import annotations

import base64
import logging
from dataclasses import dataclass, field, fields
from operator import attrgetter

import orjson
import pyarrow as pa

from gneiss.errors import first_line
from gneiss.input.formats.format import CutFile, Part
from gneiss.store.place import Place
from gneiss.store.store import File

#: Inputs of fewer files are cut again, which takes about a second.
FEWEST_FILES = 1000
_PART = attrgetter(*(field.name for field in fields(Part)))
_log = logging.getLogger(__name__)


@dataclass
class Cuts:
    """The cuts of an input's files, which are given to it in order. how: what they depend on beside the files."""

    how: str
    _schemas: list[pa.Schema] = field(default_factory=list)
    _numbers: dict[bytes, int] = field(default_factory=dict)
    _before: dict[bytes, bytes] = field(default_factory=dict)
    _lines: list[bytes] = field(default_factory=list)
    _is_new: bool = False

    @classmethod
    def kept(cls, place: Place, how: str) -> Cuts:
        """Those that an earlier driver kept; none where it kept none, or how files are cut has changed."""
        cuts = cls(how)
        try:
            with place.open() as file, pa.CompressedInputStream(file, "zstd") as content:
                first, *lines = content.read().splitlines()
            said, *schemas = orjson.loads(first)
            if said == how:
                for schema in schemas:
                    cuts._number(pa.ipc.read_schema(pa.py_buffer(base64.b64decode(schema))))
                cuts._before = dict(line.split(b"\t") for line in lines)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, pa.ArrowException) as error:
            _log.warning("%s: damaged (%s); the input's files are looked at again", place, first_line(error))
            return cls(how)
        return cuts

    def find(self, file: File) -> CutFile | None:
        """How this version of a file was cut, if that is known."""
        if (line := self._line(file)) is None:
            return None
        _, _, schema, digest, *parts = orjson.loads(line)
        return CutFile(self._schemas[schema], tuple(Part(*part) for part in parts), digest)

    def keep(self, file: File, cut: CutFile) -> None:
        """Keep how a file was cut."""
        if (line := self._line(file)) is None:
            version = (file.size_bytes, file.etag, self._number(cut.schema), cut.digest)
            line, self._is_new = orjson.dumps([*version, *map(_PART, cut.parts)]), True
        self._lines.append(orjson.dumps(file.name) + b"\t" + line)

    def write(self, place: Place) -> None:
        """Keep them for later drivers, unless they are there, and forget them. Raises OutputError."""
        if self._is_new or len(self._lines) != len(self._before):
            schemas = [base64.b64encode(schema.serialize()).decode() for schema in self._schemas]
            with place.create() as file, pa.CompressedOutputStream(file, "zstd") as content:
                content.write(orjson.dumps([self.how, *schemas]) + b"\n")
                content.writelines(line + b"\n" for line in self._lines)
        self._before, self._lines = {}, []

    def _line(self, file: File) -> bytes | None:
        """The line of this version of a file, without its name, if there is one."""
        line = self._before.get(orjson.dumps(file.name))
        is_it = line is not None and line.startswith(orjson.dumps([file.size_bytes, file.etag])[:-1] + b",")
        return line if is_it else None

    def _number(self, schema: pa.Schema) -> int:
        plain = schema.remove_metadata()
        number = self._numbers.setdefault(plain.serialize().to_pybytes(), len(self._numbers))
        if number == len(self._schemas):
            self._schemas.append(plain)
        return number
