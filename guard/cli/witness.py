"""`guard audit witness`: cosign the checkpoints of logs, so that none takes anything back."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from ..audit.anchors.cosignature import WitnessSigner
from ..audit.anchors.server import WitnessServer
from ..audit.anchors.witness import Witness
from ..errors import ConfigError
from ..keys import Verifier

__all__ = ["witness"]

VKEY_FILE_BYTES_MAX: Final = 65_536


@click.command()
@click.option(
    "--key", "key_file", required=True, type=click.Path(dir_okay=False, path_type=Path),
    help="File of the witness's private key; made, mode 0600, when it is not there.",
)  # fmt: skip
@click.option(
    "--name", default="guard/witness", show_default=True,
    help="Name of a new key: a URL without scheme, such as witness.example.com/w1.",
)  # fmt: skip
@click.option(
    "--log", "logs", required=True, multiple=True, metavar="VKEY|FILE",
    help="Public key of a log, or its log.vkey; several times for several logs or keys.",
)  # fmt: skip
@click.option("--origin", help="Origin of these logs; default: the name of each key.")
@click.option(
    "--state", "directory", required=True, type=click.Path(file_okay=False, path_type=Path),
    help="Directory of what was cosigned. Never restore an old copy: the witness would forget.",
)  # fmt: skip
@click.option("--listen", default="127.0.0.1:7380", show_default=True, metavar="HOST:PORT")
def witness(
    *, key_file: Path, name: str, logs: tuple[str, ...], origin: str | None, directory: Path,
    listen: str,
) -> None:  # fmt: skip
    """Run a witness (C2SP tlog-witness) on a machine that the writers of the logs do not own.

    It prints its public key, which goes into `[[audit.anchors]]` and to `guard audit verify`.

    Example: guard audit witness --key w1.key --state w1 --log log.vkey --listen 10.0.0.7:7380
    """
    signer = WitnessSigner.load_or_create(key_file, name=name)
    keys = [key for log in logs for key in _keys(log)]
    served = Witness(signer, logs=[(origin or key.name, key) for key in keys], directory=directory)
    try:
        with WitnessServer(served, _address(listen), on_answer=_show) as server:
            click.echo(f"{signer.vkey}\nlistening on {server.url}")
            server.serve_forever()
    except OSError as error:
        raise ConfigError(f"cannot listen on {listen}: {error.strerror}") from error
    except KeyboardInterrupt:
        click.echo("stopped", err=True)
    finally:
        served.close()


def _keys(text: str) -> list[Verifier]:
    """The key itself, or those in a file."""
    if "+" in text and not Path(text).is_file():
        return [Verifier.from_text(text)]
    try:
        with Path(text).open(encoding="utf-8") as file:
            lines = file.read(VKEY_FILE_BYTES_MAX).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("--log takes the line of a log.vkey, or the file") from error
    keys = [Verifier.from_text(line) for line in lines if line]
    if not keys:
        raise ConfigError(f"{text} holds no key: expected lines as in log.vkey")
    return keys


def _address(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ConfigError(
            f"cannot listen on `{listen}`: expected HOST:PORT, such as 127.0.0.1:7380"
        )
    return host.strip("[]"), int(port)


def _show(status: int, message: str) -> None:
    time = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    click.echo(f"{time} {status} {message}".rstrip(), err=True)
