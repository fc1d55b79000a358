"""The clerk's tools. They are real: they read files, pay from a ledger, send mail and run code."""

from __future__ import annotations

import csv
import email
import email.policy
import sqlite3
import subprocess
import sys
from contextlib import closing
from email.message import EmailMessage
from pathlib import Path

from langchain_core.tools import BaseTool, tool

__all__ = ["LEDGER", "OUTBOX", "clerk_tools", "make_ledger"]

LEDGER = "ledger.sqlite"
OUTBOX = "outbox"
RUN_S_MAX = 10


def make_ledger(directory: Path) -> None:
    """The SQLite ledger from the SQL that comes with the demo."""
    with closing(sqlite3.connect(directory / LEDGER)) as ledger:
        ledger.executescript((directory / "ledger.sql").read_text(encoding="utf-8"))


def clerk_tools(directory: Path) -> list[BaseTool]:
    """Tools that work on the files of `directory`."""

    def message(name: str) -> EmailMessage:
        text = (directory / "mailbox" / f"{Path(name).name}.eml").read_text(encoding="utf-8")
        return email.message_from_string(text, EmailMessage, policy=email.policy.default)

    @tool
    def list_mail() -> str:
        """List the mailbox: number, sender and subject of each mail."""
        names = sorted(path.stem for path in (directory / "mailbox").glob("*.eml"))
        return "\n".join(f"{n}  {message(n)['From']}  {message(n)['Subject']}" for n in names)

    @tool
    def read_mail(number: str) -> str:
        """Read one mail."""
        mail = message(number)
        return f"From: {mail['From']}\nSubject: {mail['Subject']}\n\n{mail.get_content()}"

    @tool
    def find_customer(name: str) -> str:
        """Find customers by a part of their name; `*` finds all."""
        with (directory / "customers.csv").open(encoding="utf-8", newline="") as file:
            rows = [r for r in csv.DictReader(file) if name in ("*", "") or name in r["name"]]
        return "\n".join("; ".join(f"{key}: {value}" for key, value in r.items()) for r in rows)

    @tool
    def invoices() -> str:
        """List the invoices of the ledger."""
        with closing(sqlite3.connect(directory / LEDGER)) as ledger:
            rows = ledger.execute("SELECT number, supplier, amount, payments FROM invoices")
            return "\n".join(f"{n}  {s}  EUR {a}  {'paid' if p else 'open'}" for n, s, a, p in rows)

    @tool
    def pay_invoice(number: str, amount: int) -> str:
        """Pay an invoice from the company's account."""
        with closing(sqlite3.connect(directory / LEDGER)) as ledger, ledger:
            paid = ledger.execute(
                "UPDATE invoices SET payments = payments + 1 WHERE number = ? AND amount = ?",
                (number, amount),
            )
            return f"paid {number}" if paid.rowcount else f"no open invoice {number} over {amount}"

    @tool
    def send_mail(to: str, subject: str, body: str) -> str:
        """Send a mail."""
        mail = EmailMessage()
        mail["From"], mail["To"], mail["Subject"] = "accounts@corp.example", to, subject
        mail.set_content(body)
        outbox = directory / OUTBOX
        outbox.mkdir(exist_ok=True)
        (outbox / f"{len(list(outbox.iterdir())) + 1:02}.eml").write_bytes(bytes(mail))
        return "sent"

    @tool
    def run_python(code: str) -> str:
        """Run a Python program."""
        done = subprocess.run(  # noqa: S603 that it would really run is the point
            [sys.executable, "-c", code], cwd=directory, capture_output=True, text=True,
            timeout=RUN_S_MAX, check=False,
        )  # fmt: skip
        return done.stdout + done.stderr

    return [list_mail, read_mail, find_customer, invoices, pay_invoice, send_mail, run_python]
