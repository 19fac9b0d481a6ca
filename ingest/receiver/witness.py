"""Vouches for engines whose process is gone, from the pages that they left beside the socket."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from ingest.counts import Tally
from tbg_core.boots import left_behind

LOOK_SECONDS: Final = 2.0

log: structlog.stdlib.BoundLogger = structlog.get_logger("ingest.receiver.witness")


class Witness:
    """Reports the pages, and removes them once the reports are handed on.

    Args:
        socket: the event socket.
        tally: takes what the pages say.
    """

    def __init__(self, socket: Path, tally: Tally) -> None:
        self._socket = socket
        self._tally = tally
        self._said: list[Path] = []
        self._stuck: set[Path] = set()  # pages that were reported and cannot be removed

    async def watch(self, wake: Callable[[], object]) -> None:
        """Looks again and again; ``wake`` is called when there is something to report."""
        while True:
            if self._tally.settled:
                for path in self._said:
                    self._remove(path)
                self._said = []
            if not self._said:
                for path, status in await asyncio.to_thread(lambda: [*left_behind(self._socket)]):
                    if path in self._stuck:
                        continue
                    self._tally.status(status)
                    self._said.append(path)
                    log.info(
                        "an engine is gone",
                        instance=status.instance,
                        last_seq=status.last_seq,
                        unsent=status.unsent,
                        state=status.state,
                    )
                if self._said:
                    wake()
            await asyncio.sleep(LOOK_SECONDS)

    def _remove(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            self._stuck.add(path)
            log.warning(
                "the page of an engine that is gone stays: remove it",
                file=str(path),
                error=error.strerror,
            )
