"""`guard init` and `guard doctor`: a first configuration, and what is wrong with this one."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import click

from ..config import Config, load_config, load_tools
from ..errors import ConfigError, GuardError

__all__ = ["doctor", "init"]

_TEMPLATES: Final = Path(__file__).resolve().parent / "templates"
# What `init` writes, from the templates folder; an existing file is never touched.
_FILES: Final = (
    "guard.toml",
    "fleet.toml",
    "tools.toml",
    "policies/data.json",
    "policies/rules/refund_limit/refund_limit.rego",
    "policies/rules/refund_limit/refund_limit_test.rego",
)


@click.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path), default=".")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
def init(directory: Path, *, as_json: bool) -> None:
    """Write a commented guard.toml, fleet.toml, tools.toml and a first policy with its test.

    Files that exist are left as they are. Then: `guard policy test policies`, `guard doctor`.
    """
    written, kept = [], []
    for name in _FILES:
        path = directory / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write((_TEMPLATES / name).read_text(encoding="utf-8"))
            written.append(name)
        except FileExistsError:
            kept.append(name)
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from None
    if as_json:
        click.echo(json.dumps({"written": written, "kept": kept}))
        return
    for name in written:
        click.echo(f"wrote  {name}")
    for name in kept:
        click.echo(f"kept   {name}")
    click.echo("next: guard policy test policies, then guard doctor")


@click.command()
@click.option(
    "--config", "config_file", type=click.Path(path_type=Path), help="guard.toml; default: here."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
def doctor(config_file: Path | None, *, as_json: bool) -> None:
    """Look at this installation and say what is wrong. Changes nothing.

    Exit codes: 0 all well, 1 something needs mending.
    """
    rows = [(name, *_look(check)) for name, check in _checks(config_file)]
    is_well = all(ok for _, ok, _ in rows)
    if as_json:
        checks = [{"check": name, "ok": ok, "detail": detail} for name, ok, detail in rows]
        click.echo(json.dumps({"ok": is_well, "checks": checks}))
    else:
        for name, ok, detail in rows:
            mark = click.style("ok  ", fg="green") if ok else click.style("mend", fg="red")
            click.echo(f"{mark} {name:14} {detail}")
    sys.exit(0 if is_well else 1)


Check = Callable[[], tuple[bool, str]]


def _look(check: Check) -> tuple[bool, str]:
    try:
        return check()
    except GuardError as error:
        return False, str(error)


def _checks(config_file: Path | None) -> Iterator[tuple[str, Check]]:
    yield "python", _python
    yield "import name", _owner_of("guard", "stepguard")
    yield "rego engine", _owner_of("regorus", "gordon-to-regorus")
    try:
        config = load_config(config_file)
    except GuardError as error:
        complaint = str(error)
        yield "configuration", lambda: (False, complaint)
        return
    where = config_file or Path("guard.toml")
    yield (
        "configuration",
        lambda: (
            True,
            str(where) if where.is_file() else "no guard.toml here: the embedded defaults",
        ),
    )
    yield "policies", lambda: _policies(config)
    yield "tools", lambda: _tools(config)
    dsn, directory = config.audit.database, config.path(config.audit.directory)
    yield "audit log", lambda: _reachable(dsn) if dsn else _writable(directory)
    yield "on failure", lambda: _on_failure(config)
    yield "keys", lambda: _keys(config.path(config.keys.directory))


def _python() -> tuple[bool, str]:
    version = platform.python_version()
    return sys.version_info >= (3, 11), f"{version} on {platform.machine()}"


def _owner_of(name: str, expected: str) -> Check:
    """Two distributions that own one import name overwrite each other's files."""

    def check() -> tuple[bool, str]:
        owners = sorted(set(importlib.metadata.packages_distributions().get(name, [])))
        if not owners and _is_installed(expected):
            owners = [expected]  # an editable install names no files
        if owners == [expected]:
            return True, f"`{name}` comes from {expected} {importlib.metadata.version(expected)}"
        if expected not in owners:
            return False, f"`{name}` does not come from {expected}: install it for this platform"
        others = ", ".join(owner for owner in owners if owner != expected)
        return False, f"`{name}` is also installed by {others}: uninstall that and reinstall ours"

    return check


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _policies(config: Config) -> tuple[bool, str]:
    from ..assemble import bundle_of
    from ..fleet import Fleet

    fleet = Fleet.load(config.path(config.fleet_file)) if config.fleet_file else Fleet.empty()
    bundle = bundle_of(config, fleet)
    models = f", {len(fleet.models)} models" if fleet.models else ", no fleet: no model is approved"
    return True, f"{len(bundle.rules)} rules, revision {bundle.revision[:16]}{models}"


def _tools(config: Config) -> tuple[bool, str]:
    if config.tools_file is None:
        return True, "no tools.toml: tools are declared on their decorators"
    return True, f"{len(load_tools(config.path(config.tools_file)))} declared"


def _reachable(dsn: str) -> tuple[bool, str]:
    from ..audit.postgres import Store

    store = Store(dsn)
    with store.connect():
        return True, f"PostgreSQL at {store.place}"


def _writable(directory: Path) -> tuple[bool, str]:
    there = directory
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK):
        return False, f"{directory} cannot be written: every call would be denied"
    return True, str(directory)


def _on_failure(config: Config) -> tuple[bool, str]:
    answer = config.audit.on_failure
    if answer == "deny":
        return True, "deny: what cannot be recorded does not happen"
    return True, f"{answer}: weaker than deny, named in every record"


def _keys(directory: Path) -> tuple[bool, str]:
    if not directory.exists():
        return True, f"{directory} is made at the first record"
    open_files = [
        path.name
        for path in directory.glob("*.key")
        if stat.S_IMODE(path.stat().st_mode) & (stat.S_IRWXG | stat.S_IRWXO)
    ]
    if open_files:
        return False, f"{open_files[0]} is open to others: chmod 600 {directory}/*.key"
    return True, f"{directory}, {len(list(directory.glob('*.key')))} keys, closed to others"
