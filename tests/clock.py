"""A clock that stands still, for everything that runs in a test's own process.

So no test depends on the hour, the day or the week that turns while it runs. The servers'
own ``now()`` goes on: where it matters, a test asks it within one transaction.
"""

from datetime import UTC, datetime, timedelta


class Clock:
    """Shows the moment of the test's beginning until it is moved."""

    def __init__(self) -> None:
        self.moment = datetime.now(UTC)

    def now(self) -> datetime:
        return self.moment

    def move(self, by: timedelta) -> None:
        """Lets time pass, or go back."""
        self.moment += by
