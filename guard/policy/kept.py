"""Policies that were in force, kept for later: their sources, by revision, below one directory.

    <directory>/<revision>/main.rego, lib/..., rules/..., data.json     what the revision is made of
    <directory>/<revision>/tests/...                                    beside it, not part of it

`data.json` has the settings and the fleet in it: with these files the same answers come out again.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from ..errors import PolicyFault
from .bundle import Bundle

__all__ = [
    "POLICIES",
    "files_of",
    "keep_policies",
    "kept_at",
    "plain_revision",
    "revision_of",
    "revisions_in",
]

# Below the directory of the log.
POLICIES: Final = "policies"
_DATA: Final = "data.json"
_TESTS: Final = "tests/"
_REVISION: Final = re.compile(r"[0-9a-f]{64}")


def keep_policies(directory: Path, bundle: Bundle) -> Path:
    """Store a bundle once; where it is. Raises PolicyFault.

    What is there under that revision and is not it is replaced.
    """
    place = directory / bundle.revision
    if _is_whole(place):
        return place
    files = {
        **bundle.libraries,
        **{rule.file: rule.source for rule in bundle.rules.values()},
        **{f"{_TESTS}{name}": source for name, source in bundle.tests.items()},
        "main.rego": bundle.main,
        _DATA: msgspec.json.encode(bundle.data, order="deterministic").decode(),
    }
    unfinished = directory / f".{bundle.revision}.{os.getpid()}"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.rmtree(unfinished, ignore_errors=True)
        for name, text in files.items():
            _write(unfinished / name, text)
        shutil.rmtree(place, ignore_errors=True)
        os.rename(unfinished, place)
    except OSError as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        if not _is_whole(place):  # another process may have been faster
            raise PolicyFault(
                f"cannot keep the policies in {directory}: {error.strerror}; "
                "make room there, and let this user write"
            ) from error
    return place


def revisions_in(directory: Path) -> list[str]:
    """The revisions that are kept, in the order of their names."""
    if not directory.is_dir():
        return []
    return sorted(path.name for path in directory.iterdir() if _REVISION.fullmatch(path.name))


def kept_at(directory: Path, revision: str) -> Path | None:
    """Where a revision, as an entry names it, is kept whole; None where it is not."""
    plain = plain_revision(revision)
    place = directory / plain if plain is not None else None
    return place if place is not None and _is_whole(place) else None


def plain_revision(revision: str) -> str | None:
    """64 hex digits; None for what is no revision, and must not become a path."""
    plain = revision.removeprefix("sha256:")
    return plain if _REVISION.fullmatch(plain) else None


def revision_of(place: Path) -> str:
    """The revision that the files in a directory make; raises OSError.

    SHA-256 over a line `<name> NUL <SHA-256 of the file>` for each .rego file but the tests, by
    name, and then over data.json.
    """
    digest = hashlib.sha256()
    for name, path in files_of(place):
        if name.endswith(".rego") and not name.startswith(_TESTS):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{name}\0{content}\n".encode())
    digest.update((place / _DATA).read_bytes())
    return digest.hexdigest()


def files_of(place: Path) -> Iterator[tuple[str, Path]]:
    """Name and path of each file that is kept, by name; a link, or anything else, is not one."""
    found = [path for path in place.rglob("*.rego") if path.is_file() and not path.is_symlink()]
    named = [(path.relative_to(place).as_posix(), path) for path in (*found, place / _DATA)]
    yield from sorted(named)


def _is_whole(place: Path) -> bool:
    try:
        return revision_of(place) == place.name
    except OSError:
        return False  # it is not there, or cannot be read


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
