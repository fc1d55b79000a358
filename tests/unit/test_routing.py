"""ROUTE for decorated models: carried out, decided again, or denied."""

from __future__ import annotations

from typing import Any

import pytest
from support.cases import FLEET

import guard
from guard import Denied, testing
from guard.decorators import Decorators

CLERK = "did:web:agents.example:clerk"


def _made(**models: Any) -> Any:
    return testing.interceptor(fleet=FLEET, models=models)


def test_a_retired_model_is_replaced_by_an_approved_object() -> None:
    made, log = _made(**{"large-eu": lambda messages: f"eu: {messages}"})

    @Decorators(lambda: made).model("old", provider="p")
    def ask(messages: str) -> str:
        raise AssertionError("the retired model was called")

    with guard.session(CLERK):
        assert ask("hello") == "eu: hello"
    intent = log.entries[0]
    assert (intent.effect, intent.model, intent.notes) == ("route", "large-eu", ["routed_from=old"])


def test_with_a_model_argument_the_same_function_gets_the_other_id() -> None:
    made, _ = _made(**{"large-eu": object()})

    @Decorators(lambda: made).model("large-eu", provider="p", argument="model")
    def ask(messages: str, model: str = "large-eu") -> str:
        return model

    with guard.session(CLERK):
        assert ask("hello") == "large-eu"
        assert ask("hello", model="old") == "large-eu"


def test_without_an_object_for_any_allowed_model_it_is_a_deny() -> None:
    made, _ = _made(old=lambda messages: "old")

    @Decorators(lambda: made).model("old", provider="p")
    def ask(messages: str) -> str:
        raise AssertionError("the retired model was called")

    with guard.session(CLERK), pytest.raises(Denied, match="route"):
        ask("hello")


def test_personal_data_is_routed_to_where_it_may_go() -> None:
    made, _ = _made(**{"large-eu": lambda messages: "eu", "large-us": lambda messages: "us"})

    @Decorators(lambda: made).model("large-us", provider="p")
    def ask(messages: str) -> str:
        return "us"

    with guard.session(CLERK, jurisdiction="eu"):
        assert ask("hello") == "us"
        assert ask("write to jane@corp.example") == "eu"
