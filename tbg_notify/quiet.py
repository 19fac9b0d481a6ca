"""Quiet hours: from one wall-clock time to another, in a named time zone."""

import re
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Final, Self
from zoneinfo import ZoneInfo

_SPAN: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")
_MINUTE: Final = timedelta(minutes=1)


@dataclass(frozen=True)
class Quiet:
    """Quiet from ``start`` on, until just before ``end``; over midnight if it is earlier."""

    start: time
    end: time

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads ``22:00-07:00``.

        Raises:
            ValueError: saying how it must look.
        """
        found = _SPAN.fullmatch(text.replace(" ", ""))
        if found is None:
            raise ValueError(f"{text!r} must look like 22:00-07:00")
        hour, minute, until_hour, until_minute = (int(part) for part in found.groups())
        start, end = time(hour, minute), time(until_hour, until_minute)
        if start == end:
            raise ValueError(f"{text!r} begins when it ends: leave quiet out, or name a span")
        return cls(start, end)

    def holds(self, moment: datetime, zone: ZoneInfo) -> bool:
        """Whether the clocks of the zone show a quiet time at this moment."""
        wall = moment.astimezone(zone).time()
        if self.start < self.end:
            return self.start <= wall < self.end
        return wall >= self.start or wall < self.end

    def until(self, moment: datetime, zone: ZoneInfo) -> datetime:
        """The first moment from ``moment`` on that is not quiet.

        Minutes are tried one after the other: right on nights on which the clocks jump,
        when an hour comes twice or the end is a time that does not exist.
        """
        if not self.holds(moment, zone):
            return moment
        tried = moment.replace(second=0, microsecond=0)
        while self.holds(tried, zone):
            tried += _MINUTE
        return tried
