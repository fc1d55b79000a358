"""`guard audit stream`, `ship` and `fetch`: the log past one machine."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from pathlib import Path
from typing import Any, Final

import click

from ..audit.away.bucket import Bucket
from ..audit.away.nats import KEEP_BYTES, KEEP_DAYS, Nats
from ..audit.away.ship import fetch as fetch_log
from ..audit.away.ship import ship as ship_log
from ..audit.away.stream import form_of
from ..audit.away.stream import stream as stream_log
from ..audit.formats import FORMATS
from ..clock import SYSTEM_CLOCK
from ..errors import AuditFault, ConfigError, LogCorrupt
from .terminal import directory_option, json_option, plain, refuse

__all__ = ["fetch", "ship", "stream"]

# A log is signed once a second: looking twice as often adds half of it to the delay.
LOOK_EVERY_S: Final = 0.5
# A segment is closed once an hour, or sooner where much is written.
SHIP_EVERY_S: Final = 60
_STOP: Final = (signal.SIGTERM, signal.SIGINT)

_ca_file = click.option(
    "--ca-file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Certificates to trust; default: those of the system.",
)  # fmt: skip
_follow = click.option("--follow", is_flag=True, help="Go on until it is stopped.")


@click.command("stream")
@directory_option
@click.option("--to", "url", required=True, metavar="URL", help="tls://host:4222 of a NATS server.")
@click.option("--subject", default="guard.audit", show_default=True, help="Where to publish.")
@click.option("--format", "name", type=click.Choice(tuple(FORMATS)), help="Not the line itself.")
@click.option(
    "--creds", envvar="NATS_CREDS", type=click.Path(path_type=Path),
    help="File of credentials; or NATS_CREDS, or NATS_USER and NATS_PASSWORD.",
)  # fmt: skip
@_ca_file
@click.option("--keep-days", type=click.IntRange(1, 36_500), default=KEEP_DAYS, show_default=True)
@click.option(
    "--keep-bytes", type=click.IntRange(1 << 20), default=KEEP_BYTES, show_default=True,
    help="With --keep-days: what a stream keeps that is made because there is none.",
)  # fmt: skip
@click.option("--replicas", type=click.IntRange(1, 5), default=1, show_default=True)
@_follow
@json_option
def stream(
    directory: Path, *, url: str, subject: str, name: str | None, creds: Path | None,
    ca_file: Path | None, keep_days: int, keep_bytes: int, replicas: int, follow: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Publish what is signed to NATS JetStream, for indexers: each entry once, in order.

    Message n of the stream is entry n - 1. Its body is the very line of the log, so that with the
    header Guard-Leaf a consumer can verify an inclusion proof. Where the stream stands is kept by
    the broker alone: run it again, or anywhere else, and it goes on.

    Example: guard audit stream --to tls://nats.example:4222 --subject guard.audit --follow
    """
    try:
        broker = Nats(
            url, subject, credentials=creds, user=os.environ.get("NATS_USER"),
            password=os.environ.get("NATS_PASSWORD"), ca_file=ca_file, keep_days=keep_days,
            keep_bytes=keep_bytes, replicas=replicas,
        )  # fmt: skip
        count = asyncio.run(_streamed(directory, broker, name, follow=follow))
    except (AuditFault, ConfigError) as error:
        refuse(error)
    _say({"entries": count}, f"{count} entries to {subject}", as_json=as_json)


async def _streamed(directory: Path, broker: Nats, name: str | None, *, follow: bool) -> int:
    stop = asyncio.Event()

    async def wait() -> bool:
        try:
            await asyncio.wait_for(stop.wait(), LOOK_EVERY_S)
        except TimeoutError:
            return True
        return False

    if not follow:
        return await stream_log(directory, broker, form=form_of(name))
    for number in _STOP:
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return await stream_log(directory, broker, form=form_of(name), wait=wait, on_state=_state)


@click.command("ship")
@directory_option
@click.option("--to", "place", required=True, metavar="s3://BUCKET/PREFIX")
@click.option("--endpoint", envvar="AWS_ENDPOINT_URL_S3", help="URL of the store, where not AWS.")
@click.option("--region", envvar="AWS_REGION", help="Region of the bucket.")
@_ca_file
@click.option(
    "--lock-days", type=click.IntRange(0), default=0,
    help="Lock each object that long, in COMPLIANCE mode: the bucket must have object lock.",
)  # fmt: skip
@_follow
@json_option
def ship(
    directory: Path, *, place: str, endpoint: str | None, region: str | None,
    ca_file: Path | None, lock_days: int, follow: bool, as_json: bool,
) -> None:  # fmt: skip
    """Copy every closed segment to object storage, with the hashes and checkpoints that prove it.

    What is there already is compared and left; what differs is an alarm. Credentials come from
    AWS_* or MINIO_* variables, the files of the AWS tools, or the role of the machine.

    Example: guard audit ship --to s3://audit-copy/prod --lock-days 365 --follow
    """
    stop = threading.Event()
    said = ""
    try:
        bucket = Bucket(
            place, endpoint=endpoint, region=region, ca_file=ca_file, lock_days=lock_days,
            clock=SYSTEM_CLOCK,
        )  # fmt: skip
        if follow:
            for number in _STOP:
                signal.signal(number, lambda *_: stop.set())
        while True:
            try:
                checkpoint = ship_log(directory, bucket)
                size = checkpoint.size if checkpoint is not None else 0
                state = f"{size} entries in {place}"
            except LogCorrupt:
                raise
            except AuditFault as error:
                if not follow:
                    raise
                state = f"{error}: trying again"
            if follow and state != said:
                _state(state)
                said = state
            if not follow or stop.wait(SHIP_EVERY_S):
                break
    except (AuditFault, ConfigError) as error:
        refuse(error)
    if not follow:
        _say({"entries": size}, state if size else "no segment is closed yet", as_json=as_json)


@click.command("fetch")
@click.option("--from", "place", required=True, metavar="s3://BUCKET/PREFIX")
@click.option("--to", "target", required=True, type=click.Path(path_type=Path))
@click.option("--endpoint", envvar="AWS_ENDPOINT_URL_S3", help="URL of the store, where not AWS.")
@click.option("--region", envvar="AWS_REGION", help="Region of the bucket.")
@_ca_file
@json_option
def fetch(
    place: str, target: Path, *, endpoint: str | None, region: str | None, ca_file: Path | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Copy a log that was shipped into a new directory, to be verified there.

    \b
    guard audit fetch --from s3://audit-copy/prod --to copy
    guard audit verify --dir copy --key /mnt/safe/log.vkey
    """
    try:
        bucket = Bucket(
            place, endpoint=endpoint, region=region, ca_file=ca_file, clock=SYSTEM_CLOCK
        )
        size = fetch_log(bucket, target).size
    except (AuditFault, ConfigError) as error:
        refuse(error)
    shown = f"{size} entries in {target}: run `guard audit verify --dir {target}` with your key"
    _say({"entries": size}, shown, as_json=as_json)


def _say(values: dict[str, Any], text: str, *, as_json: bool) -> None:
    click.echo(json.dumps(values) if as_json else plain(text))


def _state(state: str) -> None:
    click.echo(f"guard: {plain(state)}", err=True)
