"""A real NATS server with JetStream in a directory, to be killed and started again."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nats
import nkeys

from support.anchors import free_port

START_S_MAX = 20


class NatsServer:
    """`nats-server` on a port of its own; what it took is in `directory` when it starts again."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        program = shutil.which("nats-server")
        assert program is not None
        self._command = [
            program, "--addr", "127.0.0.1", "--port", str(self.port), "--jetstream",
            "--store_dir", str(directory), *arguments,
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it listens."""
        self._process = subprocess.Popen(self._command, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + START_S_MAX
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert time.monotonic() < deadline, "nats-server does not start"
                time.sleep(0.01)

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def messages(self, stream: str, **options: Any) -> list[Any]:
        """All messages of a stream in their order, read as a consumer reads them."""
        return asyncio.run(_messages(self.url, stream, options))


@contextmanager
def nats_server(directory: Path, *arguments: str) -> Iterator[NatsServer]:
    """A server that is gone afterwards."""
    server = NatsServer(directory, *arguments)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def with_credentials(directory: Path) -> tuple[str, Path]:
    """A configuration that lets in nobody but who has a .creds file; the two files."""
    operator = _pair(nkeys.PREFIX_BYTE_OPERATOR)
    system, account = _pair(nkeys.PREFIX_BYTE_ACCOUNT), _pair(nkeys.PREFIX_BYTE_ACCOUNT)
    user = _pair(nkeys.PREFIX_BYTE_USER)
    kinds = "subs data payload imports exports conn leaf".split()
    limits = dict.fromkeys(kinds, -1) | {"wildcards": True}
    stored = dict.fromkeys("mem_storage disk_storage streams consumer".split(), -1)
    tokens = {
        system: _jwt(operator, system, {"type": "account", "limits": limits}),
        account: _jwt(operator, account, {"type": "account", "limits": limits | stored}),
    }
    preloaded = ", ".join(f"{pair.public_key.decode()}: {tokens[pair]}" for pair in tokens)
    config, creds = directory / "nats.conf", directory / "user.creds"
    config.write_text(
        f"operator: {_jwt(operator, operator, {'type': 'operator'})}\nresolver: MEMORY\n"
        f"system_account: {system.public_key.decode()}\nresolver_preload: {{ {preloaded} }}\n"
    )
    token = _jwt(account, user, {"type": "user", "subs": -1, "data": -1, "payload": -1})
    creds.write_text(
        f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n------END USER NKEY SEED------\n"
    )
    return str(config), creds


def _pair(prefix: int) -> Any:
    return nkeys.from_seed(nkeys.encode_seed(secrets.token_bytes(32), prefix))


def _jwt(issuer: Any, subject: Any, claims: dict[str, Any]) -> str:
    names = {"iss": issuer.public_key.decode(), "sub": subject.public_key.decode()}
    body = names | {"jti": "1", "iat": int(time.time()), "nats": claims | {"version": 2}}
    parts = [_base64(json.dumps(part).encode())
             for part in ({"typ": "JWT", "alg": "ed25519-nkey"}, body)]  # fmt: skip
    signed = ".".join(parts)
    return f"{signed}.{_base64(issuer.sign(signed.encode()))}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


async def _messages(url: str, stream: str, options: dict[str, Any]) -> list[Any]:
    client = await nats.connect(url, **options)
    try:
        streams = client.jetstream()
        subject = (await streams.stream_info(stream)).config.subjects[0]
        consumer = await streams.subscribe(subject, stream=stream, ordered_consumer=True)
        state = (await streams.stream_info(stream)).state
        return [await consumer.next_msg(timeout=10) for _ in range(state.messages)]
    finally:
        await client.close()
