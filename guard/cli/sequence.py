"""`guard audit sequence`, `rotate-key`, `publish` and `anchors`: running the log."""

from __future__ import annotations

import json
import signal
import sys
import threading
from pathlib import Path

import click
import msgspec

from ..assemble import anchors_of, open_log, rolling_of, signer_of
from ..audit.anchors import Publisher
from ..audit.checkpoint import NOTE_BYTES_MAX, parse
from ..audit.daemon import sequence_until, use_real_time_class
from ..audit.files import CHECKPOINT, read_small
from ..audit.keyring import keys_of
from ..audit.publish import publish as publish_log
from ..audit.rotate import rotate_key as change_key
from ..clock import SYSTEM_CLOCK
from ..config import load_config
from ..errors import AuditFault, ConfigError
from ..keys import Mac
from .terminal import directory_option, json_option, plain, refuse

__all__ = ["anchors", "publish", "rotate_key", "sequence"]

_config = click.option(
    "--config", "config_file", type=click.Path(path_type=Path), help="Another guard.toml."
)


@click.command("sequence")
@_config
def sequence(config_file: Path | None) -> None:
    """Sequence and sign the log in a process of its own, until it is stopped.

    The processes that write are configured with `sequencer = "process"` in [audit]; then this one
    alone needs the key. Entries wait in the spools while it is away. It runs in the real-time class
    of the scheduler where this user may.

    Example: guard audit sequence --config /etc/guard/guard.toml
    """
    try:
        config = load_config(config_file)
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        if not use_real_time_class():
            click.echo("guard: no real-time class: on a busy machine a sync waits 4 ms", err=True)
        if config.audit.database is not None:
            mac = Mac.load_or_create(config.path(config.keys.directory) / "commitment.key")
            with open_log(config, mac, is_sequencer=True):
                stop.wait()
            return
        sequence_until(
            stop,
            config.path(config.audit.directory),
            load_signer=signer_of(config),
            origin=config.audit.origin or None,
            clock=SYSTEM_CLOCK,
            rolling=rolling_of(config),
            anchors=anchors_of(config),
            on_state=lambda state: click.echo(f"guard: {plain(state)}", err=True),
        )
    except (AuditFault, ConfigError) as error:
        refuse(error)


@click.command("rotate-key")
@_config
@json_option
def rotate_key(config_file: Path | None, *, as_json: bool) -> None:
    """Make a new key for the log; the old one vouches for it, in the log.

    Old checkpoints still verify. Nobody may sequence meanwhile: stop `guard audit sequence`, or the
    processes that write. Give the new public key to whoever verifies, and to the witnesses.
    """
    try:
        config = load_config(config_file)
        if config.audit.database is not None:
            raise ConfigError("a log in a database keeps its key: expected one in a directory")
        directory = config.path(config.audit.directory)
        key = config.path(config.keys.directory) / "log.key"
        if not key.exists():
            raise ConfigError(f"no key at {key}: expected that of a log that was written")
        new = change_key(directory, key, clock=SYSTEM_CLOCK)
    except (AuditFault, ConfigError) as error:
        refuse(error)
    click.echo(json.dumps({"vkey": new.vkey}) if as_json else f"signs from here on: {new.vkey}")


@click.command("publish")
@directory_option
@click.option("--to", "target", required=True, type=click.Path(path_type=Path))
def publish(directory: Path, *, target: Path) -> None:
    """Write the log as C2SP tlog-tiles, for any web server: entries, tiles and checkpoint.

    Example: guard audit publish --to /srv/www/audit
    """
    try:
        size = publish_log(directory, target)
    except AuditFault as error:
        refuse(error)
    except OSError as error:
        refuse(AuditFault(f"cannot publish to {target}: {error.strerror}"))
    click.echo(f"{size} entries in {target}")


@click.command("anchors")
@_config
@json_option
def anchors(config_file: Path | None, *, as_json: bool) -> None:
    """Send the latest checkpoint to every anchor now, and say how each took it.

    Exit codes: 0 all took it, 1 one did not, 2 there is none.
    """
    try:
        config = load_config(config_file)
        directory = config.path(config.audit.directory)
        places = anchors_of(config)
        if not places:
            raise ConfigError("no anchors: expected [[audit.anchors]] in guard.toml")
        note = read_small(directory / CHECKPOINT, NOTE_BYTES_MAX)
        publisher = Publisher(places, on_cosigned=lambda _: None, clock=SYSTEM_CLOCK)
        publisher.submit(note, parse(note, keys_of(directory)[-1]))
        states = publisher.publish_now()
        publisher.close()
    except (AuditFault, ConfigError) as error:
        refuse(error)
    except FileNotFoundError:
        refuse(AuditFault(f"no audit log in {directory}: nothing to send"))
    for state in states:
        if as_json:
            click.echo(msgspec.json.encode(state).decode())
        else:
            said = f"FAILED: {state.error}" if state.error else f"has {state.size} entries"
            click.echo(plain(f"{state.name}: {said}"))
    sys.exit(1 if any(state.error for state in states) else 0)
