"""`guard erase`, `hold`, `expire`, `open`: what a privacy officer does, each step recorded."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from .. import ops
from ..assemble import open_log
from ..audit import AuditLog
from ..audit.entry import Entry
from ..audit.files import lines_of, segments_of
from ..config import Config, load_config
from ..errors import AuditFault, ConfigError, OnHold, PrivacyFault
from ..keys import Mac
from ..keys.subjects import SubjectKeys
from ..ops.archive import LogArchive
from .terminal import USAGE_EXIT, by_option

if TYPE_CHECKING:
    from ..audit.postgres import PostgresLog

__all__ = ["erase", "expire", "hold", "open"]

_NO_EXIT: Final = 1
_ID_CHARS_MIN: Final = 4

_json: Final = click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
_authority: Final = click.option(
    "--authority", required=True, help="What allows it, such as `GDPR art. 17, ticket 4711`."
)


@click.command()
@click.option("--subject", required=True, help="Id of the data subject, or its pseudonym.")
@_authority
@click.option("--reason", required=True, help="Why, without naming the person.")
@by_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@_json
def erase(subject: str, *, authority: str, reason: str, by: str, yes: bool, as_json: bool) -> None:
    """Erase a data subject: destroy its keys, and write the certificate into the log.

    Nobody can undo it. Every proof of the log still verifies. Exit codes: 0 nothing of it is left,
    1 a legal hold forbids it, 2 it was not done, or no key of that subject is here.
    """
    if not yes and not click.confirm("Destroy the keys of this data subject for good?", err=True):
        sys.exit(USAGE_EXIT)
    with _opened() as (_, keys, log), _refused():
        done = ops.erase(subject, keys=keys, log=log, by=by, authority=authority, reason=reason)
        log.checkpoint()
    if as_json:
        click.echo(json.dumps({"state": done.state, "certificate": done.certificate}))
        sys.exit(USAGE_EXIT if done.state == "unknown" else 0)
    click.echo(
        {
            "erased": "erased: its keys are destroyed, the certificate is in the log",
            "already_erased": "it was erased before; this is the certificate of then",
            "unknown": "no key of this data subject is here: there never was one, or it is erased "
            "(no trace of the id is kept; ask with the pseudonym for the certificate)",
        }[done.state]
    )
    for name, value in (done.certificate or {}).items():
        click.echo(f"  {name:22}{_plain(value)}")
    sys.exit(USAGE_EXIT if done.state == "unknown" else 0)


@click.group()
def hold() -> None:
    """Legal holds: what must not be erased and does not expire."""


@hold.command("place")
@click.argument("name")
@click.option("--subject", help="Id or pseudonym of the data subject to hold.")
@click.option("--class", "retention", help="Retention class to hold.")
@click.option("--all", "everything", is_flag=True, help="Hold everything.")
@_authority
@by_option
def hold_place(
    name: str, *, subject: str | None, retention: str | None, everything: bool, authority: str,
    by: str,
) -> None:  # fmt: skip
    """Place the hold NAME, such as a file number.

    Example: guard hold place case-2026-17 --class hipaa --authority "court order 5 O 12/26"
    """
    if [subject is not None, retention is not None, everything].count(True) != 1:
        raise click.UsageError("name one of --subject, --class and --all")
    with _opened() as (_, keys, log):
        ops.place_hold(
            name, keys=keys, log=log, by=by, authority=authority, subject=subject,
            retention=retention,
        )  # fmt: skip
    click.echo(f"hold {name} stands: nothing that it covers is erased or expires")


@hold.command("lift")
@click.argument("name")
@_authority
@by_option
def hold_lift(name: str, *, authority: str, by: str) -> None:
    """Lift the hold NAME."""
    with _opened() as (_, keys, log):
        ops.lift_hold(name, keys=keys, log=log, by=by, authority=authority)
    click.echo(f"hold {name} is lifted")


@hold.command("list")
@_json
def hold_list(*, as_json: bool) -> None:
    """List the holds that stand."""
    config = load_config()
    keys = SubjectKeys.open(config.path(config.keys.directory))
    holds = keys.holds.standing()
    keys.close()
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(holds)))
        return
    for one in holds:
        what = f"subject {one.pseudonym}" if one.pseudonym else f"class {one.retention}"
        if one.pseudonym is None and one.retention is None:
            what = "everything"
        click.echo(f"{_plain(one.name):24}{what:26}{_plain(one.authority)}")
    if not holds:
        click.echo("no legal hold stands")


@click.command()
@_authority
@by_option
@click.option("--yes", is_flag=True, help="Do it; without, only say what would go.")
@_json
def expire(*, authority: str, by: str, yes: bool, as_json: bool) -> None:
    """Destroy keys, and delete sealed segments, that are older than [audit.retention] says.

    Hashes stay, and every proof still verifies. Without --yes nothing is changed.
    """
    with _opened() as (config, keys, log):
        settings = config.audit.retention
        done = ops.expire(
            LogArchive(log), keys=keys, by=by, authority=authority, is_dry_run=not yes,
            retention=ops.Retention(default_days=settings.default_days, classes=settings.classes),
        )  # fmt: skip
    if as_json:
        click.echo(json.dumps({"done": yes, **msgspec.to_builtins(done)}))
        return
    verb = "expired" if yes else "would expire (--yes does it)"
    click.echo(
        f"{verb}: salts of {len(done.months)} months, keys of {len(done.subjects)} data subjects, "
        f"{len(done.segments)} segments"
    )
    for name in done.segments:
        click.echo(f"  {name}")
    for name, why in done.kept.items():
        click.echo(f"  kept {name}: {_plain(why)}")


@click.command()
@click.argument("decision_id")
@click.option("--role", required=True, help="Your role; `open` in [audit.readers] names those.")
@click.option("--reason", required=True, help="Why; it is recorded.")
@by_option
@_json
def open(  # noqa: A001 the verb
    decision_id: str, *, role: str, reason: str, by: str, as_json: bool
) -> None:
    """Show the sealed values of one entry. The log records it first.

    Exit codes: 0 shown, 1 some or all are erased, 2 not allowed or not possible.
    """
    with _opened() as (config, keys, log):
        log.checkpoint()
        line = _line_of(log, decision_id)
        done = ops.open_sealed(
            line, keys=keys, log=log, by=by, role=role, reason=reason,
            allowed=config.audit.readers.open,
        )  # fmt: skip
    if as_json:
        click.echo(json.dumps({"values": done.values, "erased": done.erased}))
    else:
        for pointer, value in done.values.items():
            click.echo(f"{_plain(pointer)}  {_plain(value)}")
        for pointer in done.erased:
            click.echo(f"{_plain(pointer)}  erased with its data subject: nobody can open it")
    sys.exit(_NO_EXIT if done.erased else 0)


@contextmanager
def _opened() -> Iterator[tuple[Config, SubjectKeys, AuditLog | PostgresLog]]:
    """The installation of guard.toml here; what is appended is signed at the end."""
    config = load_config()
    directory = config.path(config.keys.directory)
    if not (directory / "log.key").exists() and config.audit.sequencer == "thread":
        raise ConfigError(
            f"no log was written here (no key in {directory}): run it where guard.toml is"
        )
    keys = SubjectKeys.open(directory)
    mac = Mac.load_or_create(directory / "commitment.key")
    with open_log(config, mac, durability="group") as log:
        try:
            yield config, keys, log
        finally:
            keys.close()


@contextmanager
def _refused() -> Iterator[None]:
    """A legal hold is an answer, not a fault."""
    try:
        yield
    except OnHold as error:
        click.echo(f"guard: {error}", err=True)
        sys.exit(_NO_EXIT)


def _line_of(log: AuditLog | PostgresLog, decision_id: str) -> bytes:
    """The one line whose decision id begins so, and which seals something."""
    if len(decision_id) < _ID_CHARS_MIN:
        raise PrivacyFault(f"expected at least {_ID_CHARS_MIN} characters of a decision id")
    is_wanted = _begins(decision_id)
    lines = [
        line
        for segment in segments_of(log.directory)
        for line in lines_of(segment.path)
        if b'"sealed":[' in line and is_wanted(line)
    ]
    if len(lines) != 1:
        raise PrivacyFault(
            f"{len(lines)} entries with sealed values begin with `{decision_id[:64]}`: look for it "
            "with `guard audit query`"
        )
    return lines[0].rstrip(b"\n")


def _begins(decision_id: str) -> Callable[[bytes], bool]:
    decoder = msgspec.json.Decoder(Entry)

    def is_wanted(line: bytes) -> bool:
        try:
            entry = decoder.decode(line)
        except msgspec.MsgspecError as error:
            raise AuditFault("an entry is damaged: run `guard audit verify` first") from error
        return bool(entry.sealed) and entry.decision_id.startswith(decision_id)

    return is_wanted


def _plain(value: Any) -> str:
    """A value on one line in ASCII: nothing in it can steer the terminal."""
    return value if isinstance(value, str) and value.isprintable() else json.dumps(value)
