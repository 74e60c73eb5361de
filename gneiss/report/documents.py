"""An output as a DuckDB view, `documents`: a row for each row of the input, with the annotations of base and layers."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from gneiss.errors import InputError
from gneiss.output.annotation_tables import IDENTITY
from gneiss.output.finished_run import FinishedRun, FinishedShard
from gneiss.output.layout import BASE, BASE_LAYER
from gneiss.recipe.expression import quoted
from gneiss.report.stored_files import PROTOCOL, StoredFiles

if TYPE_CHECKING:
    from collections.abc import Mapping

    import duckdb

#: What says in which file a row is; no annotation can have a name with a blank.
_FILE = "file of the row"


@contextmanager
def open_documents(
    run: FinishedRun,
    layers: Sequence[str] = (),
    *,
    shards: Sequence[FinishedShard] | None = None,
    threads: int = 2,
    memory_limit_mb: int = 1000,
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with the view `documents`: `shard` and all columns of `base`, in order, and those of some layers.

    A layer's column whose name is taken already is called `<layer>.<column>`. A query reads the columns that it names,
    in any store; it can reach no other file, network or setting. Past the limit DuckDB uses a temporary folder.

    Parameters: `layers`: names; `shards`: some of the run's, by default all. Raises InputError when a layer is not
    there, not whole, or of another run, and when a file cannot be read.

    >>> with open_documents(gneiss.open_run("curated")) as connection:  # doctest: +SKIP
    ...     print(connection.sql("SELECT status, count(*) FROM documents GROUP BY ALL"))
    """
    import duckdb

    shards = run.shards if shards is None else shards
    if not shards:
        raise InputError(f"{run.folder}: the run has no rows")
    run.layers(layers)
    columns = run.columns(shards[0], layers)
    names = (BASE_LAYER, *layers)
    files = {_path(name, i): run.annotation_file(shard, name) for name in names for i, shard in enumerate(shards)}
    with tempfile.TemporaryDirectory(prefix="gneiss-") as spilled, closing(duckdb.connect(":memory:")) as connection:
        connection.register_filesystem(StoredFiles(files))
        connection.execute("SET VARIABLE shards = ?", [[shard.id for shard in shards]])
        for setting, value in (
            ("threads", f"{threads}"),
            ("memory_limit", f"'{memory_limit_mb}MB'"),
            ("temp_directory", f"'{spilled}'"),
            ("allowed_directories", f"['{PROTOCOL}://']"),
            ("enable_external_access", "false"),
            ("autoinstall_known_extensions", "false"),
            ("autoload_known_extensions", "false"),
            ("lock_configuration", "true"),
        ):
            connection.execute(f"SET {setting} = {value}")
        try:
            connection.execute(_view(columns, names, len(shards)))
            for layer in layers:
                _check_rows(connection, run, shards, layer)
            yield connection
        except duckdb.Error as error:
            is_of_file = type(error) in (duckdb.Error, duckdb.IOException) or f"{PROTOCOL}://" in str(error)
            if not is_of_file:
                raise
            said = re.sub(rf"{PROTOCOL}://.*?/\d+", lambda match: str(files.get(match[0], match[0])), str(error))
            reason = said.strip().splitlines()[-1]  # of a traceback, where Python could not open the file
            raise InputError(f"{run.folder}: cannot read its annotations: {reason}") from error


def _path(layer: str, shard: int | str) -> str:
    return f"{PROTOCOL}://{layer}/{shard}"


def _view(columns: Mapping[str, tuple[str, str]], layers: Sequence[str], shards: int) -> str:
    """The view: the files of layers lie side by side, row by row, which takes no join."""
    listed = [f"{quoted(layer)}.{quoted(own)} AS {quoted(name)}" for name, (layer, own) in columns.items()]
    number = f"split_part({quoted(BASE_LAYER)}.{quoted(_FILE)}, '/', -1)"
    shard = f"getvariable('shards')[{number}::BIGINT + 1] AS shard"
    return (
        f"CREATE VIEW documents AS SELECT {', '.join([shard, *listed])}"
        f" FROM {' POSITIONAL JOIN '.join(_files(layer, shards) for layer in layers)}"
    )


def _files(layer: str, shards: int) -> str:
    """The files of a layer as a table."""
    prefix = _path(layer, "").replace("'", "''")
    paths = f"list_transform(range({shards}), lambda i: '{prefix}' || i)"
    return f"read_parquet({paths}, filename = '{_FILE}') AS {quoted(layer)}"


def _check_rows(
    connection: duckdb.DuckDBPyConnection, run: FinishedRun, shards: Sequence[FinishedShard], layer: str
) -> None:
    """Raise InputError when the rows of a layer are not those of `base`."""
    base, other = quoted(BASE_LAYER), quoted(layer)
    differs = " OR ".join(f"{base}.{name} IS DISTINCT FROM {other}.{name}" for name in IDENTITY)
    found = connection.execute(
        f"SELECT any_value({other}.{quoted(_FILE)}) FROM {_files(BASE_LAYER, len(shards))}"
        f" POSITIONAL JOIN {_files(layer, len(shards))} WHERE {differs}"
    ).fetchall()[0][0]
    if found is not None:
        file = run.annotation_file(shards[int(found.rpartition("/")[2])], layer)
        raise InputError(f"{file}: its rows are not those of {BASE}; the file belongs to another run")
