"""NATS JetStream as a broker: one stream for one log, whose sequence is the index of the entry.

INVARIANT: message `n` of the stream is entry `n - 1` of the log. Each is published with the
sequence that the stream must have before it, so whatever is sent twice, late or by two processes
is refused by the broker. The stream knows its sequence also when it has dropped all messages.

Needs the extra `nats` (nats-py).
"""

from __future__ import annotations

import asyncio
import re
import secrets
import ssl
from collections.abc import Callable, Coroutine
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

from ...errors import AuditFault, ConfigError, LogCorrupt
from ..files import read_small
from .stream import Message, Standing

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.js.api import PubAck, StreamInfo

__all__ = ["KEEP_BYTES", "KEEP_DAYS", "Nats"]

# What indexers have not read by then they read from the log itself.
KEEP_DAYS: Final = 30
KEEP_BYTES: Final = 16 << 30
# For a connection, and for each answer of the broker.
TIMEOUT_S: Final = 5
SUBJECT_CHARS_MAX: Final = 128
_SUBJECT: Final = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
_LOCAL: Final = frozenset(("127.0.0.1", "::1", "localhost"))
_WRONG_LAST_SEQUENCE: Final = 10071  # error code of JetStream
_SECONDS_A_DAY: Final = 86_400
_ORIGIN_KEY: Final = "guard.origin"  # in the metadata of a stream
# Room for the headers of a message: names of a bounded length, numbers and a hash.
_HEADER_BYTES_MAX: Final = 2_048
CREDENTIALS_BYTES_MAX: Final = 65_536
_CREDENTIALS: Final = re.compile(
    rb"-BEGIN NATS USER JWT-.*-BEGIN USER NKEY SEED-+\s+(S[A-Z2-7]+)\s", re.DOTALL
)
T = TypeVar("T")


