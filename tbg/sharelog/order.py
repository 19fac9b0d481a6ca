"""Brings the shares of many logs into one order, by time.

A best is judged by what came before it, in whichever log. Logs overlap little, so only those
are open that the present moment falls into.
"""

import heapq
from collections.abc import Callable, Iterator
from typing import TypeVar

from tbg.sharelog.log import Numbered

Source = TypeVar("Source")


def in_order(
    sources: list[tuple[int, Source]], shares: Callable[[Source], Iterator[Numbered]]
) -> Iterator[Numbered]:
    """Yields the shares of all sources by time; shares of one source keep their order.

    Args:
        sources: each with the time of its first share, microseconds; in the order of these.
        shares: opens a source, once its time has come.
    """
    waiting = iter(sources)
    coming = next(waiting, None)
    heap: list[tuple[int, int, Numbered, Iterator[Numbered]]] = []
    opened = 0
    while heap or coming is not None:
        while coming is not None and (not heap or coming[0] <= heap[0][0]):
            rest = shares(coming[1])
            first = next(rest, None)
            opened += 1
            if first is not None:
                heapq.heappush(heap, (first.share.micros, opened, first, rest))
            coming = next(waiting, None)
        if not heap:
            continue
        _, number, share, rest = heap[0]
        yield share
        following = next(rest, None)
        if following is None:
            heapq.heappop(heap)
        else:
            # A log's lines may be slightly out of order: none waits for an older one.
            heapq.heapreplace(heap, (following.share.micros, number, following, rest))
