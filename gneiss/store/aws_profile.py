"""AWS's files of profiles, which obstore does not read: `~/.aws/config` and `~/.aws/credentials`."""

from __future__ import annotations

import configparser
import json
import os
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

from gneiss.errors import StoreError

#: What a profile says, and what the environment calls it.
_NAMES = {
    "aws_access_key_id": "AWS_ACCESS_KEY_ID",
    "aws_secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "aws_session_token": "AWS_SESSION_TOKEN",
    "region": "AWS_REGION",
    "endpoint_url": "AWS_ENDPOINT_URL",
}
#: Where credentials of the environment come from, any of which comes before a profile that nobody named.
_OWN = ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_SKIP_SIGNATURE")  # fmt: skip
_SECONDS = 60


def with_profile(settings: Mapping[str, str]) -> dict[str, str]:
    """The settings of the environment, and what the profile that they name has beside them. Raises StoreError.

    Static keys and `credential_process` are read; what needs a login or another role is refused, with the way around.
    """
    name = settings.get("AWS_PROFILE") or settings.get("AWS_DEFAULT_PROFILE")
    profile = _profile(settings, name or "default")
    if profile is None:
        if name:
            raise StoreError(f"AWS_PROFILE: no profile {name!r} in {' or '.join(map(str, _files(settings)))}")
        return dict(settings)
    found = {_NAMES[key]: value for key, value in profile.items() if key in _NAMES}
    if any(name in settings for name in _OWN):
        found = {key: value for key, value in found.items() if key in ("AWS_REGION", "AWS_ENDPOINT_URL")}
    elif "AWS_ACCESS_KEY_ID" not in found:
        if command := profile.get("credential_process"):
            found |= _of_process(command, name or "default")
        elif other := next((key for key in ("sso_session", "sso_start_url", "role_arn") if key in profile), None):
            raise StoreError(
                f"AWS profile {name or 'default'!r} has {other}, which gneiss does not follow; put what"
                " `aws configure export-credentials` prints for it into the environment"
            )
    if "AWS_DEFAULT_REGION" in settings:
        found.pop("AWS_REGION", None)
    return {**found, **settings}


def _files(settings: Mapping[str, str]) -> tuple[Path, Path]:
    folder = Path.home() / ".aws"
    config = settings.get("AWS_CONFIG_FILE") or folder / "config"
    credentials = settings.get("AWS_SHARED_CREDENTIALS_FILE") or folder / "credentials"
    return Path(config).expanduser(), Path(credentials).expanduser()


def _profile(settings: Mapping[str, str], name: str) -> dict[str, str] | None:
    """What both files say of a profile; credentials come before config."""
    found: dict[str, str] | None = None
    config, credentials = _files(settings)
    for path, section in ((config, name if name == "default" else f"profile {name}"), (credentials, name)):
        parser = configparser.RawConfigParser(strict=False, default_section="")
        try:
            parser.read_string(path.read_text("utf-8"))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, configparser.Error) as error:  # whose text may quote a line with a key
            raise StoreError(f"{path}: cannot read this file of AWS profiles: {type(error).__name__}") from None
        if parser.has_section(section):
            found = {**(found or {}), **dict(parser.items(section))}
    return found


def _of_process(command: str, name: str) -> dict[str, str]:
    try:
        answer = subprocess.run(
            shlex.split(command), capture_output=True, check=True, timeout=_SECONDS, env=dict(os.environ)
        )
        keys = json.loads(answer.stdout)
        found = {"AWS_ACCESS_KEY_ID": keys["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": keys["SecretAccessKey"]}
        return found | ({"AWS_SESSION_TOKEN": keys["SessionToken"]} if keys.get("SessionToken") else {})
    except (OSError, ValueError, KeyError, TypeError, subprocess.SubprocessError) as error:
        raise StoreError(f"AWS profile {name!r}: its credential_process failed: {type(error).__name__}") from None
