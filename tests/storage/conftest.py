"""A real S3 server, a bucket for each test, and machines that work with it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from selfie.storage.remote import Bucket


@pytest.fixture
def bucket(s3: Any, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an empty bucket of the test's own; the environment leads to its server."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    name = f"bucket-{abs(hash(request.node.nodeid))}"
    s3.client.create_bucket(Bucket=name)
    s3.requests.clear()
    return name


@pytest.fixture
def machine(bucket: str, tmp_path: Path) -> Iterator[Callable[[str], Bucket]]:
    """``machine(name)`` opens the bucket from a local folder of that machine's; the one opened before is closed."""

    def switch(name: str) -> Bucket:
        if Bucket.current is not None:
            Bucket.current.close()
        opened = Bucket(f"s3://{bucket}/prefix", tmp_path / name)
        opened.open()
        return opened

    yield switch
    if Bucket.current is not None:
        Bucket.current.close()
