"""The Rego engine in process: regorus, linked rules only, one engine for each thread and scope.

What the bindings demand, and where it is met:
(1) an engine belongs to the thread that made it: they live in a `threading.local`. Making one costs
    3 ms, and frameworks run each tool in a thread of its own, so a new thread's first calls are
    answered by one evaluator thread that has its engines ready;
(2) a lone surrogate or a cycle ends the process: input arrives as JSON text of a frozen snapshot;
(3) an engine that raised is in an unknown state: it is dropped;
(4) a panic is a BaseException: the pipeline turns it into a fault, as it does every other;
(5) there is no timer: an evaluation over EVALUATION_MS_MAX is a fault after the fact.
"""

from __future__ import annotations

import atexit
import itertools
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final, Protocol

import msgspec
import regorus

from ..decision import Verdict
from ..errors import PolicyFault
from ..request import TARGET_KEY, Point
from .answer import read_facts, read_verdicts
from .bundle import Bundle, Scope
from .evaluator import EVALUATOR
from .input import encode_input
from .reads import project
from .syntax import reason_of

__all__ = ["Answer", "EmbeddedEngine", "Engine"]

# Engines kept per thread. One holds the parsed rules of a scope, about 0.2 MB with 25 rules.
ENGINES_MAX: Final = 256
# Far over any honest evaluation (0.05 ms) and the pauses of a loaded machine.
EVALUATION_MS_MAX: Final = 1_000
# A thread that has asked this often is a worker that stays, and gets engines of its own.
FOREIGN_CALLS_MAX: Final = 16

_VERDICTS: Final = "data.guard.verdicts"
_FACTS: Final = "data.guard.facts"


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What the policies say of one input, and which rules were asked."""

    verdicts: tuple[Verdict, ...] = ()
    facts: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()


class Engine(Protocol):
    """What evaluates policies. Same input, same answer, whichever engine."""

    @property
    def revision(self) -> str:
        """sha256 of the policies and data that answer."""
        ...

    def evaluate(self, point: Point, tool: str | None, document: Mapping[str, Any]) -> Answer:
        """Answer for one policy input, as `build_input` makes it; raises PolicyFault."""
        ...


_Key = tuple[int, tuple[str, ...]]


class _Local(threading.local):
    """Engines of this thread, by (generation, scope); stale generations fall out as the oldest.

    Module-wide on purpose: an engine may be freed by its own thread only, so it must not hang on
    an object that another thread can drop.
    """

    def __init__(self) -> None:
        self.engines: OrderedDict[_Key, regorus.Engine] = OrderedDict()
        self._calls = 0

    def settles(self) -> bool:
        """Whether this thread is worth engines of its own: the main one, or one that stays.

        Never a daemon: at the end of the process its engines would be freed by another thread.
        """
        thread = threading.current_thread()
        if thread is threading.main_thread():
            return True
        self._calls += 1
        return self._calls > FOREIGN_CALLS_MAX and not thread.daemon


_LOCAL: Final = _Local()
_GENERATIONS: Final = itertools.count()


class EmbeddedEngine:
    """Evaluates a bundle in process. Immutable: a new bundle is a new engine."""

    def __init__(self, bundle: Bundle, *, evaluation_ms_max: int = EVALUATION_MS_MAX) -> None:
        self.bundle = bundle
        self._evaluation_ms_max = evaluation_ms_max
        self._generation = next(_GENERATIONS)
        self._data = msgspec.json.encode(bundle.data).decode()

    @property
    def revision(self) -> str:
        """sha256 of the policies and data that answer."""
        return self.bundle.revision

    def evaluate(self, point: Point, tool: str | None, document: Mapping[str, Any]) -> Answer:
        """Answer of the rules in scope; raises PolicyFault for anything that is not an answer."""
        scope = self.bundle.scope(point, tool)
        if not scope.rules:
            return Answer()
        key = (self._generation, scope.rules)
        input_text = encode_input(project(document, scope.reads))
        if key in _LOCAL.engines or _LOCAL.settles():
            verdicts, facts = self._evaluate_here(key, scope, input_text)
        else:
            verdicts, facts = EVALUATOR.run(lambda: self._evaluate_here(key, scope, input_text))
        return Answer(read_verdicts(verdicts, TARGET_KEY[point]), read_facts(facts), scope.rules)

    def _evaluate_here(self, key: _Key, scope: Scope, input_text: str) -> tuple[str, str]:
        """(verdicts, facts) as JSON, by an engine of this thread."""
        engine = self._engine(key, scope)
        started_ns = time.perf_counter_ns()
        verdicts = facts = "[]"
        is_sound = False
        try:
            engine.set_input_json(input_text)
            if scope.gives_verdicts:
                verdicts = engine.eval_rule_as_json(_VERDICTS)
            if scope.gives_facts:
                facts = engine.eval_rule_as_json(_FACTS)
            is_sound = True
        except Exception as error:  # noqa: BLE001 the bindings raise what they like
            raise PolicyFault(f"a policy could not be evaluated: {_place(error)}") from None
        finally:
            if not is_sound:
                _LOCAL.engines.pop(key, None)  # (3)
        elapsed_ms = (time.perf_counter_ns() - started_ns) / 1e6
        if elapsed_ms > self._evaluation_ms_max:  # (5)
            raise PolicyFault(
                f"the policies took longer than {self._evaluation_ms_max} ms: "
                "simplify the rules in scope"
            )
        return verdicts, facts

    def _engine(self, key: _Key, scope: Scope) -> regorus.Engine:
        engines = _LOCAL.engines
        engine = engines.get(key)
        if engine is None:
            engine = engines[key] = self._build(scope)
            if len(engines) > ENGINES_MAX:
                engines.popitem(last=False)
        else:
            engines.move_to_end(key)
        return engine

    def _build(self, scope: Scope) -> regorus.Engine:
        engine = regorus.Engine()
        for name, source in self.bundle.libraries.items():
            engine.add_policy(name, source)
        for rule in scope.rules:
            engine.add_policy(self.bundle.rules[rule].file, self.bundle.rules[rule].linked)
        engine.add_data_json(self._data)
        return engine


@atexit.register
def _free_engines() -> None:
    """The evaluator is a daemon too: let it free what it made while it still runs."""
    if EVALUATOR.is_running:
        EVALUATOR.run(lambda: _LOCAL.engines.clear())


def _place(error: BaseException) -> str:
    # File and line only: the rest of an evaluation error may quote values of the input.
    return reason_of(error, "unknown place").partition(": ")[0]
