"""Checkpoints in a bucket with S3 Object Lock: not even its owner deletes them before their date.

Needs the extra `object-store` (minio). Credentials come from AWS_* or MINIO_* variables, the files
of the AWS tools, or the role of the machine.
"""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit
from xml.etree.ElementTree import ParseError

from ...clock import SYSTEM_CLOCK, Clock
from ...errors import AuditFault, ConfigError
from ..checkpoint import Checkpoint
from .anchor import TIMEOUT_S, Receipt

if TYPE_CHECKING:
    from minio import Minio
    from minio.credentials.providers import Provider

__all__ = ["RETENTION_DAYS_MAX", "ObjectStoreAnchor", "client_of", "reason_of"]

RETENTION_DAYS_MAX: Final = 36_500
_LOCAL: Final = frozenset(("127.0.0.1", "::1", "localhost"))


class ObjectStoreAnchor:
    """One object for each checkpoint, `<prefix><size>-<root>`, locked in COMPLIANCE mode."""

    def __init__(
        self,
        url: str,
        bucket: str,
        *,
        retention_days: int,
        name: str = "object-store",
        prefix: str = "checkpoints/",
        region: str | None = None,
        interval_s: float = 60,
        timeout_s: float = TIMEOUT_S,
        ca_file: Path | None = None,
        credentials: Provider | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """`url` is that of the store, such as https://s3.eu-central-1.amazonaws.com."""
        if not 1 <= retention_days <= RETENTION_DAYS_MAX:
            raise ConfigError(f"retention_days is 1 to {RETENTION_DAYS_MAX}, not {retention_days}")
        self.name = name
        self.interval_s = interval_s
        self._client = client_of(url, region, timeout_s, ca_file, credentials)
        self._bucket = bucket
        self._prefix = prefix
        self._retention = timedelta(days=retention_days)
        self._clock = clock
        self._is_lockable = False

    def publish(self, note: bytes, checkpoint: Checkpoint) -> Receipt:
        """Store the note and see that it is locked; a second try makes a second version of it."""
        from minio.commonconfig import COMPLIANCE
        from minio.error import MinioException
        from minio.retention import Retention
        from minio.time import from_iso8601utc
        from urllib3.exceptions import HTTPError

        key = f"{self._prefix}{checkpoint.size:020}-{checkpoint.root.hex()}"
        now = datetime.fromtimestamp(self._clock.now_ns() // 1_000_000_000, UTC)
        try:
            if not self._is_lockable:
                # Raises where the bucket was made without object lock.
                self._client.get_object_lock_config(bucket_name=self._bucket)
                self._is_lockable = True
            stored = self._client.put_object(
                bucket_name=self._bucket,
                object_name=key,
                data=BytesIO(note),
                length=len(note),
                content_type="text/plain; charset=utf-8",
                # S3 asks for a checksum of what it is to lock.
                metadata={
                    "x-amz-sdk-checksum-algorithm": "SHA256",
                    "x-amz-checksum-sha256": b64encode(sha256(note).digest()).decode(),
                },
                retention=Retention(COMPLIANCE, now + self._retention),
            )
            found = self._client.stat_object(
                bucket_name=self._bucket, object_name=key, version_id=stored.version_id
            )
            headers = found.metadata or {}
            mode = headers.get("x-amz-object-lock-mode")
            until = from_iso8601utc(headers.get("x-amz-object-lock-retain-until-date"))
        except (MinioException, HTTPError, OSError, ValueError, ParseError) as error:
            raise AuditFault(
                f"the bucket `{self._bucket}` does not take locked objects ({reason_of(error)}):"
                " it must be there, have object lock, and grant PutObject, PutObjectRetention,"
                " GetObject, GetObjectRetention and GetBucketObjectLockConfiguration"
            ) from error
        # A store that does not know object lock passes over the header and stores all the same.
        if mode != COMPLIANCE or until is None or until < now + self._retention:
            raise AuditFault(
                f"the bucket `{self._bucket}` stored a checkpoint without locking it for that long"
            )
        return Receipt(f"{self._bucket}/{key}?versionId={stored.version_id}")


def client_of(
    url: str,
    region: str | None,
    timeout_s: float,
    ca_file: Path | None,
    credentials: Provider | None,
) -> Minio:
    """A client of a store; raises ConfigError for what is no URL of one, or without the extra."""
    try:
        import urllib3
        from minio import Minio
        from minio.credentials.providers import (
            AWSConfigProvider,
            ChainedProvider,
            EnvAWSProvider,
            EnvMinioProvider,
            IamAwsProvider,
        )
    except ImportError as error:
        raise ConfigError(
            "an object store needs the extra: pip install 'stepguard[object-store]'"
        ) from error
    parts = urlsplit(url)
    if parts.scheme != "https" and (parts.scheme != "http" or parts.hostname not in _LOCAL):
        raise ConfigError("the URL of an object store is https://host[:port], or http to 127.0.0.1")
    pool = urllib3.PoolManager(
        timeout=urllib3.Timeout(total=timeout_s),
        retries=False,  # No redirects either; the publisher tries again.
        cert_reqs="CERT_REQUIRED",
        ca_certs=str(ca_file) if ca_file else None,
    )
    chain = [EnvAWSProvider(), EnvMinioProvider(), AWSConfigProvider(), IamAwsProvider()]
    try:
        return Minio(
            endpoint=parts.netloc,
            secure=parts.scheme == "https",
            region=region,
            http_client=pool,
            credentials=credentials or ChainedProvider(chain),
        )
    except ValueError as error:
        raise ConfigError(f"the URL of an object store is https://host[:port]: {error}") from error


def reason_of(error: Exception) -> str:
    """The code of the store, such as NoSuchBucket, or the type: messages may hold credentials."""
    code = getattr(error, "code", None)
    return code if isinstance(code, str) else type(error).__name__
