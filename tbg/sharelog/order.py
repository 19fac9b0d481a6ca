"""Brings the shares of many logs into one order, by time.

A best is judged by what came before it, in whichever log. Logs overlap little, so a log is
opened only when its time has come.
"""

import heapq
from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import TypeVar

from tbg.sharelog.log import NumberedShare

Source = TypeVar("Source")


def in_order(
    sources: list[tuple[int, Source]], shares: Callable[[Source], Iterator[NumberedShare]]
) -> Iterator[NumberedShare]:
    """Yields the shares of all sources by time; shares of one source keep their order.

    Args:
        sources: each with the time of its first share, microseconds; in the order of these.
        shares: opens a source, once its time has come.
    """

    def timed(first: int, source: Source) -> Iterator[tuple[int, NumberedShare | None]]:
        # Before the source is opened: the merge takes the first item of each at once.
        yield first, None
        for numbered in shares(source):
            yield numbered.share.micros, numbered

    # A log's lines may be slightly out of order: none waits for an older one.
    merged = heapq.merge(*(timed(*source) for source in sources), key=itemgetter(0))
    return (numbered for _, numbered in merged if numbered is not None)
