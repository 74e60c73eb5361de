"""What the hub answers when it refuses or fails, as OSError: what was asked for, the cause, what to do.

Its client quotes URLs, some of which are signed, so none of its text is passed on.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from gneiss.errors import first_line

_STATUS = {
    401: (errno.EACCES, "the hub does not know this token, or it has expired: set HF_TOKEN, or `hf auth login`"),
    403: (errno.EACCES, "the token may not do that: set HF_TOKEN to one that has the right to, or `hf auth login`"),
}


@contextmanager
def asking_hub(address: str) -> Iterator[None]:
    """Raise what huggingface_hub raises as OSError; address: what it is asked for."""
    import huggingface_hub.errors as hub

    try:
        yield
    except hub.OfflineModeIsEnabled:
        said = errno.ENETUNREACH, "HF_HUB_OFFLINE is set: unset it, or name a local path"
    except hub.EntryNotFoundError:
        said = errno.ENOENT, "no such file on the hub"
    except hub.RevisionNotFoundError:
        said = errno.ENOENT, "no such branch, tag or commit on the hub"
    except hub.GatedRepoError:
        said = errno.EACCES, f"gated: accept its conditions on the hub; {_who()}"
    except (hub.RepositoryNotFoundError, hub.BucketNotFoundError):
        said = errno.ENOENT, f"not on the hub, or private: check the name; {_who()}"
    except hub.HfHubHTTPError as error:
        said = _answered(error.response.status_code, error.response.headers, error.server_message)
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


def _answered(status: int, headers: Mapping[str, str], message: str | None) -> tuple[int, str]:
    if status == 429:
        from huggingface_hub.utils import parse_ratelimit_headers  # type: ignore[attr-defined]

        limit = parse_ratelimit_headers(headers)
        wait = f"in {limit.reset_in_seconds} s" if limit else "in some minutes"
        return errno.EBUSY, f"the hub asks for fewer requests: run again {wait}; what is finished is kept"
    if status in _STATUS:
        return _STATUS[status]
    return errno.EIO, f"the hub answered {status}" + (f": {first_line(message)}" if message else "")
