"""The host of a URL as browsers find it: by the WHATWG URL Standard, and where the scheme is missing."""

from __future__ import annotations

import re

#: What is a URL with a scheme; of others, such as `example.org:80/a`, what stands before a colon is no scheme.
_WITH_SCHEME = re.compile(
    r"(?:https?|wss?|ftp|file|mailto|data|javascript|tel|sms|about|blob|urn|news|magnet|view-source):"
    r"|[a-z][a-z0-9+.-]*:[/\\]{2}",
    re.IGNORECASE,
)
_AUTHORITY = re.compile(r"[^:]*:[/\\]*(?:[^/\\?#]*@)?(\[[^\]]*\]|[^/\\?#:]*)")
#: What the standard takes off both ends, and what else stands around a URL (RFC 3986, appendix C) or at the start of a
#: file; and what the standard takes out.
_ENDS = "".join(map(chr, range(0x21))) + "<>\"'\ufeff\u200b"
_BREAKS = re.compile("[\t\n\r]")


def host_of(url: str) -> str:
    """The host of a URL in ASCII and lower case, without port, user and final dot; empty if there is none.

    A URL without a scheme begins with its host, one that begins with two slashes too; backslashes are slashes. A URL
    that no browser opens for its port still has a host.
    """
    import can_ada

    url = _BREAKS.sub("", url.strip(_ENDS))
    if not _WITH_SCHEME.match(url):
        slashes = len(url) - len(url.lstrip("/\\"))
        if slashes == 1 or url[:1] in ("", "?", "#"):
            return ""
        url = f"http://{url[slashes:]}"
    try:
        host = can_ada.parse(url).hostname
    except ValueError:
        authority = _AUTHORITY.match(url)
        try:
            host = can_ada.parse(f"http://{authority[1]}").hostname if authority else ""
        except ValueError:
            return ""
    return str(host).lower().strip("[]").rstrip(".")
