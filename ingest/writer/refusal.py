"""Whose fault an error of the database is, and how much it takes at once: pure."""

from typing import Final

import asyncpg

FAILURES: Final = (asyncpg.PostgresError, asyncpg.PostgresWarning, ValueError, OverflowError)
# Errors that may be about the data, by the class of their SQLSTATE (PostgreSQL's appendix A):
# cardinality, data exception, integrity constraint, check option of a view, program limit
# (a row too large for an index, say), and what a trigger raises itself. Every other error is
# the server's, and is waited for. Neither proves anything alone: a lost partition is a
# violated constraint, too.
_DATA_CLASSES: Final = frozenset({"21", "22", "23", "44", "54", "P0"})
_TOO_MUCH: Final = frozenset({"57014", "53200"})  # cancelled (statement_timeout), out of memory
_STEADY: Final = 64  # commits at one size before a size that failed is tried again


class NotKeptError(ValueError):
    """The database took what it does not hold."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"the database does not keep {what}: look for a trigger, a rule or a row security"
            " policy that leaves rows out"
        )


def is_refusal(error: Exception) -> bool:
    """Whether an error may be about the data, and not about the connection or the server.

    What cannot be sent at all (asyncpg says so with a ``ValueError``) is about the data.
    """
    if not isinstance(error, asyncpg.PostgresError | asyncpg.PostgresWarning):
        return isinstance(error, ValueError | OverflowError)
    return (error.sqlstate or "")[:2] in _DATA_CLASSES


def is_too_much(error: Exception) -> bool:
    """Whether a smaller batch may succeed on the same connection."""
    return isinstance(error, asyncpg.PostgresError) and error.sqlstate in _TOO_MUCH


class Pace:
    """How many entries one transaction takes.

    Half of what failed, so that no limit of a server (statement_timeout, a slow disk) fails
    the same batch for ever; twice as many after each commit, and after :data:`_STEADY` of them
    once it failed.

    Args:
        limit: most entries ever.

    Attributes:
        most: entries that the next transaction takes at most.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.most = limit
        self._failed = limit + 1
        self._good = 0

    def take(self, entries: int) -> int:
        """How many of so many entries the next transaction takes.

        While none fails, somewhat more than the limit go at once: reading may bring more, and
        a rest of its own would cost a transaction, and holes in the numbers until it is there.
        """
        if self.most == self._limit and entries <= 2 * self._limit:
            return entries
        return self.most

    def failed(self, entries: int) -> None:
        """A transaction of this many entries failed."""
        self._failed = entries
        self.most = max(1, entries // 2)
        self._good = 0

    def committed(self, entries: int) -> None:
        """A transaction of this many entries was committed."""
        if entries < self.most or self.most == self._limit:
            return
        self._good += 1
        more = min(2 * self.most, self._limit)
        if more < self._failed or self._good >= _STEADY:
            self.most, self._good = more, 0
            if more >= self._failed:
                self._failed = self._limit + 1
