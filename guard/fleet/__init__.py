"""The approved models: what they are, and which one to call."""

from .choose import Choice, choose
from .registry import Fleet, Model

__all__ = ["Choice", "Fleet", "Model", "choose"]
