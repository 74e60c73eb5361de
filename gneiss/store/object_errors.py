"""What object stores answer when they refuse or fail, as OSError: the action, the object, the cause, what to do.

Answers can quote a request with its signature, so of their text only the code and the message are passed on.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

#: Codes of an answer → the number of the error, and what to do.
_ADVICE: tuple[tuple[frozenset[str], int, str], ...] = (
    (
        frozenset({"NoSuchBucket", "ContainerNotFound"}),
        errno.ENOENT,
        "no such bucket; create it, or check its name and the endpoint",
    ),
    (
        frozenset({"ExpiredToken", "TokenRefreshRequired", "ExpiredTokenException"}),
        errno.EACCES,
        "the credentials have expired; renew them and run again: what is finished is kept",
    ),
    (
        frozenset({"RequestTimeTooSkewed", "RequestExpired"}),
        errno.EACCES,
        "the clock of this machine and that of the store differ; set this one",
    ),
    (
        frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "AuthenticationFailed", "401"}),
        errno.EACCES,
        "the store does not know these credentials; check which are set, and for which endpoint",
    ),
    (
        frozenset({"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301"}),
        errno.EINVAL,
        "the bucket lies in another region; set AWS_REGION to it",
    ),
    (
        frozenset({"SlowDown", "ServiceUnavailable", "TooManyRequests", "ServerBusy", "503", "429"}),
        errno.EBUSY,
        "the store asks for fewer requests; run again with fewer workers: what is finished is kept",
    ),
)
_URL = re.compile(r"https?://\S+")


@contextmanager
def failing(action: str, address: str) -> Iterator[None]:
    """Raise what obstore raises as OSError. action: as the rights of the service name it."""
    from obstore.exceptions import BaseError

    try:
        yield
    except (BaseError, FileNotFoundError, ValueError) as error:
        if getattr(error, "filename", None) is not None:  # said already
            raise
        raise _as_os_error(action, address, str(error)) from None  # its text may quote what signs a request


def _as_os_error(action: str, address: str, text: str) -> OSError:
    text = text.partition("\n\nDebug source")[0]
    status = _first(r"status code: (\d+)", text)
    code = _first(r"<Code>([^<]*)</Code>", text) or _first(r'"code": ?"(\w+)"', text) or status
    message = _first(r"<Message>([^<]*)</Message>", text)
    said = ": ".join(part for part in (action, code, message) if part)
    for codes, number, advice in _ADVICE:
        if code in codes:
            return OSError(number, f"{said}: {advice}", address)
    if "169.254.169.254" in text or "MissingAccessKeyId" in text or "metadata.google.internal" in text:
        return OSError(
            errno.EACCES,
            f"{action}: no credentials were found; see docs/stores.md for where they are"
            " looked for, and for public buckets",
            address,
        )
    if status == "403":
        return OSError(errno.EACCES, f"{said}: these credentials may not do that; grant the right to", address)
    if status == "404" or text.endswith("not found"):
        return OSError(errno.ENOENT, f"{said}: no such object", address)
    if status in ("409", "412"):
        return OSError(errno.EEXIST, f"{said}: it has changed, or is there already", address)
    if code:
        return OSError(errno.EIO, said, address)
    return OSError(errno.EIO, f"{action}: {_URL.sub('', text.splitlines()[0] if text else 'failed')}", address)


def _first(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    return found[1] if found else ""
