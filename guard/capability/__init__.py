"""Grants: which tools a session may use in principle. No capability, no tool."""

from .grants import check, from_table

__all__ = ["check", "from_table"]
