"""The roots that the result of a week rests on."""

from datetime import datetime
from typing import Any

from tbg_core.receipts import stored
from tbg_dagster.resources.database import Connection


def rests_on(connection: Connection, start: datetime, end: datetime) -> dict[str, Any]:
    """What the result of [``start``, ``end``) says of its roots; nothing where there are none.

    ``roots``: how many hours have one, the places of the first and the last entry of the log, and
    the hash of the last, which names all entries up to it.
    """
    entries = stored.newest(connection, start, end)
    if not entries:
        return {}
    places = sorted(entries.values())
    return {
        "roots": {
            "hours": len(entries),
            "first": places[0].place,
            "last": places[-1].place,
            "hash": places[-1].hash.hex(),
        }
    }
