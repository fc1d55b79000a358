"""Entries as a fleet of agents leaves them, as many as are wanted: for tests and measurements.

They are the same for the same number and seed: sessions of some steps, each an intent and its
outcome, some denied, redacted, routed or sent to review; 1.1 KB of JSON on average.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec

from guard.audit.entry import Entry, encode, stamp, timestamp_of
from guard.audit.seal import Sealer
from guard.audit.sequence import Rolling, Sequence
from guard.clock import SYSTEM_CLOCK
from guard.keys import Mac, Signer

__all__ = ["END_NS", "SIGNER", "SUBJECTS", "entries", "write_log"]

SIGNER: Final = Signer("guard/audit", bytes(range(32)))
# The last entry is of this moment, 2026-11-20 18:00 UTC; the first is SPAN_S before.
END_NS: Final = 1_795_197_600_000_000_000
SPAN_S: Final = 30 * 86_400
_MAC: Final = Mac(bytes(range(32, 64)))
_BATCH: Final = 1_000
_WRITER: Final = "5f1d3c6a9b2e48d7"

TENANTS: Final = ("acme-retail", "acme-bank", "initech", "globex")
SUBJECTS: Final = tuple(f"s{number:019x}" for number in range(20_000))
_AGENTS: Final = tuple(f"did:web:agents.example:{role}-{number:02}" for number in range(50)
                       for role in ("clerk", "planner", "triage", "researcher"))  # fmt: skip
_THINGS: Final = ("orders", "mail", "ticket", "ledger", "customer", "file")
_TOOLS: Final = tuple(f"{verb}_{thing}" for verb in ("search", "read", "update", "send")
                      for thing in _THINGS)  # fmt: skip
_MODELS: Final = ("small-2", "large-4", "large-4-eu", "reasoner-1")
_REVISIONS: Final = tuple(f"sha256:{number:064x}" for number in (0x9F2C << 240, 0xA771 << 240))
_ALLOW: Final = {
    "effect": "allow", "code": "tools.granted", "stage": "policy", "pointers": [],
    "message": "the session holds a grant for this tool and nothing speaks against it",
}  # fmt: skip
_REASONS: Final = {
    "redact": {"effect": "redact", "code": "pii.mask_in_tools", "stage": "policy",
               "message": "personal data does not go into this tool", "pointers": ["/note"]},
    "route": {"effect": "route", "code": "fleet.eu_only", "stage": "policy", "pointers": [],
              "message": "data of this tenant stays with models in the union"},
    "review": {"effect": "review", "code": "payments.above_limit", "stage": "policy",
               "message": "the amount is above the limit of the role", "pointers": ["/amount"]},
    "deny": {"effect": "deny", "code": "email.external", "stage": "policy", "pointers": ["/to"],
             "message": "mail with confidential data may not leave the company"},
}  # fmt: skip
_LABELS: Final = ({"integrity": "trusted", "confidentiality": "internal"},
                  {"integrity": "untrusted", "confidentiality": "public"},
                  {"integrity": "trusted", "confidentiality": "secret"})  # fmt: skip
_WORDS: Final = (
    "refund order invoice customer asked about the delivery of last week and wants an answer "
    "today because it is late again"
).split()


def entries(count: int, *, seed: int = 7, end_ns: int = END_NS) -> Iterator[Entry]:
    """`count` entries, oldest first."""
    draw = random.Random(seed)
    step_ns = SPAN_S * 1_000_000_000 // max(count, 1)
    now_ns = end_ns - step_ns * count
    made: Iterator[dict[str, Any]] = (fields for _ in iter(int, 1) for fields in _session(draw))
    for fields in islice(made, count):
        now_ns += step_ns
        yield Entry(timestamp_ns=now_ns, timestamp=timestamp_of(now_ns), **fields)


def write_log(
    directory: Path, count: int, *, seed: int = 7, end_ns: int = END_NS, is_sealed: bool = True,
    **rolling: int,
) -> None:  # fmt: skip
    """A signed log of `count` entries; all segments but the last are sealed."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    sequence = Sequence(
        directory, signer=SIGNER, origin="guard/audit", clock=SYSTEM_CLOCK,
        rolling=msgspec.structs.replace(Rolling(checkpoint_records=_BATCH), **rolling),
    )  # fmt: skip
    number = 0
    made = entries(count, seed=seed, end_ns=end_ns)
    while batch := list(islice(made, _BATCH)):
        sequence.append(
            [stamp(encode(entry, _MAC.commit), _WRITER, number + at)
             for at, entry in enumerate(batch)]
        )  # fmt: skip
        number += len(batch)
        sequence.checkpoint()
    if is_sealed:
        sealer = Sealer(directory)
        while any(path.name != sequence.segment.live.name
                  for path in directory.glob("records-*.jsonl")):  # fmt: skip
            sealer.step(sequence)
            if sequence.checkpointed < sequence.size:
                sequence.checkpoint()
        sealer.close()
    sequence.close()


