"""Checkpoints in buckets with object lock, on a real S3-compatible server, and on ones that lie."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from minio import Minio
from minio.commonconfig import COMPLIANCE
from minio.credentials.providers import StaticProvider
from minio.error import S3Error
from moto.server import ThreadedMotoServer
from support.anchors import LOG, History, free_port, says, serving

from guard.audit.anchors import ObjectStoreAnchor
from guard.audit.checkpoint import parse
from guard.errors import AuditFault, ConfigError

TRUE = History()


@pytest.fixture(scope="module")
def store_url() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


CREDENTIALS = StaticProvider("access", "secret-key")


def _bucket(url: str, name: str, *, object_lock: bool) -> Minio:
    client = Minio(endpoint=url.removeprefix("http://"), credentials=CREDENTIALS, secure=False)
    client.make_bucket(bucket_name=name, location="us-east-1", object_lock=object_lock)
    return client


def _store(url: str, bucket: str) -> ObjectStoreAnchor:
    return ObjectStoreAnchor(
        url, bucket, retention_days=365, region="us-east-1", credentials=CREDENTIALS
    )


def test_a_checkpoint_in_a_bucket_is_locked_until_its_date(store_url: str) -> None:
    client = _bucket(store_url, "locked", object_lock=True)
    receipt = _store(store_url, "locked").publish(*TRUE.at(9))
    key, _, version = receipt.where.removeprefix("locked/").partition("?versionId=")
    response = client.get_object(bucket_name="locked", object_name=key)
    assert parse(response.data, LOG.verifier) == TRUE.checkpoint(9)
    response.close()
    headers = client.stat_object(bucket_name="locked", object_name=key).metadata or {}
    until = datetime.datetime.fromisoformat(headers["x-amz-object-lock-retain-until-date"])
    left = until - datetime.datetime.now(datetime.UTC)
    assert (headers["x-amz-object-lock-mode"], left.days) == (COMPLIANCE, 364)
    with pytest.raises(S3Error, match="AccessDenied"):
        client.remove_object(bucket_name="locked", object_name=key, version_id=version)


def test_a_bucket_without_object_lock_is_refused(store_url: str) -> None:
    client = _bucket(store_url, "plain", object_lock=False)
    with pytest.raises(AuditFault, match="ObjectLockConfigurationNotFoundError"):
        _store(store_url, "plain").publish(*TRUE.at(9))
    assert list(client.list_objects(bucket_name="plain", recursive=True)) == []


def test_a_store_that_is_down_or_lacks_the_bucket_is_an_error(store_url: str) -> None:
    with pytest.raises(AuditFault, match="NoSuchBucket"):
        _store(store_url, "lacking").publish(*TRUE.at(9))
    with pytest.raises(AuditFault, match="does not take locked objects"):
        _store(f"http://127.0.0.1:{free_port()}", "locked").publish(*TRUE.at(9))


LOCK_ENABLED = (
    b'<ObjectLockConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    b"<ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>"
)


@pytest.mark.parametrize(
    ("configuration", "message"),
    [(LOCK_ENABLED, "without locking it"), (b"garbage", "does not take locked objects")],
)
def test_a_store_that_only_says_it_locks_is_not_believed(
    configuration: bytes, message: str
) -> None:
    class Connection(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            says(200, configuration)(self)

        def do_HEAD(self) -> None:
            says(200, Last_Modified="Sat, 21 Nov 2026 05:42:24 GMT")(self)

        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            says(200)(self)

        def log_message(self, *args: object) -> None:
            """Silence."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Connection)
    with serving(server), pytest.raises(AuditFault, match=message):
        _store(f"http://127.0.0.1:{server.server_address[1]}", "bucket").publish(*TRUE.at(9))


def test_a_store_over_plain_http_is_refused() -> None:
    with pytest.raises(ConfigError, match="the URL of an object store"):
        _store("http://example.com", "locked")
