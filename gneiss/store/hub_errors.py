"""What the hub answers when it refuses or fails, as OSError: what was asked for, the cause, what to do.

Its client quotes URLs, some of which are signed: messages and logs go without them.
"""

from __future__ import annotations

import errno
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from gneiss.errors import first_line

_STATUS = {
    401: (errno.EACCES, "the hub does not know this token, or it has expired: set HF_TOKEN, or `hf auth login`"),
    403: (errno.EACCES, "the token may not do that: set HF_TOKEN to one that has the right to, or `hf auth login`"),
}
_BUSY = 429
#: Between two bytes of the hub.
PATIENCE_SECONDS = 600.0
_URL = re.compile(r"https?://\S+")


class HubIsBusyError(OSError):
    """The hub asks for fewer requests; after `seconds` it can be asked again, if it says so."""

    seconds: int | None = None


@contextmanager
def asking_hub(address: str) -> Iterator[None]:
    """Raise what huggingface_hub raises as OSError; address: what it is asked for."""
    import huggingface_hub.errors as hub
    from huggingface_hub import get_session

    logging.getLogger("huggingface_hub.utils._http").addFilter(_without_signatures)
    if _with_patience not in (hooks := get_session().event_hooks["request"]):
        hooks.append(_with_patience)
    try:
        try:
            yield
        except RuntimeError as error:  # of a thread that uploads a file
            raise error.__cause__ or error from None
    except hub.OfflineModeIsEnabled:
        said = errno.ENETUNREACH, "HF_HUB_OFFLINE is set: unset it, or name a local path"
    except hub.LocalEntryNotFoundError:
        said = errno.ENETUNREACH, "not in the cache, and the hub cannot be reached"
    except hub.EntryNotFoundError:
        said = errno.ENOENT, "no such file on the hub"
    except hub.RevisionNotFoundError:
        said = errno.ENOENT, "no such branch, tag or commit on the hub"
    except hub.GatedRepoError:
        said = errno.EACCES, f"gated: accept its conditions on the hub; {_who()}"
    except (hub.RepositoryNotFoundError, hub.BucketNotFoundError):
        said = errno.ENOENT, f"not on the hub, or private: check the name; {_who()}"
    except hub.HfHubHTTPError as error:
        if error.response.status_code == _BUSY:
            raise _busy(_reset_seconds(error.response.headers), address) from None
        said = _answered(error.response.status_code, error.server_message)
    except ConnectionError as error:  # of Xet, which stores the bytes
        said = errno.EIO, f"cannot reach the hub: {_URL.sub('…', first_line(error))}"
    except hub.HTTPError as error:  # type: ignore[attr-defined]  # of the client that it uses
        said = errno.EIO, f"cannot reach the hub ({type(error).__name__}); run again: what is finished is kept"
    except hub.HFValidationError:
        said = errno.EINVAL, "expected OWNER/NAME of letters, digits, `-`, `_` and `.`"
    else:
        return
    raise OSError(*said, address) from None


def _who() -> str:
    from huggingface_hub import get_token

    return (
        "the token in use may have no right to it"
        if get_token()
        else "no token was found: set HF_TOKEN, or `hf auth login`"
    )


def _answered(status: int, message: str | None) -> tuple[int, str]:
    if status in _STATUS:
        return _STATUS[status]
    return errno.EIO, f"the hub answered {status}" + (f": {_URL.sub('…', first_line(message))}" if message else "")


def _busy(seconds: int | None, address: str) -> HubIsBusyError:
    when = "in some minutes" if seconds is None else f"in {seconds} s"
    said = f"the hub asks for fewer requests: run again {when}; what is finished is kept"
    error = HubIsBusyError(errno.EBUSY, said, address)
    error.seconds = seconds
    return error


def _reset_seconds(headers: Mapping[str, str]) -> int | None:
    """After how many seconds the hub can be asked again, if it says so."""
    from huggingface_hub.utils import parse_ratelimit_headers  # type: ignore[attr-defined]

    limit = parse_ratelimit_headers(headers)
    if limit is not None:
        return int(limit.reset_in_seconds)
    after = headers.get("Retry-After", "")
    return int(after) if after.isdecimal() else None


def _without_signatures(record: logging.LogRecord) -> bool:
    """Keep what is signed out of the log: the hub's client quotes URLs of files."""
    record.msg = _URL.sub(lambda url: url[0].partition("?")[0], str(record.msg))
    return True


def _with_patience(request: Any) -> None:
    """Let a request of the hub's client end some time, which has no limit of its own."""
    limits = request.extensions.get("timeout", {})
    limits.update({key: PATIENCE_SECONDS for key, seconds in limits.items() if seconds is None})
