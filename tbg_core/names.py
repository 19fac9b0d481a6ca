"""Names that realtime and batch share: streams, channels and keys in Redis."""

from datetime import UTC, date, datetime, timedelta
from typing import Final

from tbg_core.events import EVENTS


def stream_of(event: str) -> str:
    """The stream that holds one kind of event."""
    return f"mining:{event}"


EVENT_STREAMS: Final = tuple(stream_of(event) for event in EVENTS)
DEAD_LETTER_STREAM: Final = "mining:dead_letter"
LEDGER_STREAM: Final = "mining:ledger"  # what the receiver read and dropped
STREAMS: Final = (*EVENT_STREAMS, DEAD_LETTER_STREAM, LEDGER_STREAM)

# Names a Redis: what is committed of its streams is known under this name.
IDENTITY_KEY: Final = "mining:identity"

# Written by the batch side.
WEEKLY_RESET_STREAM: Final = "mining:weekly_reset"
BLOCK_STATUS_STREAM: Final = "mining:block_status"
ALERTS_STREAM: Final = "mining:alerts"
ROOTS_STREAM: Final = "mining:roots"  # of receipts: tbg_core/receipts/log.py has the data

BLOCKS_CHANNEL: Final = "blocks:found"


def in_cell(name: str, cell: str = "") -> str:
    """A key of the realtime path as a cell has it; as it is where the cell has no name.

    The hash tag keeps all keys of a cell on one node of a cluster, so that one transaction
    writes them and one command reads all streams. What the whole pool shares has none.
    """
    return name.replace("mining:", f"mining:{{{cell}}}:", 1) if cell else name


def week_start(moment: datetime) -> date:
    """The Monday, UTC, of the ISO week that holds ``moment`` (aware)."""
    day = moment.astimezone(UTC).date()
    return day - timedelta(days=day.weekday())


def leaderboard_key(week: date) -> str:
    """The sorted set (user → best difficulty) of the week that starts on ``week``."""
    return f"leaderboard:best_diff:{week.isoformat()}"
