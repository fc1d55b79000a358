"""What an attacker wrote, on its way to a terminal: nothing in it is acted upon."""

from __future__ import annotations

import getpass
import re
import sys
from pathlib import Path
from typing import Final, NoReturn

import click

from ..config import load_config
from ..errors import AuditFault

__all__ = ["by_option", "directory_option", "escaped", "json_option", "plain", "refuse", "text_of"]

# A key or a checkpoint is a few lines; whatever is longer is another file named by mistake.
FILE_BYTES_MAX: Final = 65_536
USAGE_EXIT: Final = 2
# C0, DEL, C1, line separators, and the marks that turn the direction of text around.
_CONTROLS: Final = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)


def _configured() -> Path:
    """Where this installation logs, by guard.toml and GUARD_AUDIT__DIRECTORY."""
    config = load_config()
    return config.path(config.audit.directory)


directory_option: Final = click.option(
    "--dir", "directory", type=click.Path(path_type=Path),
    callback=lambda _ctx, _option, value: value or _configured(),
    help="Directory of the audit log; default: that of guard.toml here, or .guard/audit.",
)  # fmt: skip
by_option: Final = click.option("--by", default=getpass.getuser, help="Who does it; default: you.")
json_option: Final = click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")


def plain(text: str) -> str:
    """Text without anything a terminal would act on; the mark shows that something was there."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)


def escaped(document: str) -> str:
    """The same JSON, with the characters that JSON allows and a terminal acts on as escapes."""
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", document)


def refuse(error: Exception) -> NoReturn:
    """Say what is wrong with the question, and end."""
    click.echo(f"guard: {plain(str(error))}", err=True)
    sys.exit(USAGE_EXIT)


def text_of(path: Path) -> str:
    """A small file of text that the user named; raises AuditFault."""
    try:
        with path.open("rb") as file:
            return file.read(FILE_BYTES_MAX).decode()
    except OSError as error:
        raise AuditFault(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise AuditFault(f"{path} is not text: expected a file of a log, as it was") from error
