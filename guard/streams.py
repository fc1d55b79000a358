"""Results that come later or in pieces: each item is decided when it comes.

The sync and the async stream are twins: `yield` and `await` cannot be shared.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any, Final

from .errors import Outcome
from .interceptor import Interceptor, OnDeny
from .permit import Permit

__all__ = ["aitems", "items", "later"]


async def later(governor: Interceptor, permit: Permit, value: Any, on_deny: OnDeny | None) -> Any:
    """The result of an awaitable that a plain function gave."""
    result, failure = None, None
    try:
        result = await value
    except BaseException as error:  # noqa: BLE001 every end of a call is recorded
        failure = error
    return governor.deliver(governor.ended(permit, result, failure), on_deny)


_GOES_ON: Final[Any] = object()


def items(
    governor: Interceptor, permit: Permit, inner: Generator[Any, Any, Any], on_deny: OnDeny | None
) -> Generator[Any, Any, Any]:
    """The items of a generator, each as it may go on; what is sent and thrown goes in."""
    count = 0
    is_ended = False
    advance: Callable[[], Any] = functools.partial(next, inner)
    try:
        while True:
            item, returned, failure = None, _GOES_ON, None
            try:
                item = advance()
            except StopIteration as stop:
                returned = stop.value
            except BaseException as error:  # noqa: BLE001 an exception is a result too
                failure = error
            if failure is not None:
                is_ended = True
                yield governor.deliver(governor.after_error(permit, failure), on_deny)
                return None
            if returned is not _GOES_ON:
                return _returned(governor, permit, returned, on_deny)
            formed = governor.after(permit, item, is_item=True)
            count += 1
            try:
                sent = yield governor.deliver(formed, on_deny)
            except GeneratorExit:
                raise
            except BaseException as thrown:
                if isinstance(formed, Outcome):
                    raise
                advance = functools.partial(inner.throw, thrown)
            else:
                advance = functools.partial(inner.send, sent)
            if isinstance(formed, Outcome):
                return None  # a deny in mid-stream ends the stream at that point
    finally:
        inner.close()
        if not is_ended:
            _ended(governor, governor.finish(permit, items=count), on_deny)


async def aitems(
    governor: Interceptor,
    permit: Permit,
    inner: AsyncGenerator[Any, Any],
    on_deny: OnDeny | None,
) -> AsyncGenerator[Any, Any]:
    """The same for an async generator."""
    count = 0
    is_ended = False
    advance: Callable[[], Any] = functools.partial(inner.asend, None)
    try:
        while True:
            item, failure = None, None
            try:
                item = await advance()
            except StopAsyncIteration:
                return
            except BaseException as error:  # noqa: BLE001 an exception is a result too
                failure = error
            if failure is not None:
                is_ended = True
                yield governor.deliver(governor.after_error(permit, failure), on_deny)
                return
            formed = governor.after(permit, item, is_item=True)
            count += 1
            try:
                sent = yield governor.deliver(formed, on_deny)
            except GeneratorExit:
                raise
            except BaseException as thrown:
                if isinstance(formed, Outcome):
                    raise
                advance = functools.partial(inner.athrow, thrown)
            else:
                advance = functools.partial(inner.asend, sent)
            if isinstance(formed, Outcome):
                return  # a deny in mid-stream ends the stream at that point
    finally:
        await inner.aclose()
        if not is_ended:
            _ended(governor, governor.finish(permit, items=count), on_deny)


def _returned(governor: Interceptor, permit: Permit, value: Any, on_deny: OnDeny | None) -> Any:
    """What `return value` in a generator hands to `yield from`: an item like the others."""
    if value is None:
        return None
    return governor.deliver(governor.after(permit, value, is_item=True), on_deny)


def _ended(governor: Interceptor, outcome: Outcome | None, on_deny: OnDeny | None) -> None:
    # The items are out; a log that failed only now is still told, unless values were asked for.
    if outcome is not None:
        governor.deliver(outcome, on_deny)
