"""Which model a LangChain object really calls, below what was bound to it or given per call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import RunnableBinding

from guard import ConfigError, ModelRef

__all__ = ["model_ref", "unbound"]

_ID_ATTRIBUTES: Final = ("model_name", "model", "model_id", "deployment_name")
_ID_ARGUMENTS: Final = (*_ID_ATTRIBUTES, "engine", "azure_deployment")
_ENDPOINTS: Final = (
    "base_url", "api_base", "openai_api_base", "anthropic_api_url", "azure_endpoint",
    "endpoint", "endpoint_url", "host",
)  # fmt: skip
# A client given with one call goes wherever it likes: it is never an approved endpoint.
_CLIENTS: Final = ("client", "async_client", "http_client", "http_async_client")


def unbound(given: Any) -> tuple[BaseChatModel, dict[str, Any]]:
    """The chat model below its bindings, and the arguments they add; raises ConfigError."""
    settings: dict[str, Any] = {}
    while isinstance(given, RunnableBinding):
        settings = {**given.kwargs, **settings}
        given = given.bound
    if not isinstance(given, BaseChatModel):
        raise ConfigError(
            f"expected a chat model to govern, got `{type(given).__name__}`: govern the model "
            "first, then bind, chain or configure what comes back"
        )
    return given, settings


def model_ref(model: Any, arguments: Mapping[str, Any]) -> ModelRef:
    """The model as this call reaches it: what is given with the call comes before attributes."""
    body = arguments.get("extra_body")
    given = [arguments, body] if isinstance(body, Mapping) else [arguments]
    ids = {str(one[key]) for one in given for key in _ID_ARGUMENTS if one.get(key) is not None}
    places = {str(one[key]) for one in given for key in _ENDPOINTS if one.get(key) is not None}
    places |= {f"a {key} of its own" for key in _CLIENTS if arguments.get(key) is not None}
    return ModelRef(
        # Two names for one call are no name that a fleet has.
        id=" | ".join(sorted(ids)) or _first(model, _ID_ATTRIBUTES) or type(model).__name__,
        provider=str(getattr(model, "provider", None) or model._llm_type),
        endpoint=" | ".join(sorted(places)) or _first(model, _ENDPOINTS),
    )


def _first(model: Any, names: tuple[str, ...]) -> str | None:
    values = (getattr(model, name, None) for name in names)
    return next((str(value) for value in values if value), None)