def _session(draw: random.Random) -> Iterator[dict[str, Any]]:
    """The fields of the entries of one session but for their time."""
    agent = draw.choice(_AGENTS)
    # Some agents ask for more than they may.
    deny = 0.12 if agent.endswith("07") else 0.03
    revision = _REVISIONS[draw.random() < 0.6]
    whole = {
        "session_id": f"{draw.getrandbits(128):032x}",
        "run_id": f"run-{draw.getrandbits(40):010x}",
        "trace_id": f"{draw.getrandbits(128):032x}",
        "tenant": draw.choice(TENANTS),
        "purpose": draw.choice(("support", "refund", "onboarding")),
        "principal": {"id": agent, "roles": [agent.rsplit(":", 1)[1][:-3], "staff"],
                      "on_behalf_of": f"user:{draw.randrange(3_000)}",
                      "delegation": ["did:web:agents.example:root"]},
        "bundles": {"guard": {"revision": revision}},
    }  # fmt: skip
    subjects = draw.sample(SUBJECTS, draw.choice((0, 0, 1, 1, 2)))
    number = 0
    for _ in range(draw.randrange(2, 12)):
        for fields in _step(draw, deny):
            yield {**whole, **fields, "session_seq": number, "subjects": subjects}
            number += 1


def _step(draw: random.Random, deny: float) -> Iterator[dict[str, Any]]:
    chance = draw.random()
    effect = "deny" if chance < deny else "redact" if chance < 0.15 else (
        "route" if chance < 0.17 else "review" if chance < 0.18 else "allow")  # fmt: skip
    is_model = effect == "route" or draw.random() < 0.3
    intent = f"{draw.getrandbits(128):032x}"
    shared: dict[str, Any] = {
        "call_id": f"call_{draw.getrandbits(32):08x}",
        "labels": draw.choice(_LABELS),
        **({"model": draw.choice(_MODELS)} if is_model else {"tool": draw.choice(_TOOLS)}),
    }
    reasons = [_ALLOW] if effect == "allow" else [_ALLOW, _REASONS[effect]]
    review = f"{draw.getrandbits(64):016x}" if effect == "review" else None
    yield {
        **shared, "kind": "intent", "decision_id": intent, "span_id": intent[:16],
        "point": "pre_model_call" if is_model else "pre_tool_call", "effect": effect,
        "reasons": reasons, "review_id": review, "input": _payload(draw),
        "masked": ["/input/note"] if effect == "redact" else [],
        "metrics": {"elapsed_ns": int(draw.lognormvariate(11, 0.5))},
    }  # fmt: skip
    if effect == "review":
        yield {"kind": "review", "decision_id": f"{draw.getrandbits(128):032x}", "ref": intent,
               "review_id": review, "approved_by": f"reviewer:{draw.randrange(9)}",
               "detail": {"answer": draw.choice(("approved", "rejected"))}}  # fmt: skip
    if effect in ("deny", "review") or draw.random() < 0.000_1:
        return
    has_failed = draw.random() < 0.01
    outcome = f"{draw.getrandbits(128):032x}"
    yield {
        **shared, "kind": "outcome", "decision_id": outcome, "span_id": outcome[:16],
        "ref": intent, "point": "post_model_call" if is_model else "post_tool_call",
        "effect": "allow", "reasons": [_ALLOW], "result": _payload(draw),
        "happened": not has_failed, "error": "TimeoutError" if has_failed else None,
        "cost_usd": round(draw.lognormvariate(-5, 1), 6) if is_model else None,
        "tokens": draw.randrange(200, 9_000) if is_model else None,
        "metrics": {"elapsed_ns": int(draw.lognormvariate(11, 0.5))},
    }  # fmt: skip


def _payload(draw: random.Random) -> dict[str, Any]:
    at = draw.randrange(len(_WORDS))
    return {
        "amount": draw.randrange(100_000) / 100, "currency": "EUR", "to": "<IBAN_CODE>",
        "reference": f"INV-{draw.randrange(100_000):05}",
        "note": " ".join(_WORDS[at:] + _WORDS[:at]),
    }  # fmt: skip
