"""moto's S3 on loopback, as a server of its own, for what reads s3:// addresses."""

from collections.abc import Iterator
from contextlib import contextmanager

import boto3
import pytest
import s3fs
from moto.server import ThreadedMotoServer

KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


@contextmanager
def object_store(patch: pytest.MonkeyPatch, contents: dict[str, bytes], bucket: str = "pictures") -> Iterator[str]:
    """Start a store with a bucket that has these objects; the environment says where it is.

    Yields:
        The address of the bucket.
    """
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}.items():
        patch.setenv(name, value)
    # A proxy of the environment must not be asked for what is on this machine.
    patch.setenv("NO_PROXY", "127.0.0.1")
    # s3fs keeps its connections, and would ask a store that an earlier test has ended.
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        client = boto3.client("s3")
        client.create_bucket(Bucket=bucket)
        for key, content in contents.items():
            client.put_object(Bucket=bucket, Key=key, Body=content)
        yield f"s3://{bucket}"
    finally:
        server.stop()
        s3fs.S3FileSystem.clear_instance_cache()
