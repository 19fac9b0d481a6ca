"""The one clock of the tests.

What runs in processes of its own has the machine's clock: give such events a moment
taken once, and ask about that moment only, so that an hour or a week may end meanwhile.
What runs in the test's own process gets a :class:`Clock`. The servers' own ``now()`` goes
on: where it matters, a test asks it within one transaction.
"""

import time
from datetime import UTC, datetime, timedelta
from types import ModuleType

import pytest

HOUR = 3_600_000_000  # microseconds
DAY = 24 * HOUR
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment() -> int:
    """Microseconds since the epoch, now."""
    return time.time_ns() // 1000


def moment_of(micros: int) -> datetime:
    """The same as an aware datetime, to the microsecond."""
    return _EPOCH + timedelta(microseconds=micros)


class Clock:
    """Shows the moment of the test's beginning until it is moved."""

    def __init__(self) -> None:
        self.moment = datetime.now(UTC)

    def now(self) -> datetime:
        return self.moment

    def move(self, by: timedelta) -> None:
        """Lets time pass, or go back."""
        self.moment += by

    def stand_for_time(self, monkeypatch: pytest.MonkeyPatch, *modules: ModuleType) -> None:
        """Takes the place of the module ``time`` in modules under test."""
        for module in modules:
            monkeypatch.setattr(module, "time", self)

    def time_ns(self) -> int:
        """As time.time_ns."""
        return (self.moment - _EPOCH) // timedelta(microseconds=1) * 1000

    def monotonic(self) -> float:
        """As time.monotonic."""
        return (self.moment - _EPOCH).total_seconds()
