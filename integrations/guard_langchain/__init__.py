"""LangChain and LangGraph under guard.

    from guard_langchain import Governance

    agent = create_agent(model, tools, middleware=[Governance()])
    with guard.session("did:web:agents.example:clerk", grants=["search"], id="run-7"):
        agent.invoke(...)

`govern(model)` is the same for a model in chains and graphs of your own, and `install_backstop()`
stops whatever is not governed.
"""

from __future__ import annotations

try:
    import langchain.agents  # noqa: F401 only whether they are there
    import langgraph.errors  # noqa: F401
except ImportError as error:
    raise ImportError(
        "guard_langchain needs LangChain and LangGraph: pip install 'stepguard[langchain]'"
    ) from error

from .callback import GovernanceCallback, install_backstop
from .middleware import Governance
from .model import GovernedChatModel, govern
from .outcomes import StoppedDenied, StoppedPending

__all__ = [
    "Governance",
    "GovernanceCallback",
    "GovernedChatModel",
    "StoppedDenied",
    "StoppedPending",
    "govern",
    "install_backstop",
]
