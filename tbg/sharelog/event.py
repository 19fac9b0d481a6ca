"""Numbers and datagrams of imported shares: pure.

The ledger takes a hole in an instance's numbers for a loss, and a second copy of a number
for the same event. So the numbers of an import have no holes, and follow from the log alone:

- A **log** is known by its first share line, regardless of the file's place and name.
- The shares of one log and hour (UTC, by their own time) are one instance,
  ``sharelog/<log>/<hour>``, numbered from 1 in the order of the lines. An import of the
  hours from T on leaves no hole.
- Which shares break a best depends on the other logs of an import, so bests stay out of the
  shares' numbers: those of one share are an instance of their own,
  ``sharelog/<log>/<hour>/<number of the share>``: 1 is the week's best, 2 the all-time one,
  and there is none of all time without one of the week.
- A share on a line that is not one share is an instance of its own, named after its bytes,
  ``sharelog/<share>/<hour>/torn``: it takes no number from the shares of lines.

Changing any of this, or which lines are shares, makes logs that were imported before come in
again: change the word ``sharelog`` as well.
"""

import hashlib
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

import msgspec

from tbg.sharelog.bests import Broken
from tbg.sharelog.line import Share

SOURCE: Final = "hosted"

_encode: Final = msgspec.json.Encoder().encode


def log_name(first_line: bytes) -> str:
    """The name of the log whose first share line this is; line ends do not count."""
    return hashlib.sha256(first_line.rstrip(b"\r\n")).hexdigest()[:24]


@lru_cache(maxsize=4096)
def instance_of(log: str, hour: int) -> str:
    """The instance of a log's hour, which begins at ``hour`` microseconds."""
    return f"sharelog/{log}/{datetime.fromtimestamp(hour // 1_000_000, UTC):%Y-%m-%dT%H}"


def share_event(share: Share, instance: str, seq: int) -> bytes:
    """The datagram of a share."""
    return _datagram("share_submitted", share.micros, instance, seq, share.data)


def best_events(share: Share, instance: str, seq: int, broken: list[Broken]) -> list[bytes]:
    """The datagrams of the bests that the share with these numbers broke."""
    data = share.data
    return [
        _datagram(
            "share_best_diff",
            share.micros,
            f"{instance}/{seq}",
            number,
            {
                "user": data["user"],
                "worker": data["worker"],
                "new_best_diff": data["share_diff"],
                "previous_best_diff": one.previous,
                "period": one.period,
                "week": one.week,
                "hash": data["hash"],
            },
        )
        for number, one in enumerate(broken, 1)
    ]


def _datagram(event: str, micros: int, instance: str, seq: int, data: dict[str, Any]) -> bytes:
    return _encode(
        {
            "event": event,
            "timestamp": micros,
            "source": SOURCE,
            "instance": instance,
            "seq": seq,
            "data": data,
        }
    )