class Nats:
    """A `Broker`. Not thread-safe."""

    def __init__(
        self, url: str, subject: str, *, credentials: Path | None = None,
        user: str | None = None, password: str | None = None, ca_file: Path | None = None,
        keep_days: int = KEEP_DAYS, keep_bytes: int = KEEP_BYTES, replicas: int = 1,
    ) -> None:  # fmt: skip
        """`url` is tls://host:port, or nats:// to this machine; `credentials` a .creds file.

        Where no stream has the subject one is made, named like it, that drops messages after
        `keep_days`, and the oldest beyond `keep_bytes`.
        """
        malformed = ConfigError(
            "malformed URL of a broker: expected tls://host:port, without credentials: they come "
            "in NATS_CREDS, or NATS_USER and NATS_PASSWORD"
        )
        try:
            parts = urlsplit(url)
            port = parts.port or 4222
        except ValueError:
            raise malformed from None
        if parts.scheme not in ("tls", "nats") or not parts.hostname or parts.username:
            raise malformed
        if parts.scheme == "nats" and parts.hostname not in _LOCAL:
            raise ConfigError(
                f"{parts.hostname} is not encrypted: expected tls://, or nats:// here"
            )
        if not _SUBJECT.fullmatch(subject) or len(subject) > SUBJECT_CHARS_MAX:
            raise ConfigError(
                f"unusable subject `{subject[:40]}`: expected words of letters, digits, _ and - "
                "with dots between, such as `guard.audit`"
            )
        for module in ("nats", *(["nkeys"] if credentials is not None else [])):
            if find_spec(module) is None:
                raise ConfigError(f"a stream to NATS needs {module}: pip install 'stepguard[nats]'")
        self._shown = f"{parts.scheme}://{parts.hostname}:{port}"
        self._options: dict[str, Any] = {"servers": url}
        if parts.scheme == "tls":
            try:
                self._options["tls"] = ssl.create_default_context(cafile=ca_file)
            except OSError as error:
                raise ConfigError(f"no certificates in {ca_file}: expected PEM") from error
        if credentials is not None:
            self._options["user_credentials"] = _usable(credentials)
        elif user is not None:
            self._options |= {"user": user, "password": password}
        self._subject = subject
        self._name = subject.replace(".", "_")
        self._keep_days, self._keep_bytes, self._replicas = keep_days, keep_bytes, replicas
        self._client: Client | None = None
        self._origin = ""
        self._streamer = secrets.token_hex(8)  # which process published a message
        self._warning = ""  # what the broker said beside its answers

    async def standing(self, origin: str, first: int) -> Standing:
        """See Broker."""
        self._origin = origin
        info = await self._asked(lambda: self._stream(first))
        found = (info.config.metadata or {}).get(_ORIGIN_KEY)
        headers = await self._asked(lambda: self._headers(info.state.last_seq))
        if headers is not None:
            found = headers.get("Guard-Origin")
        is_new = not info.state.last_seq
        if info.config.subjects != [self._subject] or (found != origin and not is_new):
            raise AuditFault(
                f"the stream `{self._name}` is not of this log: expected one for nothing but "
                f"`{self._subject}` of the origin `{origin}`, found `{str(found)[:80]}`; name "
                "another subject"
            )
        if headers is None:
            return Standing(info.state.last_seq)
        try:
            return Standing(info.state.last_seq, bytes.fromhex(headers["Guard-Leaf"]))
        except (KeyError, ValueError) as error:
            raise LogCorrupt(
                f"the last message of the stream `{self._name}` has no leaf hash: not all of its "
                "messages are from here; name another subject"
            ) from error

    async def publish(self, messages: list[Message]) -> None:
        """See Broker."""
        if self._client is not None:
            self._refuse_large(messages, self._client.max_payload)
        await self._asked(lambda: self._published(messages))

    async def close(self) -> None:
        """See Broker."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _published(self, messages: list[Message]) -> None:
        from nats.js.errors import APIError

        # In flight are these and no others: the next ones wait for the last of their answers.
        answers = await asyncio.gather(*map(self._send, messages), return_exceptions=True)
        for message, answer in zip(messages, answers, strict=True):
            is_other = isinstance(answer, APIError) and answer.err_code == _WRONG_LAST_SEQUENCE
            if is_other or getattr(answer, "seq", message.index + 1) != message.index + 1:
                await self._yield_to_another(messages[-1].index + 1)
                return
            if isinstance(answer, BaseException):
                raise answer

    def _send(self, message: Message) -> Coroutine[Any, Any, PubAck]:
        assert self._client is not None  # noqa: S101 `_asked` has connected
        return self._client.jetstream().publish(
            self._subject,
            message.payload,
            timeout=TIMEOUT_S,
            stream=self._name,
            headers={
                "Nats-Expected-Last-Sequence": str(message.index),
                "Nats-Msg-Id": f"{self._origin}/{message.index}",
                "Content-Type": "application/json",
                "Guard-Origin": self._origin,
                "Guard-Index": str(message.index),
                "Guard-Leaf": message.leaf.hex(),
                "Guard-Streamer": self._streamer,
            },
        )

    async def _yield_to_another(self, sequence: int) -> None:
        """The stream was not where we left it: who published last goes on, any other process ends.

        So one of two goes on, and it does not matter to the stream which: their messages are alike.
        """
        assert self._client is not None  # noqa: S101 `_asked` has connected
        info = await self._client.jetstream().stream_info(self._name)
        headers = await self._headers(info.state.last_seq)
        if headers is None or headers.get("Guard-Streamer") != self._streamer:
            raise AuditFault(
                f"another process streams to `{self._subject}`: this one ends, and nothing is there"
                " twice; if the other one was stopped just now, start again"
            )
        if info.state.last_seq != sequence:
            raise ConnectionError(f"{self._shown} took a part of what was sent")

    async def _stream(self, first: int) -> StreamInfo:
        from nats.js.api import StreamConfig
        from nats.js.errors import NotFoundError

        assert self._client is not None  # noqa: S101 `_asked` has connected
        streams = self._client.jetstream()
        try:
            return await streams.stream_info(self._name)
        except NotFoundError:
            return await streams.add_stream(
                StreamConfig(
                    name=self._name,
                    description="entries of an audit log; sequence = index + 1",
                    subjects=[self._subject],
                    first_seq=first + 1,
                    metadata={_ORIGIN_KEY: self._origin},
                    max_age=self._keep_days * _SECONDS_A_DAY,
                    max_bytes=self._keep_bytes,
                    num_replicas=self._replicas,
                )
            )

    async def _headers(self, sequence: int) -> dict[str, str] | None:
        """Those of a message; None where it was never there, or has been dropped."""
        from nats.js.errors import NotFoundError

        assert self._client is not None  # noqa: S101 `_asked` has connected
        if not sequence:
            return None
        try:
            message = await self._client.jetstream().get_msg(self._name, seq=sequence)
        except NotFoundError:
            return None
        return message.headers or {}

    def _refuse_large(self, messages: list[Message], payload_bytes_max: int) -> None:
        for message in messages:
            if len(message.payload) + _HEADER_BYTES_MAX > payload_bytes_max:
                raise AuditFault(
                    f"entry {message.index} has {len(message.payload)} bytes and {self._shown} "
                    f"takes {payload_bytes_max} with headers: raise `max_payload` there, to 1 MiB"
                )

    async def _asked(self, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The answer of the broker, connected to first; raises ConnectionError and AuditFault."""
        from nats.errors import Error
        from nats.js.errors import APIError, ServerError, ServiceUnavailableError

        try:
            if self._client is None:
                await self._connect()
            return await ask()
        except (ServiceUnavailableError, ServerError) as error:
            raise ConnectionError(
                f"JetStream at {self._shown} is not there or has no room ({error.err_code})"
            ) from error
        except APIError as error:
            raise AuditFault(
                f"{self._shown} refuses: {error.description} ({error.err_code})"
            ) from error
        except (Error, OSError) as error:
            said = f"{error} {self._warning}".lower()
            if "authorization" in said or "permissions" in said:
                raise AuditFault(
                    f"{self._shown} does not let us in: it must grant `{self._subject}`, $JS.API.>"
                    " and _INBOX.> to what is in NATS_CREDS, or NATS_USER and NATS_PASSWORD"
                ) from error
            if isinstance(error, ssl.SSLError):
                raise AuditFault(f"{self._shown} has no certificate that we trust") from error
            if isinstance(error, ConnectionError):
                raise
            raise ConnectionError(f"{self._shown} is away ({type(error).__name__})") from error

    async def _connect(self) -> None:
        from nats.aio.client import Client

        self._warning = ""
        self._client = client = Client()
        await client.connect(
            **self._options, name="guard audit stream", error_cb=self._warned,
            connect_timeout=TIMEOUT_S,
            # Whoever calls tries again, and asks anew where the stream stands.
            allow_reconnect=False, max_reconnect_attempts=1, reconnect_time_wait=0,
        )  # fmt: skip
        # A server that only says it has no TLS would get it all in the clear.
        if "tls" in self._options and not client._server_info.get("tls_required"):
            raise AuditFault(f"{self._shown} does not encrypt: expected TLS there")

    async def _warned(self, error: Exception) -> None:
        """What comes in place of an answer, such as a permission that lacks."""
        self._warning = str(error)


def _usable(credentials: Path) -> str:
    """The path of a .creds file, as the client wants it; raises ConfigError."""
    import nkeys

    try:
        found = _CREDENTIALS.search(read_small(credentials, CREDENTIALS_BYTES_MAX))
        nkeys.from_seed(bytearray(found[1] if found is not None else b""))
    except (OSError, ValueError, nkeys.NkeysError) as error:
        raise ConfigError(
            f"no credentials in {credentials} ({type(error).__name__}): expected a .creds file, "
            "with a user JWT and the seed of its key"
        ) from error
    return str(credentials)
