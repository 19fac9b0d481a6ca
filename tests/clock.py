"""The one clock of the tests.

What runs in processes of its own has the machine's clock: give such events a moment
taken once, and ask about that moment only, so that an hour or a week may end meanwhile.
What runs in the test's own process gets a :class:`Clock`.
"""

import time
from datetime import UTC, datetime, timedelta, tzinfo
from types import ModuleType
from typing import Any, Self

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
    """Stands for the module ``time`` and the class ``datetime`` in modules under test.

    Attributes:
        micros: what it shows; a test sets it.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *modules: ModuleType) -> None:
        self.micros = moment()
        self._begin = self.micros
        clock = self

        class Moment(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> Self:
                shown = moment_of(clock.micros).astimezone(tz)
                return cls.combine(shown.date(), shown.timetz())

        for module in modules:
            if isinstance(getattr(module, "time", None), ModuleType):
                monkeypatch.setattr(module, "time", self)
            if getattr(module, "datetime", None) is datetime:
                monkeypatch.setattr(module, "datetime", Moment)

    def goes_on(self, **more: float) -> None:
        """Moves it on, by what a timedelta takes."""
        self.micros += timedelta(**more) // timedelta(microseconds=1)

    def time_ns(self) -> int:
        """As time.time_ns."""
        return self.micros * 1000

    def time(self) -> float:
        """As time.time."""
        return self.micros / 1e6

    def monotonic(self) -> float:
        """As time.monotonic."""
        return (self.micros - self._begin) / 1e6

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)
