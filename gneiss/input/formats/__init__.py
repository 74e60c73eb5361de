"""The formats that input files can have."""

from __future__ import annotations

from fnmatch import fnmatchcase

from gneiss.input.formats.arrow import Arrow
from gneiss.input.formats.csv import Csv
from gneiss.input.formats.format import Format
from gneiss.input.formats.jsonl import Jsonl
from gneiss.input.formats.parquet import Parquet
from gneiss.input.formats.text import PlainText

#: All formats, a line each; the first is that of a file whose name does not say.
FORMATS: tuple[Format, ...] = (Parquet(), Arrow(), Jsonl(), Csv())
#: What only an address that ends so asks for: text files in a folder of data describe it, mostly.
TEXT = PlainText()


def format_of(name: str, address: str = "") -> Format:
    """The format of a file, by the end of its name, in capitals or not; of plain text, by that of the input too."""
    if all(end.lower().endswith(TEXT.suffixes) for end in (name, address)):
        return TEXT
    return next((format_ for format_ in FORMATS if name.lower().endswith(tuple(format_.suffixes))), FORMATS[0])


def is_input(name: str) -> bool:
    """Whether the name of a file ends as those of a format do; what Hugging Face's datasets cache beside is none."""
    is_cache = fnmatchcase(name.rpartition("/")[2], "cache-*.arrow")
    return not is_cache and any(name.lower().endswith(tuple(format_.suffixes)) for format_ in FORMATS)


def input_names() -> str:
    """What input files are called, for messages; compressed ones only where others are not called so."""
    suffixes = [suffix for format_ in FORMATS for suffix in format_.suffixes]
    named = [suffix for suffix in suffixes if not any(suffix.startswith(f"{other}.") for other in suffixes)]
    return f"files named {' or '.join(f'*{suffix}' for suffix in named)}, or a pattern that ends in .txt"
