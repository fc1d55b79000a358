"""`guard audit new-identity` and `decrypt`: segments that are encrypted at rest."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import click

from ..audit.files import (
    CHECKPOINT,
    COSIGNED,
    EXCERPT,
    HISTORY,
    VKEY,
    Segment,
    encrypted_of,
    make_directory,
    segments_of,
)
from ..clock import SYSTEM_CLOCK
from ..errors import AuditFault, ConfigError
from ..keys.age import decrypt, identities_in, new_identity
from ..ops.records import record, words
from ..policy.kept import POLICIES
from .recorder import recorder
from .terminal import by_option, directory_option, plain, refuse

__all__ = ["decrypt_command", "new_identity_command"]

_NOTES: Final = (CHECKPOINT, HISTORY, COSIGNED, VKEY, EXCERPT)


@click.command("new-identity")
@click.argument("file", type=click.Path(path_type=Path))
def new_identity_command(file: Path) -> None:
    """Make a private key that reads encrypted segments; prints the public one for encrypt_to.

    Keep the file away from the machine that writes the log. It is in the format of age-keygen.

    Example: guard audit new-identity officer.key
    """
    try:
        click.echo(new_identity(file))
    except (AuditFault, ConfigError) as error:
        refuse(error)


@click.command("decrypt")
@directory_option
@click.option("--identity", type=click.Path(path_type=Path), required=True, help="Private key.")
@click.option("--to", "target", type=click.Path(path_type=Path), required=True, help="A new one.")
@click.option("--reason", required=True, help="Why; the log keeps it.")
@by_option
def decrypt_command(directory: Path, identity: Path, target: Path, reason: str, by: str) -> None:
    """Copy the log into a directory, with its encrypted segments in clear, to verify and query it.

    It is recorded, where this is the log of this installation. `age -d` reads the segments as well.

    Example: guard audit decrypt --identity officer.key --reason "audit 26-17" --to /mnt/usb/log
    """
    try:
        identities = identities_in(identity)
        why, by = words("reason", reason), words("by", by)
        with recorder(directory) as log:
            if log is not None:
                detail = {"what": "decrypt", "reason": why}
                record(log, "access", detail, by=by, clock=SYSTEM_CLOCK)
        if target.exists():
            raise AuditFault(f"{target} is there already: name a new directory")
        make_directory(target)
        try:
            # INVARIANT: what is signed is copied before the entries: these only become more.
            for name in _NOTES:
                with suppress(FileNotFoundError):
                    _copy(directory / name, target / name)
            for folder in ("tile", POLICIES):
                for path in _files_below(directory / folder):
                    _copy(path, target / path.relative_to(directory))
            for segment in segments_of(directory):
                _copy(segment.path, target / segment.path.name)
            count = sum(
                _in_clear(segment, target, identities) for segment in encrypted_of(directory)
            )
        except BaseException:
            shutil.rmtree(target)
            raise
    except (AuditFault, ConfigError) as error:
        refuse(error)
    except OSError as error:
        refuse(AuditFault(f"cannot copy {error.filename}: {error.strerror}; try once more"))
    click.echo(plain(f"{target}: {count} segments decrypted; guard audit verify --dir {target}"))


def _files_below(folder: Path) -> Iterator[Path]:
    """The regular files of a folder. Links are not followed: the log may be a stranger's."""
    for name, folders, files in os.walk(folder, followlinks=False):
        folders[:] = [one for one in folders if not (Path(name) / one).is_symlink()]
        yield from (Path(name) / one for one in files)


def _copy(source: Path, target: Path) -> None:
    if source.is_symlink() or (source.exists() and not source.is_file()):
        raise AuditFault(f"{source.name} is no regular file: a log has no links")
    make_directory(target.parent)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with source.open("rb") as read, os.fdopen(os.open(target, flags, 0o600), "wb") as to:
        shutil.copyfileobj(read, to)


def _in_clear(segment: Segment, target: Path, identities: list[object]) -> int:
    path = target / segment.sealed.name
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with segment.encrypted.open("rb") as source, os.fdopen(os.open(path, flags, 0o600), "wb") as to:
        decrypt(source, to, identities)
    return 1
