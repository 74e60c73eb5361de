"""SURT keys: URLs as the indexes of Common Crawl and of the Internet Archive name them, `com,example)/path?a=1&b=2`.

The host is reversed and loses `www.`, a default port and its user; path and query lose their case, needless
percent-escapes, session ids and empty parts, and the parameters are sorted. So pages that differ in these only have
one key.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address
from urllib.parse import unquote_to_bytes

_URL = re.compile(rb"(https?):/*([^/?#]*)([^?#]*)(?:\?([^#]*))?", re.IGNORECASE | re.DOTALL)
_AUTHORITY = re.compile(rb"(?:.*@)?([^:@]+)(?::(\d{0,9}))?", re.DOTALL)
_DEFAULT_PORTS = {b"http": 80, b"https": 443}
_MOST_PORT = 65_535
#: Longer URLs, which no crawl has, would take time that is not linear; so would more escapes of escapes.
_MOST_BYTES, _MOST_PASSES = 8192, 32
_WWW = re.compile(rb"\Awww\d*\.")
_ESCAPED = re.compile(rb"%[0-9a-f]{2}", re.IGNORECASE)
_TO_ESCAPE = re.compile(rb"[\x00-\x20\x7f-\xff#%]")
#: ASP.NET writes sessions as folders.
_PATH_SESSIONS = tuple(
    re.compile(rb"(.*/)%s/([^?]+\.aspx.*)" % id_, re.DOTALL)
    for id_ in (rb"\((?:[a-z]\([0-9a-z]{24}\))+\)", rb"\([0-9a-z]{24}\)")
)
_QUERY_SESSIONS = tuple(
    re.compile(rb"(.*)(?:%s)(?:&(.*))?" % id_, re.DOTALL)
    for id_ in (
        rb"jsessionid=[0-9a-z]{32}", rb"phpsessid=[0-9a-z]{32}", rb"sid=[0-9a-z]{32}",
        rb"aspsessionid[a-z]{8}=[a-z]{24}", rb"cfid=[^&]+&cftoken=[^&]+",
    )
)  # fmt: skip


def surt(url: bytes) -> str | None:
    """The SURT key of an absolute URL of HTTP(S); None for anything else.

    >>> surt(b"https://www.Example.com:443/Shop/index.html?b=2&a=1#top")
    'com,example)/shop/index.html?a=1&b=2'
    """
    url = url.strip().translate(None, b"\t\r\n")
    if len(url) > _MOST_BYTES or (found := _URL.match(url)) is None:
        return None
    scheme, authority, path, query = found.groups()
    if (host := _host(scheme.lower(), authority)) is None:
        return None
    parts = [host, b")", _path(path)]
    if query and (query := _query(query)):
        parts += [b"?", query]
    return b"".join(parts).lower().decode("ascii")


def _host(scheme: bytes, authority: bytes) -> bytes | None:
    """The reversed host, and its port unless that is the default one."""
    if (found := _AUTHORITY.fullmatch(authority)) is None:
        return None
    host, port = found.groups()
    number = int(port) if port else _DEFAULT_PORTS[scheme]
    if number > _MOST_PORT:
        return None
    host = _escape(_in_ascii(_unescape(host))).lower()
    host = re.sub(rb"\.\.+", b".", host.strip(b"."))
    if host.isdigit() and len(host) <= 10 and int(host) < 1 << 32:
        host = str(IPv4Address(int(host))).encode()
    reversed_ = b",".join(reversed(_WWW.sub(b"", host, count=1).split(b".")))
    return reversed_ if number == _DEFAULT_PORTS[scheme] else b"%s:%d" % (reversed_, number)


def _in_ascii(host: bytes) -> bytes:
    """The host in IDNA; as it is where it has no such form."""
    try:
        return host if host.isascii() else host.decode().encode("idna")
    except UnicodeError:
        return host


def _path(path: bytes) -> bytes:
    folders: list[bytes] = []
    for part in _unescape(path).split(b"/")[1:]:
        if part == b".." and folders and folders[-1] != b"..":
            folders.pop()
        elif part != b".":
            folders.append(part)
    path = _escape(b"/" + b"/".join(filter(None, folders))).lower()
    for pattern in _PATH_SESSIONS:
        path = pattern.sub(rb"\1\2", path)
    return path


def _query(query: bytes) -> bytes:
    query = _escape(_unescape(query)).lower()
    for pattern in _QUERY_SESSIONS:
        if found := pattern.fullmatch(query):
            query = found[1] + (found[2] or b"")
    return b"&".join(sorted(query.split(b"&")))


def _unescape(text: bytes) -> bytes:
    """The text without percent-escapes, nor those that appear when they are resolved, as far as some passes go."""
    for _ in range(_MOST_PASSES):
        if not _ESCAPED.search(text):
            break
        text = unquote_to_bytes(text)
    return text


def _escape(text: bytes) -> bytes:
    return _TO_ESCAPE.sub(lambda found: b"%%%02x" % found[0][0], text)
