"""The audit log in a PostgreSQL database, for many hosts. Needs the extra `postgres`."""

from .log import PostgresLog
from .pull import pull
from .store import Store

__all__ = ["PostgresLog", "Store", "pull"]
