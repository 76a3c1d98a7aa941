"""An S3 server of this machine, as a process of its own: moto's, which keeps objects in memory."""

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3

from tests.support.studies import free_port

BUCKET = "studies"
STARTS_WITHIN_S = 60.0


@dataclass(frozen=True)
class S3Server:
    """Its address, and the variables with which a program finds it."""

    url: str
    env: dict[str, str] = field(repr=False)

    def client(self, service: str = "s3") -> Any:
        keys = {"aws_access_key_id": self.env["AWS_ACCESS_KEY_ID"], "region_name": "us-east-1"}
        secret = self.env["AWS_SECRET_ACCESS_KEY"]
        return boto3.client(service, endpoint_url=self.url, aws_secret_access_key=secret, **keys)

    def keys(self, prefix: str = "") -> list[str]:
        found = self.client().list_objects_v2(Bucket=BUCKET, Prefix=prefix)
        return [one["Key"] for one in found.get("Contents", [])]

    def read(self, key: str) -> bytes:
        return self.client().get_object(Bucket=BUCKET, Key=key)["Body"].read()

    @contextmanager
    def checking_access(self, *actions: str) -> Iterator[dict[str, str]]:
        """Makes the server look at keys for the block; yields the keys of a user who may do `actions`."""
        iam = self.client("iam")
        user = f"user-{time.monotonic_ns()}"
        iam.create_user(UserName=user)
        allowed = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
        iam.put_user_policy(UserName=user, PolicyName="own", PolicyDocument=policy)
        key = iam.create_access_key(UserName=user)["AccessKey"]
        self._ask("/moto-api/reset-auth", b"0")
        try:
            yield self.env | {
                "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
                "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
            }
        finally:
            self._ask("/moto-api/reset-auth", b"inf")

    def _ask(self, path: str, body: bytes) -> None:
        request = urllib.request.Request(self.url + path, body, {"Content-Type": "text/plain"})
        urllib.request.urlopen(request, timeout=10).close()


@contextmanager
def s3_server(log: Path, port: int | None = None) -> Iterator[S3Server]:
    """Runs a server with an empty bucket for the block; without `port` on a free one."""
    url = f"http://127.0.0.1:{port or free_port()}"
    argv = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", url.rpartition(":")[2]]
    env = {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "key-of-tests",
        "AWS_SECRET_ACCESS_KEY": "secret-of-tests",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with log.open("w") as out, subprocess.Popen(argv, stdout=out, stderr=subprocess.STDOUT) as process:
        try:
            server = S3Server(url, env)
            deadline = time.monotonic() + STARTS_WITHIN_S
            while not _answers(url):
                assert process.poll() is None and time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
            server.client().create_bucket(Bucket=BUCKET)
            yield server
        finally:
            process.kill()


def _answers(url: str) -> bool:
    with suppress(urllib.error.URLError, OSError):
        urllib.request.urlopen(f"{url}/moto-api/", timeout=5).close()
        return True
    return False
