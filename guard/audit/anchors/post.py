"""One HTTP request to somebody who may be hostile: no redirect, no proxy, bounded throughout.

A new connection each time: checkpoints are seconds apart, and one that the peer has closed
meanwhile must not look like a failure of it.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from ...errors import AuditFault, ConfigError

__all__ = ["Answer", "Endpoint", "cut_off"]

# Signature lines of a witness, or whatever a webhook says: none of it is long.
ANSWER_BYTES_MAX: Final = 16_384
_LOCAL: Final = frozenset(("127.0.0.1", "::1", "localhost"))


class Answer(msgspec.Struct, frozen=True):
    """What came back: below ANSWER_BYTES_MAX."""

    status: int
    content_type: str
    body: bytes


class Endpoint:
    """Where to post to; `url` is checked once. Messages name the host, never path or query."""

    def __init__(
        self, url: str, *, timeout_s: float, ca_file: Path | None = None, may_be_plain: bool = False
    ) -> None:
        try:
            parts = urlsplit(url)
            port, host = parts.port, parts.hostname
        except ValueError as error:
            raise ConfigError("malformed URL of an anchor: expected https://host/path") from error
        # A path may hold a secret, so no message shows it.
        self.shown = f"{parts.scheme}://{host}" + (f":{port}" if port else "")
        if parts.scheme not in ("http", "https") or not host or parts.username or parts.fragment:
            raise ConfigError("malformed URL of an anchor: expected https://host/path")
        if not url.isascii() or any(c <= " " or c == "\x7f" for c in url):
            raise ConfigError("the URL of an anchor has spaces or letters that are not ASCII")
        if parts.scheme == "http" and not may_be_plain and host not in _LOCAL:
            raise ConfigError(
                f"{self.shown} is not encrypted: expected https, or http to 127.0.0.1"
            )
        self._host, self._port = host, port
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._timeout_s = timeout_s
        self._tls = _tls(ca_file) if parts.scheme == "https" else None

    def post(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """The answer, whatever its status but a redirect; raises AuditFault when there is none."""
        connection = self._connection()
        try:
            connection.connect()
            with cut_off(connection.sock, self._timeout_s):
                connection.request("POST", self._target, body, dict(headers))
                with connection.getresponse() as response:
                    answer = response.read(ANSWER_BYTES_MAX + 1)
                    is_whole = not response.length  # what is still to come
        except TimeoutError as error:
            raise AuditFault(
                f"{self.shown} did not answer within {self._timeout_s:g} s: it is tried again"
            ) from error
        except (OSError, HTTPException) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise AuditFault(f"{self.shown} cannot be reached: {reason}") from error
        finally:
            connection.close()
        if len(answer) > ANSWER_BYTES_MAX or not is_whole:
            raise AuditFault(
                f"the answer of {self.shown} was cut short, or has over {ANSWER_BYTES_MAX} bytes"
            )
        if 300 <= response.status < 400:
            raise AuditFault(f"{self.shown} redirects, which is not followed: name the final URL")
        return Answer(response.status, response.headers.get("Content-Type") or "", answer)

    def _connection(self) -> HTTPConnection:
        if self._tls is None:
            return HTTPConnection(self._host, self._port, timeout=self._timeout_s)
        return HTTPSConnection(self._host, self._port, timeout=self._timeout_s, context=self._tls)


@contextmanager
def cut_off(connection: socket.socket, after_s: float) -> Iterator[None]:
    """End a connection that lasts longer: a peer that sends a byte a second outlives timeouts.

    What was reading then raises TimeoutError.
    """
    is_late = threading.Event()

    def end() -> None:
        is_late.set()
        try:
            # Of the plain socket: SSLSocket.shutdown would tear down what another thread reads.
            socket.socket.shutdown(connection, socket.SHUT_RDWR)
        except OSError:
            return  # The peer, or we, closed it at this moment.

    timer = threading.Timer(after_s, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, HTTPException) as error:
        if is_late.is_set():
            raise TimeoutError from error
        raise
    finally:
        timer.cancel()
    if is_late.is_set():
        raise TimeoutError


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"{ca_file} holds no certificates that can be read: expected PEM"
        ) from error
