"""Block lists as files: domains in the formats in which they are published, and words of addresses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from gneiss.errors import ModelError, first_line
from gneiss.filters.hosts import host_of

#: A domain that needs no parser: ASCII, no IPv4 address in any spelling.
_PLAIN = re.compile(r"(?:[a-z0-9_-]{1,63}\.)*[a-z_-][a-z0-9_-]{0,62}", re.ASCII)
_COMMENT = re.compile(r"\s+[#;!].*")
_HOSTS_LINE = re.compile(r"(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9a-f]{0,4}:[0-9a-f:.]*(?:%\w+)?)\s+(\S.*)")
#: What the head of a hosts file maps to this machine.
_OF_THIS_MACHINE = frozenset((
    *("localhost", "localhost.localdomain", "local", "broadcasthost", "ip6-localhost", "ip6-loopback", "ip6-localnet"),
    *("ip6-mcastprefix", "ip6-allnodes", "ip6-allrouters", "ip6-allhosts", "0.0.0.0", "127.0.0.1", "::1"),
))  # fmt: skip
#: A rule of an ad blocker for a whole domain; the options are those that leave it one.
_ADBLOCK = re.compile(
    r"\|\|(?:\*\.)?([^/^|$*]+)\^?\|?(?:\$(?:(?:all|document|doc|important|popup|third-party|3p|subdocument),?)+)?"
)
_DNSMASQ = re.compile(r"(?:address|server|local)=/([^/\s]+)/[0-9a-f.:#]*")
_URL = re.compile(r"(?:(?:https?:)?//)?([^/\\?#@\s]+)/?")
_WORD = re.compile(r"[a-z0-9]+", re.ASCII)


def read_domains(path: Path) -> Iterator[str]:
    """The domains of a list, as `host_of` gives hosts. Raises ModelError, with the line for what can never match.

    One domain a line, `.domain`, `*.domain`, `http://domain/`, `||domain^` of ad blockers, lines of hosts files
    (`0.0.0.0 domain domain`) and of dnsmasq (`address=/domain/`); addresses by number; names beyond ASCII.
    """
    for number, entry in _entries(path):
        for name in _names(entry):
            domain = name if _PLAIN.fullmatch(name) and "xn--" not in name else _host(name)
            if not domain:
                raise ModelError(
                    f"{path}, line {number}: this entry can never match a domain: {entry[:200]!r}; expected"
                    " bad.example, *.bad.example, ||bad.example^ or a line of a hosts file; remove or correct it"
                )
            yield domain


def read_words(path: Path) -> Iterator[str]:
    """The words of a list. Raises ModelError, with the line for what can never match."""
    for number, entry in _entries(path):
        if not _WORD.fullmatch(entry):
            raise ModelError(
                f"{path}, line {number}: this entry can never match a word of an address: {entry[:200]!r}; expected"
                " ASCII letters and digits only, since anything else separates words; remove it or list its words"
            )
        yield entry


def _entries(path: Path) -> Iterator[tuple[int, str]]:
    """Number and content of the lines, stripped and in lower case, without comments."""
    found = False
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                entry = _COMMENT.sub("", f" {line.lower()}").strip(" \t\n\ufeff")
                if entry and not entry.startswith(("#", "[adblock")):
                    found = True
                    yield number, entry
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(
            f"{path}: cannot be read as a UTF-8 list with one entry per line: {first_line(error)}"
        ) from error
    if not found:
        raise ModelError(f"{path}: expected one entry per line, found none")


def _names(entry: str) -> list[str]:
    """The domains that a line names, as they are written."""
    if hosts := _HOSTS_LINE.fullmatch(entry):
        return [name.rstrip(".") for name in hosts[1].split() if name not in _OF_THIS_MACHINE]
    form = _ADBLOCK.fullmatch(entry) or _DNSMASQ.fullmatch(entry) or _URL.fullmatch(entry)
    name = form[1] if form else entry
    return [name.removeprefix("*").removeprefix(".").rstrip(".") if name != "*" else name]


def _host(name: str) -> str:
    """A domain or address as the host of a URL; empty where it can be none."""
    if re.fullmatch(r"[0-9a-f:.]*:[0-9a-f:.]*", name):
        name = f"[{name}]"
    if re.search(r"[\s/\\?#@*|^$%,=<>\"'+!&(){}~`;]|(?<!\[):(?!.*\])", name) or ".." in name or not name.strip("."):
        return ""
    return host_of(f"http://{name}/")
