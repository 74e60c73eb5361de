"""What object stores answer when they refuse or fail: the action, the object, the cause, what to do.

Answers can quote a request with its signature, so of their text only the code and the message are passed on.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from gneiss.errors import StoreError, printable

_RIGHTS = "docs/stores.md lists the rights that are needed"
#: Codes of an answer → what to do.
_ADVICE: tuple[tuple[frozenset[str], str], ...] = (
    (
        frozenset({"NoSuchBucket", "ContainerNotFound"}),
        "no such bucket; create it, or check its name and the endpoint",
    ),
    (
        frozenset({"ExpiredToken", "TokenRefreshRequired", "ExpiredTokenException"}),
        "the credentials have expired; renew them and run again: what is finished is kept",
    ),
    (
        frozenset({"RequestTimeTooSkewed", "RequestExpired"}),
        "the clock of this machine and that of the store differ; set this one",
    ),
    (
        frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "AuthenticationFailed", "401"}),
        "the store does not know these credentials; check which are set, and for which endpoint",
    ),
    (
        frozenset({"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301"}),
        "the bucket lies in another region; set AWS_REGION to it",
    ),
    (
        frozenset({"SlowDown", "ServiceUnavailable", "TooManyRequests", "ServerBusy", "503", "429"}),
        "the store asks for fewer requests; run again with fewer workers: what is finished is kept",
    ),
    (
        frozenset({"AccessDenied", "AllAccessDisabled", "AuthorizationFailure"}),
        f"these credentials may not do that; {_RIGHTS}",
    ),
    (
        frozenset({"403"}),  # of an answer without a body
        f"these credentials may not do that, or the store does not know them; {_RIGHTS}",
    ),
)
#: Actions of S3's API that need a right of another name than theirs.
_OTHER_RIGHTS = {"HeadObject": "s3:GetObject", "ListObjects": "s3:ListBucket"}
#: What is asked for credentials where none are set.
_ASKED_FOR_CREDENTIALS = ("169.254.", "/latest/api/token", "/latest/meta-data", "metadata.google", "MissingAccessKeyId")
_URL = re.compile(r"https?://\S+")


@contextmanager
def failing(action: str, address: str) -> Iterator[None]:
    """Raise what obstore raises as OSError where it concerns this object, and else as StoreError.

    action: as the API of the service names it.
    """
    from obstore.exceptions import BaseError

    try:
        yield
    except (BaseError, FileNotFoundError, ValueError) as error:
        if getattr(error, "filename", None) is not None:  # said already
            raise
        raise _as_error(action, address, str(error)) from None  # its text may quote what signs a request


def _as_error(action: str, address: str, text: str) -> OSError | StoreError:
    text, _, source = text.partition("\n\nDebug source")
    status = _first(r"status code: (\d+)", text)
    code = _first(r"<Code>([^<]*)</Code>|\"code\": ?\"(\w+)\"|\(code: (\w+)\)", text) or status
    message = _first(r"<Message>([^<]*)</Message>", text).rstrip(".")
    said = printable(": ".join(part for part in (action, code, message) if part))
    if any(asked in text for asked in _ASKED_FOR_CREDENTIALS):
        advice = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or see docs/stores.md for where else they are"
        return StoreError(f"{address}: {action}: no credentials were found; {advice} looked for, and public buckets")
    if advice := next((advice for codes, advice in _ADVICE if code in codes or status == code in codes), ""):
        if advice.endswith(_RIGHTS) and address.startswith("s3:") and action in _OTHER_RIGHTS:
            advice += f", here {_OTHER_RIGHTS[action]}"
        return StoreError(f"{address}: {said}; {advice}")
    if "invalid path" in text:
        key = printable(_first(r'Path "(.*?)":', text))
        return OSError(errno.EINVAL, f"{action}: the key '{key}' is no path; rename it", address)
    if status == "404" and action == "ListObjects":  # where there is a bucket, its list may be empty, but is there
        return StoreError(f"{address}: {said}; no such bucket, or no object store at the endpoint")
    if status == "404" or text.endswith("not found"):
        return OSError(errno.ENOENT, f"{said}: no such object", address)
    if status in ("409", "412"):
        return OSError(errno.EEXIST, f"{said}: it has changed, or is there already", address)
    if code:
        return StoreError(f"{address}: {said}; what is finished is kept: run again")
    cause = printable(_URL.sub("", _network_cause(source) or (text.splitlines()[0] if text else "failed")))
    return StoreError(f"{address}: {action}: {cause}; check the network and the endpoint, and run again")


def _network_cause(source: str) -> str:
    """Why there was no answer, in the words of the system; empty where it did not say. source: as Rust shows an error.

    The message that obstore gives with it says which request was sent how often, and of its cause only that it failed.
    """
    parts = _first(r'ConnectError\(\s*"([^"]*)"', source), _first(r'\b(?:message|error): "([^"]*)"', source)
    return ": ".join(filter(None, parts))


def _first(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.DOTALL)
    return next((group for group in found.groups() if group is not None), "") if found else ""
