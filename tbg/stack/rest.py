"""The batch side of a light stack: at work around the full hour, and no memory in between.

Hours are computed two minutes past, their ledger four minutes past, and on Mondays the week five
minutes past. What fell due while Dagster rested, it catches up then: its own schedules, and
``missing_partitions_sensor`` five minutes after its start.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import click
import psycopg

from tbg.stack.running import RunningStack
from tbg.stack.state import Stack
from tbg.stack.supervisor import BROKEN, Process
from tbg_core.database import open_connection

FROM_MINUTE: Final = 1
TO_MINUTE: Final = 12
AT_LEAST: Final = 660.0  # seconds of work after a start
_PENDING: Final = """
select exists(
    select from runs
    where status in ('QUEUED', 'NOT_STARTED', 'STARTING', 'STARTED', 'CANCELING')
)
"""


def rests(stack: Stack | None, program: Process) -> bool:
    """Whether a program does not run because the batch side of a light stack rests."""
    return stack is not None and program.name in stack.resting and program.state == "STOPPED"


class Rest:
    """Lets the batch side of a stack rest, and wakes it.

    Args:
        stack: whose batch side it is.
        storage: of Dagster's own database, as libpq takes it.
        say: receives what happens.
    """

    def __init__(self, stack: RunningStack, storage: str, say: Callable[[str], None]) -> None:
        self._stack = stack
        self._storage = storage
        self._say = say
        self._since = time.monotonic()

    def look(self, now: datetime | None = None) -> None:
        """Wakes the batch side if it is time, or lets it rest if nothing is left to do."""
        now = now or datetime.now(UTC)
        due = FROM_MINUTE <= now.minute < TO_MINUTE
        names = self._stack.plan.resting
        resting = [name for name in names if self._stack.seen(name) is None]
        worked = time.monotonic() - self._since
        try:
            if due and resting:
                self._since = time.monotonic()
                for name in resting:
                    self._stack.begin(name)
            elif not due and not resting and worked >= AT_LEAST and not self._busy():
                for name in reversed(names):
                    self._stack.stop_program(name)
                self._say(f"the batch side rests until {FROM_MINUTE} minute past the hour")
        except (click.ClickException, *BROKEN) as error:
            # The pipeline goes on; the next look tries again.
            self._say(f"the batch side was not started or stopped: {error}")

    def _busy(self) -> bool:
        try:
            with open_connection(self._storage) as database:
                row = database.execute(_PENDING).fetchone()
        except psycopg.Error:
            return True  # what runs is not known while its database is away
        return row is None or bool(row[0])
