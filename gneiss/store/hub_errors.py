"""What the hub answers when it refuses or fails: what was asked for, the cause, what to do.

Its client quotes URLs, some of which are signed: messages and logs go without them.
"""

from __future__ import annotations

import errno
import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from gneiss.errors import StoreError, first_line, printable

_BUSY, _FAILED = 429, 500
_REFUSED = {
    401: "the hub does not know this token, or it has expired; set HF_TOKEN, or `hf auth login`, and run again",
    403: "the token may not do that; set HF_TOKEN to one that has the right to, or `hf auth login`, and run again",
}
#: How long to wait for the next byte of the hub.
PATIENCE_SECONDS = 600.0
_URL = re.compile(r"https?://\S+")


class PassingError(StoreError):
    """What may be over when the hub is asked again."""


class HubIsBusyError(PassingError):
    """The hub asks for fewer requests; after `seconds` it can be asked again, if it says so."""

    seconds: int | None = None


@contextmanager
def asking_hub(address: str) -> Iterator[None]:
    """Raise what huggingface_hub raises as FileNotFoundError where no file is there, and else as StoreError.

    address: what it is asked for.
    """
    import huggingface_hub.errors as hub
    from huggingface_hub import get_session

    logging.getLogger("huggingface_hub.utils._http").addFilter(_without_signatures)
    if _with_patience not in (hooks := get_session().event_hooks["request"]):
        hooks.append(_with_patience)
    said: StoreError | FileNotFoundError
    try:
        try:
            yield
        except RuntimeError as error:  # of a thread that uploads a file
            raise error.__cause__ or error from None
    except hub.OfflineModeIsEnabled:
        said = StoreError(f"{address}: HF_HUB_OFFLINE is set; unset it, or name a local path")
    except hub.LocalEntryNotFoundError:
        said = PassingError(f"{address}: not in the cache, and the hub cannot be reached")
    except hub.EntryNotFoundError:
        said = FileNotFoundError(errno.ENOENT, "no such file on the hub", address)
    except hub.RevisionNotFoundError:
        said = StoreError(f"{address}: no such branch, tag or commit on the hub; check what stands after `@`")
    except hub.GatedRepoError:
        said = StoreError(f"{address}: gated: accept its conditions on the hub; {_who()}")
    except (hub.RepositoryNotFoundError, hub.BucketNotFoundError):
        said = StoreError(f"{address}: not on the hub, or private: check the name; {_who()}")
    except hub.HfHubHTTPError as error:
        said = _answered(address, error.response.status_code, error.response.headers, error.server_message)
    except ConnectionError as error:  # of Xet, which stores the bytes
        said = PassingError(f"{address}: cannot reach the hub: {_unsigned(first_line(error))}; run again")
    except hub.HTTPError as error:  # type: ignore[attr-defined]  # of the client that it uses
        said = PassingError(
            f"{address}: cannot reach the hub ({type(error).__name__}); check the network, and run again"
        )
    except json.JSONDecodeError:
        said = PassingError(f"{address}: the hub answered what is no JSON; run again: what is finished is kept")
    except hub.HFValidationError:
        said = StoreError(f"{address}: expected OWNER/NAME of letters, digits, `-`, `_` and `.`")
    else:
        return
    raise said from None


def _who() -> str:
    from huggingface_hub import get_token

    return (
        "the token in use may have no right to it"
        if get_token()
        else "no token was found: set HF_TOKEN, or `hf auth login`"
    )


def _answered(address: str, status: int, headers: Mapping[str, str], message: str | None) -> StoreError:
    if status == _BUSY:
        seconds = _reset_seconds(headers)
        when = "in some minutes" if seconds is None else f"in {seconds} s"
        busy = HubIsBusyError(
            f"{address}: the hub asks for fewer requests; run again {when}, with fewer workers: what is finished is"
            " kept"
        )
        busy.seconds = seconds
        return busy
    if status in _REFUSED:
        return StoreError(f"{address}: {_REFUSED[status]}: what is finished is kept")
    why = f": {printable(_unsigned(first_line(message)))}" if message else ""
    kind = PassingError if status >= _FAILED else StoreError
    return kind(f"{address}: the hub answered {status}{why}; run again: what is finished is kept")


def _reset_seconds(headers: Mapping[str, str]) -> int | None:
    """After how many seconds the hub can be asked again, if it says so."""
    from huggingface_hub.utils import parse_ratelimit_headers  # type: ignore[attr-defined]

    limit = parse_ratelimit_headers(headers)
    if limit is not None:
        return int(limit.reset_in_seconds)
    after = headers.get("Retry-After", "")
    return int(after) if after.isdecimal() else None


def _unsigned(text: str) -> str:
    return _URL.sub(lambda url: url[0].partition("?")[0], text)


def _without_signatures(record: logging.LogRecord) -> bool:
    """Keep what is signed out of the log."""
    record.msg = _unsigned(str(record.msg))
    return True


def _with_patience(request: Any) -> None:
    """Let a request of the hub's client end some time, which has no limit of its own."""
    limits = request.extensions.get("timeout", {})
    limits.update({key: PATIENCE_SECONDS for key, seconds in limits.items() if seconds is None})
