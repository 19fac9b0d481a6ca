"""Whether the machine's clock can be right, before anything is decided by it.

A small computer without a battery starts in 1970, or where it was switched off, until it has asked
a time server. Partitions, weeks and retention would all follow from that.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from tbg.servers import connect
from tbg_core.first_week import EARLIEST_WEEK
from tbg_core.periods import midnight

TOLERANCE: Final = timedelta(minutes=5)
LOOK_SECONDS: Final = 1.0
SAY_SECONDS: Final = 30.0


def wrong_clock(database_url: str, now: datetime) -> str | None:
    """Why ``now`` cannot be right, or None.

    Raises:
        click.ClickException: the database does not answer.
    """
    if now < midnight(EARLIEST_WEEK):
        return f"the clock says {now:%F %H:%M} UTC, which is before this software was made"
    with connect(database_url) as connection:
        row = connection.execute("select max(updated_at) from stream_offsets").fetchone()
    known = row[0] if row else None
    if known is not None and now < known - TOLERANCE:
        return (
            f"the clock says {now:%F %H:%M} UTC, and the database was written to at "
            f"{known.astimezone(UTC):%F %H:%M} UTC"
        )
    return None


def wait_for_clock(
    database_url: str, say: Callable[[str], None], interrupted: Callable[[], bool]
) -> None:
    """Returns once the clock can be right, or when the end is asked for."""
    said_at = None
    while why := wrong_clock(database_url, datetime.now(UTC)):
        now = time.monotonic()
        if said_at is None or now - said_at >= SAY_SECONDS:
            said_at = now
            say(
                f"waiting for the clock: {why}. Set it (a time server does), or start with "
                "--trust-clock if it is right"
            )
        if interrupted():
            return
        time.sleep(LOOK_SECONDS)
