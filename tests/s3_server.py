"""A real S3 server, moto's, on a port of its own: it can be killed, and an upload can be held up in it."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import boto3
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

KEYS = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "not-a-secret", "AWS_DEFAULT_REGION": "us-east-1"}


class Quiet(WSGIRequestHandler):
    """Logs no requests."""

    def log_request(self, *_: object) -> None:
        pass


class S3Server:
    """Its buckets live as long as the process, so that a server that was killed and started again has them.

    Attributes:
        requests: method and path of all that it was asked, in order.
        hold: a pattern of paths whose uploads wait until :meth:`refuse_held`; None: nothing waits.
        held: set once one waits.
    """

    def __init__(self) -> None:
        self.app = DomainDispatcherApplication(create_backend_app)
        self.requests: list[tuple[str, str]] = []
        self.held = threading.Event()
        self.go_on = threading.Event()
        self.hold: str | None = None
        self.port = 0
        self.start()
        self.environment = {**KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}"}
        self.client: Any = boto3.client(
            "s3",
            endpoint_url=self.environment["AWS_ENDPOINT_URL"],
            aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
            region_name=KEYS["AWS_DEFAULT_REGION"],
        )

    def start(self) -> None:
        self.server = make_server("127.0.0.1", self.port, self, threaded=True, request_handler=Quiet)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def kill(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def refuse_held(self) -> None:
        """Those that wait fail, and no other has to wait."""
        self.hold = None
        self.go_on.set()
        time.sleep(0.5)
        self.held.clear()
        self.go_on.clear()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.requests.append((method, path))
        if method == "PUT" and self.hold and re.search(self.hold, path):
            self.held.set()
            self.go_on.wait(120)
            start_response("503 Service Unavailable", [])
            return []
        return self.app(environ, start_response)

    def forbid_writing(self, bucket: str) -> None:
        """By the bucket's policy."""
        refused = {"Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{bucket}/*"}
        policy = {"Version": "2012-10-17", "Statement": [refused]}
        self.client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))

    def names(self, bucket: str) -> list[str]:
        """Of all objects in the bucket."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def drop(self, bucket: str) -> None:
        """The bucket with all that it holds; uploads must be held up meanwhile."""
        time.sleep(0.5)
        for name in self.names(bucket):
            self.client.delete_object(Bucket=bucket, Key=name)
        self.client.delete_bucket(Bucket=bucket)
