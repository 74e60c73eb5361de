"""A server of S3's protocol in a thread of this process: moto, on the loopback interface."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

KEY, SECRET = "AKIATHEKEYOFTESTS", "thesecretoftests"


@contextmanager
def s3_server() -> Iterator[Mapping[str, str]]:
    """Yield the environment that names an empty server and has its credentials."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_MAX_ATTEMPTS": "2",
        }
    finally:
        server.stop()


def admin(environment: Mapping[str, str]) -> Any:
    """A client that can do what gneiss cannot, such as to make buckets."""
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
    )
