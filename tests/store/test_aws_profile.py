"""AWS profiles: what the environment says comes first, and no key is ever quoted."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from gneiss.errors import StoreError
from gneiss.store.aws_profile import with_profile

CONFIG = """
[default]
region = eu-west-1
[profile work]
region = eu-central-1
endpoint_url = https://store.example
[profile made]
credential_process = {python} {folder}/keys.py
[profile broken]
credential_process = {python} -c "raise SystemExit('sosecret')"
[profile login]
sso_session = corporate
"""
CREDENTIALS = """
[default]
aws_access_key_id = key
aws_secret_access_key = sosecret
[work]
aws_access_key_id = workkey
aws_secret_access_key = worksecret
aws_session_token = worktoken
"""


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """The files of profiles, as the environment names them."""
    keys = {"AccessKeyId": "made", "SecretAccessKey": "s", "SessionToken": "t"}
    (tmp_path / "keys.py").write_text(f"print({json.dumps(keys)!r})")
    (tmp_path / "config").write_text(CONFIG.format(python=sys.executable, folder=tmp_path))
    (tmp_path / "credentials").write_text(CREDENTIALS)
    return {"AWS_CONFIG_FILE": f"{tmp_path}/config", "AWS_SHARED_CREDENTIALS_FILE": f"{tmp_path}/credentials"}


def settings_of(files: dict[str, str], **settings: str) -> dict[str, str]:
    found = with_profile({**files, **settings})
    return {
        name.removeprefix("AWS_"): value for name, value in found.items() if name not in {**files, "AWS_PROFILE": 1}
    }


def test_the_profile_that_is_named_or_the_default_one(files: dict[str, str]) -> None:
    assert settings_of(files) == {"ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "sosecret", "REGION": "eu-west-1"}
    assert settings_of(files, AWS_PROFILE="work") == {
        "ACCESS_KEY_ID": "workkey",
        "SECRET_ACCESS_KEY": "worksecret",
        "SESSION_TOKEN": "worktoken",
        "REGION": "eu-central-1",
        "ENDPOINT_URL": "https://store.example",
    }


def test_the_environment_comes_first(files: dict[str, str]) -> None:
    own = {"AWS_ACCESS_KEY_ID": "own", "AWS_SECRET_ACCESS_KEY": "o"}
    assert settings_of(files, **own) == {"ACCESS_KEY_ID": "own", "SECRET_ACCESS_KEY": "o", "REGION": "eu-west-1"}
    assert settings_of(files, AWS_SKIP_SIGNATURE="true", AWS_REGION="x") == {"SKIP_SIGNATURE": "true", "REGION": "x"}
    assert with_profile({"AWS_CONFIG_FILE": "/nowhere", "AWS_SHARED_CREDENTIALS_FILE": "/nowhere", "AWS_A": "b"})[
        "AWS_A"
    ]


@pytest.mark.processes
def test_a_program_gives_credentials(files: dict[str, str]) -> None:
    assert settings_of(files, AWS_PROFILE="made") == {
        "ACCESS_KEY_ID": "made",
        "SECRET_ACCESS_KEY": "s",
        "SESSION_TOKEN": "t",
    }
    with pytest.raises(StoreError, match="'broken': its credential_process failed") as raised:
        settings_of(files, AWS_PROFILE="broken")
    assert "sosecret" not in str(raised.value)


def test_what_is_not_followed_is_said(files: dict[str, str]) -> None:
    with pytest.raises(StoreError, match=r"'login' has sso_session.*aws configure export-credentials"):
        settings_of(files, AWS_PROFILE="login")
    with pytest.raises(StoreError, match="no profile 'other'"):
        settings_of(files, AWS_PROFILE="other")
    Path(files["AWS_SHARED_CREDENTIALS_FILE"]).write_text("sosecret without a section")
    with pytest.raises(StoreError, match="cannot read this file of AWS profiles") as raised:
        settings_of(files)
    assert "sosecret" not in str(raised.value)
    assert raised.value.__cause__ is None
