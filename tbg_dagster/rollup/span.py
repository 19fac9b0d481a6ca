"""Stretches of time."""

from collections.abc import Iterable
from datetime import datetime

Span = tuple[datetime, datetime]
"""Start, and end, which is not included."""


def joined(spans: Iterable[Span]) -> list[Span]:
    """Neighbours as one span.

    Args:
        spans: in order, apart from each other.
    """
    found: list[Span] = []
    for start, end in spans:
        if found and found[-1][1] == start:
            found[-1] = found[-1][0], end
        else:
            found.append((start, end))
    return found


def bounds(spans: list[Span]) -> Span | None:
    """The first start and the last end; None without spans."""
    return (spans[0][0], spans[-1][1]) if spans else None
