"""The first page of an evidence pack: how to verify it, for somebody who never saw guard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["readme"]

_TEXT: Final = """\
EVIDENCE PACK

What this is
  Entries of the audit log `{origin}`
  regime   {regime}
  time     {since} to {until} (UTC)
  entries  {count}, the first is number {first}, the last number {last}
  made by  {by}, {exported_at}, with stepguard {version}
  reason   {reason}
{state}
What is in it
  report.html        for people: open it in any browser, print it to PDF; it loads nothing
  requirements.json  each requirement, the entries that evidence it, and what they do not evidence
  log/               the entries as they were written, byte for byte, one JSON object a line, with
                     signed checkpoints, public keys and the hashes of the whole log
  proofs/            for single entries: an inclusion proof, https://c2sp.org/tlog-proof
  policies/          the rules that decided, by revision, with their tests and data
  manifest.json      what is said here for machines, and the SHA-256 of each file
  SHA256SUMS         the same, and of manifest.json, for sha256sum
  verify_log.py      a verifier in one file; it needs Python 3.11 and the package `cryptography`

How to verify it
  1. No file was changed since the pack was made:
       sha256sum --check SHA256SUMS           (macOS: shasum -a 256 --check SHA256SUMS)
     This shows that the pack agrees with itself. Compare the SHA-256 of the archive with the one
     that you were told by another way.
  2. Every entry is in the log that was signed:
       python3 verify_log.py log --excerpt
     or, with stepguard installed:  guard audit verify --excerpt --dir log
     Both say that this is an excerpt: entries outside of it are here as hashes only.
  3. The key is the right one. The keys in log/log.vkey are those of the log by its own account. Ask
     the operator for the public key by another way, and compare, or give it to the verifier.
  4. The log was not written anew. Ask whoever keeps checkpoints outside (a witness, a second
     administrator) for one, and give it to the verifier too.

What it cannot show
  What never reached the log; that clocks were right (the number of an entry is its place in the
  order, not its time); what an entry left out of this pack says. What is redacted, sealed or a
  commitment in an entry was so when it was written.

  The format is described in docs/audit-format.md of stepguard. A revision of policies is the
  SHA-256 over a line `<name> NUL <SHA-256 of the file> LF` for each .rego file outside of tests/,
  by name, and then over data.json.
"""
_DAMAGED: Final = """
  THE LOG WAS DAMAGED WHEN THIS PACK WAS MADE. {count} findings are in manifest.json; what they
  concern proves nothing. Verifying this pack will find the damage again where it is in the pack.
"""


def readme(manifest: Mapping[str, Any]) -> str:
    """The text of README.txt."""
    entries, found = manifest["entries"], manifest["log_when_exported"]
    state = "" if found["is_whole"] else _DAMAGED.format(count=len(found["damages"]))
    return _TEXT.format(
        origin=manifest["log"]["origin"],
        count=entries["count"],
        first=entries["first"],
        last=entries["last"],
        version=manifest["tool"]["version"],
        state=state,
        **{
            name: " ".join(manifest[name].split())
            for name in ("regime", "since", "until", "by", "exported_at", "reason")
        },
    )
