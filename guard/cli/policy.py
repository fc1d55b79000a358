"""`guard policy`: check that policies load, and run their tests."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from ..assemble import bundle_of
from ..config import load_config
from ..errors import PolicyLoadError
from ..fleet import Fleet
from ..policy import Bundle, builtin_directory, load_bundle
from ..policy.unit import TestState, run_tests

__all__ = ["policy"]

_DIRECTORIES = click.argument("directories", nargs=-1, type=click.Path(path_type=Path))
_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")


@click.group()
def policy() -> None:
    """Check and test policies.

    DIRECTORIES hold rules/<rule>/<rule>.rego beside <rule>_test.rego; `builtin` is the set that
    comes with guard. Without any, those of guard.toml here are meant. Exit codes: 0 fine, 1 a
    policy or test is wrong, 2 usage.
    """


@policy.command()
@_DIRECTORIES
@_JSON
def check(directories: tuple[Path, ...], *, as_json: bool) -> None:
    """Load policies as the interceptor would, and list their rules.

    Example: guard policy check builtin policies/
    """
    bundle = _load(directories, as_json=as_json)
    rules: list[dict[str, Any]] = [
        {
            "rule": rule.name,
            "title": rule.metadata.title,
            "points": rule.metadata.points,
            "tools": rule.metadata.tools,
            "controls": rule.metadata.controls,
        }
        for rule in sorted(bundle.rules.values(), key=lambda rule: rule.name)
    ]
    if as_json:
        click.echo(json.dumps({"ok": True, "revision": bundle.revision, "rules": rules}))
        return
    for rule in rules:
        click.echo(f"{rule['rule']:24} {', '.join(rule['points'])}")
    click.echo(f"{len(rules)} rules, revision {bundle.revision[:16]}")


@policy.command()
@_DIRECTORIES
@click.option("--match", default="", help="Only tests whose package.name contains this text.")
@_JSON
def test(directories: tuple[Path, ...], *, match: str, as_json: bool) -> None:
    """Run the `test_...` rules of `_test.rego` files: the meaning of `opa test`.

    Example: guard policy test policies/ --match payment
    """
    bundle = _load(directories, as_json=as_json)
    try:
        results = run_tests(bundle, match=match)
    except PolicyLoadError as error:
        _refuse(error, as_json=as_json)
    counts = {state.value: sum(r.state is state for r in results) for state in TestState}
    is_good = counts["fail"] == counts["error"] == 0 and bool(results)
    if as_json:
        rows = [
            {
                "file": r.file,
                "package": r.package,
                "name": r.name,
                "state": r.state,
                "detail": r.detail,
            }
            for r in results
        ]
        click.echo(json.dumps({"ok": is_good, "counts": counts, "tests": rows}))
    else:
        for result in results:
            if result.state is not TestState.PASS:
                name = f"{result.package}.{result.name}"
                click.echo(f"{result.state.value.upper():8}{name}: {result.detail or 'todo'}")
        click.echo(", ".join(f"{count} {state}" for state, count in counts.items() if count) or
                   "no tests found")  # fmt: skip
    sys.exit(0 if is_good else 1)


def _load(directories: tuple[Path, ...], *, as_json: bool) -> Bundle:
    try:
        if not directories:
            config = load_config()
            fleet = Fleet.load(config.path(config.fleet_file)) if config.fleet_file else None
            return bundle_of(config, fleet or Fleet.empty())
        return load_bundle(resolve(directories), data=EMPTY_FLEET)
    except PolicyLoadError as error:
        _refuse(error, as_json=as_json)


def resolve(directories: tuple[Path, ...]) -> list[Path]:
    """Directories as given, with `builtin` for the set that comes with guard.

    A directory that holds the bundle in a folder `guard`, as this repository does, stands for it.
    """
    found: list[Path] = []
    for directory in directories:
        if str(directory) == "builtin":
            found.append(builtin_directory())
        elif (directory / "guard" / "rules").is_dir():
            found.append(directory / "guard")
        else:
            found.append(directory)
    return found


def _refuse(error: PolicyLoadError, *, as_json: bool) -> NoReturn:
    if as_json:
        click.echo(json.dumps({"ok": False, "error": str(error)}))
    else:
        click.echo(f"guard: {error}", err=True)
    sys.exit(1)


# Rules may read data.fleet; a check without an installation has an empty one.
EMPTY_FLEET: Final[dict[str, Any]] = {"fleet": {"models": {}}}
