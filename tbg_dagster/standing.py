"""Faults that a check has found and not seen right since.

A check that looks at a sample or at the last while finds nothing wrong the next time, because
it looks elsewhere. So what it finds wrong is kept (table ``check_faults``); it looks there
again, and fails until what is there is right. What cannot be looked at any more, because its
data is gone, is no recovery: the result says so, and the alert ends without one.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Final

import dagster as dg

from tbg_dagster.resources.database import Connection

# Of a check's result: what could not be looked at any more, and whether anything was.
GONE: Final = "gone"
LOOKED: Final = "looked"
# Places that are looked at again in one look; the others stay wrong until it is their turn.
MOST_AGAIN: Final = 24
_HOUR: Final = timedelta(hours=1)


def found_before(connection: Connection, check: str) -> list[str]:
    """The places that a check has found wrong and not seen right since, oldest first."""
    rows = connection.execute(
        "select place from check_faults where check_name = %s order by found_at, place", [check]
    ).fetchall()
    return [row["place"] for row in rows]


def keep(
    connection: Connection,
    check: str,
    before: Iterable[str],
    wrong: Collection[str],
    gone: Collection[str] = (),
) -> dict[str, Any]:
    """Keeps what is wrong now, and returns the metadata of the result.

    Args:
        before: what was known, of :func:`found_before`. What of it is not wrong is forgotten;
            what another run of the check has found meanwhile is not.
        gone: what of it could not be looked at.
    """
    with connection.transaction():
        connection.execute(
            "delete from check_faults "
            "where check_name = %s and place = any(%s) and place <> all(%s)",
            [check, list(before), list(wrong)],
        )
        connection.execute(
            "insert into check_faults (check_name, place) select %s, unnest(%s::text[]) "
            "on conflict do nothing",
            [check, sorted(wrong)],
        )
    return {GONE: sorted(gone)} if gone else {}


def not_looked(description: str) -> dg.AssetCheckResult:
    """The result of a check that had nothing to look at: no fault, and no recovery either."""
    return dg.AssetCheckResult(passed=True, description=description, metadata={LOOKED: False})


@dataclass
class Windows:
    """What a look at the last while and at earlier windows found.

    Attributes:
        rows: the results that are wrong, the last while's first.
        wrong: the windows to look at again.
        gone: windows whose raw shares are gone.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.wrong)


def look(
    before: Sequence[str],
    start: datetime,
    end: datetime,
    kept: Collection[date],
    ask: Callable[[datetime, datetime], dict[str, Any] | None],
) -> Windows:
    """Asks about the last while, and again about what was wrong before.

    Args:
        before: windows that were wrong, of :func:`found_before`.
        kept: the days whose data is there.
        ask: returns a row if something in the window is wrong.
    """
    found = Windows()
    if (row := ask(start, end)) is not None:
        found.rows.append(row)
        hours = _hours(start, end)
        wrong = [name(*hour) for hour in hours if ask(*hour) is not None]
        # Two rows that are wrong together may lie in two hours.
        found.wrong += wrong or [name(hours[0][0], hours[-1][1])]
    for number, one in enumerate(one for one in before if one not in found.wrong):
        first, last = _window(one)
        if first.date() not in kept:
            found.gone.append(one)
        elif first >= start and not found.rows:
            continue  # it lies in the last while, which is right
        elif number >= MOST_AGAIN:
            found.wrong.append(one)
        elif (row := ask(first, last)) is not None:
            found.wrong.append(one)
            if last <= start:
                found.rows.append(row)
    return found


def _hours(start: datetime, end: datetime) -> Sequence[tuple[datetime, datetime]]:
    hour, hours = start.replace(minute=0, second=0, microsecond=0), []
    while hour < end:
        hours.append((hour, hour + _HOUR))
        hour += _HOUR
    return hours


def name(start: datetime, end: datetime) -> str:
    """A window as a result has it."""
    return f"{start.isoformat()}/{end.isoformat()}"


def _window(named: str) -> tuple[datetime, datetime]:
    start, _, end = named.partition("/")
    return datetime.fromisoformat(start), datetime.fromisoformat(end)
