"""The proxy before the S3 server of the tests: what it counts, and what its faults look like to a client."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import obstore
import pytest
from obstore.exceptions import AlreadyExistsError, PermissionDeniedError
from obstore.store import S3Store

from tests.store import faults
from tests.store.faults import Proxy
from tests.store.s3_server import KEY, READER, SECRET

LARGE = bytes(range(256)) * 24_000  # two parts


@pytest.fixture
def connect(proxy: Proxy, s3_folder: str) -> Callable[..., S3Store]:
    """A client of the bucket, which waits 1 ms between its attempts."""
    prefix = s3_folder.removeprefix("s3://gneiss/")

    def connect(key: str = KEY, secret: str = SECRET) -> S3Store:
        wait = {"init_backoff": timedelta(milliseconds=1), "max_backoff": timedelta(milliseconds=1)}
        return S3Store(
            "gneiss", prefix=prefix, endpoint=proxy.endpoint, access_key_id=key, secret_access_key=secret,
            region="us-east-1", client_options={"allow_http": True}, retry_config={"backoff": wait, "max_retries": 3},
        )  # fmt: skip

    return connect


@pytest.fixture
def client(connect: Callable[..., S3Store]) -> S3Store:
    """The client of who may do all."""
    return connect()


def put_parts(client: S3Store, key: str) -> None:
    obstore.put(client, key, LARGE, use_multipart=True, chunk_size=5 << 20)


def read(client: S3Store, key: str) -> bytes:
    return bytes(obstore.get(client, key).bytes())


def test_operations_are_counted_by_their_names(proxy: Proxy, client: S3Store) -> None:
    with proxy.counted() as counts:
        put_parts(client, "large")
        assert read(client, "large") == LARGE
        assert obstore.head(client, "large")["size"] == len(LARGE)
        assert [each["path"] for page in obstore.list(client) for each in page] == ["large"]
        obstore.delete(client, "large")
    assert counts == {
        "CreateMultipartUpload": 1, "UploadPart": 2, "CompleteMultipartUpload": 1, "GetObject": 1, "HeadObject": 1,
        "ListObjectsV2": 1, "DeleteObjects": 1,
    }  # fmt: skip
    assert {request.bucket for request in proxy.requests} == {"gneiss"}


@pytest.mark.parametrize(
    "fault",
    [faults.SLOW_DOWN, faults.INTERNAL, {"upload_bytes": 100}, {"is_lost": True}],
    ids=["busy", "failing", "cut", "lost"],
)
def test_a_client_tries_again(fault: dict[str, object], proxy: Proxy, client: S3Store) -> None:
    for operation, write in (("PutObject", lambda: obstore.put(client, "key", LARGE[:1000])),
                             ("UploadPart", lambda: put_parts(client, "key")),
                             ("CompleteMultipartUpload", lambda: put_parts(client, "key"))):  # fmt: skip
        with proxy.fault(operation, "*/key", times=1, **fault), proxy.counted() as counts:
            write()
        assert counts[operation] >= 2
    assert read(client, "key") == LARGE


def test_a_read_that_is_cut_goes_on_and_one_that_is_short_is_not_noticed(proxy: Proxy, client: S3Store) -> None:
    put_parts(client, "key")
    with proxy.fault("GetObject", times=1, answer_bytes=100_000):
        assert read(client, "key") == LARGE
    with proxy.fault("GetObject", times=1, bytes_per_s=50 << 20):
        assert read(client, "key") == LARGE
    with proxy.fault("GetObject", times=1, short_by=7):
        assert read(client, "key") == LARGE[:-7]


def test_what_a_client_that_creates_and_gets_no_answer_has_created_is_there(proxy: Proxy, client: S3Store) -> None:
    with proxy.fault("PutObject", times=1, is_lost=True), pytest.raises(AlreadyExistsError):
        obstore.put(client, "key", b"mine", mode="create")
    assert read(client, "key") == b"mine"


def test_a_key_is_missing_from_a_list_for_a_while(proxy: Proxy, client: S3Store) -> None:
    for key in ("a&b", "c"):
        obstore.put(client, key, b"x")
    listed: Callable[[], list[str]] = lambda: [each["path"] for page in obstore.list(client) for each in page]  # noqa: E731
    with proxy.fault(hidden="*/a&b"):
        assert listed() == ["c"]
    assert listed() == ["a&b", "c"]


def test_who_may_only_read_cannot_write(connect: Callable[..., S3Store]) -> None:
    obstore.put(connect(), "key", b"x")
    assert read(connect(*READER), "key") == b"x"
    with pytest.raises(PermissionDeniedError, match="AccessDenied"):
        obstore.put(connect(*READER), "key", b"y")
    with pytest.raises(PermissionDeniedError, match="SignatureDoesNotMatch"):
        obstore.put(connect(secret="another"), "key", b"y")
    with pytest.raises(PermissionDeniedError, match="InvalidAccessKeyId"):
        obstore.put(connect(key="ANOTHER"), "key", b"y")


def test_a_fault_that_nothing_meets_fails_the_test(proxy: Proxy) -> None:
    with pytest.raises(AssertionError, match="no request met"), proxy.fault("PutObject"):
        pass
