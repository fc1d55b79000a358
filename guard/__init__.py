"""guard: runtime governance for AI agents, in process."""
