"""The times of the events that were published last.

A number that is in the streams already may be that of another event: two engines run under one
name and boot, or one goes on from a snapshot of its machine. A copy has the time of the first;
where that is remembered, another time is no copy, and the writer decides.
"""

from array import array
from collections import deque
from typing import Final

MOST: Final = 65_536  # events, about a megabyte; an engine resends 2,048

Times = tuple[list[int], list[int]]  # numbers, and the microseconds of each; 0 if unknown


class Recent:
    """Numbers and times of the last events, over all engine boots."""

    def __init__(self) -> None:
        self._runs: deque[tuple[str, array[int], array[int]]] = deque()
        self._count = 0

    def add(self, instance: str, times: Times) -> None:
        """These came for the first time, and were published."""
        numbers, micros = times
        if not numbers:
            return
        self._runs.append((instance, array("q", numbers), array("q", micros)))
        self._count += len(numbers)
        while self._count > MOST:
            self._count -= len(self._runs.popleft()[1])

    def of(self, instance: str) -> dict[int, int]:
        """The time of each number of an engine boot, as far as it is remembered."""
        found: dict[int, int] = {}
        for name, numbers, micros in self._runs:
            if name == instance:
                found.update(zip(numbers, micros, strict=True))
        return found
