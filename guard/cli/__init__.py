"""`guard`: the command line. One file a verb group; each is imported when it is asked for."""

from __future__ import annotations

import importlib
import sys
from typing import Any, Final

import click

from ..errors import GuardError

__all__ = ["main"]

# verb -> (module, what `guard --help` says)
_VERBS: Final = {
    "init": ("setup", "Write a commented guard.toml, fleet.toml and a first policy with its test."),
    "doctor": ("setup", "Look at this installation and say what is wrong."),
    "demo": ("demo", "Run a governed agent over a real mailbox, ledger and customer table."),
    "decide": ("decide", "Decide one request from a file or stdin: the decision and its reasons."),
    "explain": ("decide", "The same, with every stage: rules in scope, which fired, evidence."),
    "policy": ("policy", "Check and test policies."),
    "audit": ("audit", "Query, verify, export and run the audit log."),
    "erase": ("privacy", "Erase a data subject: destroy its keys, with a certificate."),
    "hold": ("privacy", "Legal holds: what must not be erased and does not expire."),
    "expire": ("privacy", "Destroy what is older than its retention class allows."),
    "open": ("privacy", "Open sealed values of an entry; the opening is recorded."),
}


class _Verbs(click.Group):
    """Loads a verb's module when the verb is used: `guard --help` stays instant."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _VERBS:
            return None
        module = importlib.import_module(f".{_VERBS[cmd_name][0]}", __package__)
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(verb, text) for verb, (_, text) in _VERBS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _VERBS:
            import difflib

            near = difflib.get_close_matches(args[0], _VERBS, 1)
            hint = f"did you mean `{near[0]}`" if near else f"expected {', '.join(_VERBS)}"
            ctx.fail(f"no verb `{args[0][:40]}`: {hint}")
        return super().resolve_command(ctx, args)


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="stepguard", prog_name="guard")
def _cli() -> None:
    """Runtime governance for AI agents: every step decided, enforced and recorded.

    Start with `guard demo`, then `guard init` in your project. Every verb takes --help, and most of
    them --json. Exit codes: 0 fine, 1 the answer is no, 2 the question was wrong.
    """


def main(arguments: list[str] | None = None) -> Any:
    """Entry point. A fault of guard is one line on stderr and exit code 2, never a traceback."""
    try:
        return _cli.main(args=arguments, prog_name="guard")
    except GuardError as error:
        click.echo(f"guard: {error}", err=True)
        sys.exit(2)
