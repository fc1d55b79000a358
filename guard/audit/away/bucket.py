"""The part of a bucket below a prefix: what is in it, and putting things there.

Needs the extra `object-store` (minio). Credentials come as for anchors of kind object_store.
"""

from __future__ import annotations

import hashlib
import os
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from io import BufferedReader, BytesIO
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import urlsplit
from xml.etree.ElementTree import ParseError

import msgspec

from ...clock import Clock
from ...errors import AuditFault, ConfigError
from ..anchors.object_store import RETENTION_DAYS_MAX, client_of, reason_of

if TYPE_CHECKING:
    from pathlib import Path

    from minio.credentials.providers import Provider
    from minio.retention import Retention

__all__ = ["Bucket", "File", "Stored"]

File: TypeAlias = BufferedReader | BytesIO

# For one answer of the store, which also may have to take a whole segment.
TIMEOUT_S: Final = 60.0
# What is sent at once: S3 takes parts of at least 5 MiB.
_PART_BYTES: Final = 64 << 20
_PIECE_BYTES: Final = 1 << 20
_DIGEST: Final = "x-amz-meta-sha256"
_AWS: Final = "https://s3.amazonaws.com"


class Stored(msgspec.Struct, frozen=True):
    """What the list of a bucket says of an object."""

    size_bytes: int
    etag: str


class Bucket:
    """Objects below `s3://bucket/prefix`; what is wrong with the store is an AuditFault."""

    def __init__(
        self, place: str, *, endpoint: str | None = None, region: str | None = None,
        lock_days: int = 0, ca_file: Path | None = None, credentials: Provider | None = None,
        clock: Clock,
    ) -> None:  # fmt: skip
        """With `lock_days` everything that is put is locked that long in COMPLIANCE mode."""
        try:
            parts = urlsplit(place)
        except ValueError as error:
            raise ConfigError("malformed place: expected s3://bucket/prefix") from error
        if parts.scheme != "s3" or not parts.netloc or parts.query or parts.fragment:
            raise ConfigError(f"malformed place `{place[:80]}`: expected s3://bucket/prefix")
        if not 0 <= lock_days <= RETENTION_DAYS_MAX:
            raise ConfigError(f"a lock holds 0 to {RETENTION_DAYS_MAX} days, not {lock_days}")
        self.shown = place
        self._name = parts.netloc
        self._prefix = f"{parts.path.strip('/')}/".removeprefix("/")
        self._client = client_of(endpoint or _AWS, region, TIMEOUT_S, ca_file, credentials)
        self._lock_days = lock_days
        self._clock = clock
        self._is_lockable = False

    def objects(self) -> dict[str, Stored]:
        """Everything there, by its name below the prefix."""
        with self._asked():
            found = self._client.list_objects(
                bucket_name=self._name, prefix=self._prefix, recursive=True
            )
            return {
                item.object_name.removeprefix(self._prefix): Stored(
                    item.size or 0, (item.etag or "").strip('"')
                )
                for item in found
                if item.object_name and not item.is_dir
            }

    def get(self, name: str, bytes_max: int) -> bytes | None:
        """A small object; None where it is not there."""
        from minio.error import S3Error

        try:
            return b"".join(self.pieces(name, bytes_max))
        except AuditFault as fault:
            if isinstance(fault.__cause__, S3Error) and fault.__cause__.code == "NoSuchKey":
                return None
            raise

    def pieces(self, name: str, bytes_max: int) -> Iterator[bytes]:
        """An object piece by piece."""
        with self._asked():
            answer = self._client.get_object(
                bucket_name=self._name, object_name=self._prefix + name
            )
            try:
                for piece in answer.stream(_PIECE_BYTES):
                    bytes_max -= len(piece)
                    if bytes_max < 0:
                        raise AuditFault(f"{name} in {self.shown} is larger than any such file")
                    yield piece
            finally:
                answer.close()
                answer.release_conn()

    def has(self, name: str, stored: Stored, file: File) -> bool:
        """Whether the object holds what the file does: by its MD5, or the digest we put with it."""
        # The ETag is no MD5 where the store encrypts, or the object came in parts.
        if hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest() == (
            stored.etag
        ):
            return True
        size_bytes = file.seek(0, os.SEEK_END)
        file.seek(0)
        with self._asked():
            found = self._client.stat_object(
                bucket_name=self._name, object_name=self._prefix + name
            )
        said = (found.metadata or {}).get(_DIGEST)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return (size_bytes, digest) == (stored.size_bytes, said)

    def put(self, name: str, file: File) -> None:
        """Store a file, and see that it is locked if it is to be."""
        from minio.commonconfig import COMPLIANCE
        from minio.time import from_iso8601utc

        digest = hashlib.file_digest(file, "sha256")
        size_bytes = file.seek(0, os.SEEK_END)
        file.seek(0)
        metadata: dict[str, str | list[str] | tuple[str]] = {_DIGEST: digest.hexdigest()}
        if size_bytes <= _PART_BYTES:  # a checksum is of one part
            metadata |= {
                "x-amz-sdk-checksum-algorithm": "SHA256",
                "x-amz-checksum-sha256": b64encode(digest.digest()).decode(),
            }
        retention = self._retention()
        with self._asked():
            if retention is not None and not self._is_lockable:
                # Raises where the bucket was made without object lock.
                self._client.get_object_lock_config(bucket_name=self._name)
                self._is_lockable = True
            put = self._client.put_object(
                bucket_name=self._name,
                object_name=self._prefix + name,
                data=file,
                length=size_bytes,
                part_size=_PART_BYTES,
                num_parallel_uploads=1,
                metadata=metadata,
                retention=retention,
            )
            if retention is None:
                return
            headers = self._client.stat_object(
                bucket_name=self._name, object_name=self._prefix + name, version_id=put.version_id
            ).metadata or {}  # fmt: skip
            until = from_iso8601utc(headers.get("x-amz-object-lock-retain-until-date"))
        wanted = retention.retain_until_date
        is_locked = headers.get("x-amz-object-lock-mode") == COMPLIANCE
        # A store that does not know object lock passes over the header and stores all the same.
        if not is_locked or until is None or wanted is None or until < wanted:
            raise AuditFault(f"{self.shown} took {name} without locking it for that long")

    def remove(self, name: str) -> None:
        """Take an object away; of a locked one the version stays."""
        with self._asked():
            self._client.remove_object(bucket_name=self._name, object_name=self._prefix + name)

    def _retention(self) -> Retention | None:
        from minio.commonconfig import COMPLIANCE
        from minio.retention import Retention

        if not self._lock_days:
            return None
        now = datetime.fromtimestamp(self._clock.now_ns() // 1_000_000_000, UTC)
        return Retention(COMPLIANCE, now + timedelta(days=self._lock_days))

    @contextmanager
    def _asked(self) -> Iterator[None]:
        from minio.error import MinioException
        from urllib3.exceptions import HTTPError

        try:
            yield
        except (MinioException, HTTPError, OSError, ValueError, ParseError) as error:
            raise AuditFault(
                f"the store does not do it ({reason_of(error)}): {self.shown} must be there, with "
                "object lock if that is asked for, and grant ListBucket, GetObject, PutObject and "
                "DeleteObject, and PutObjectRetention, GetObjectRetention and "
                "GetBucketObjectLockConfiguration for a lock"
            ) from error
