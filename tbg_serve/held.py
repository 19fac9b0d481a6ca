"""A costly fact about the whole pool, which several routes need, computed by one task."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final, Generic, TypeVar

from tbg_serve.unavailable import Unavailable

COST_FACTOR: Final = 10.0
STALE: Final = 600.0  # seconds that it may be given out while it is computed again

Value = TypeVar("Value")


class Held(Generic[Value]):
    """Computes a value when asked, keeps it, and computes it again behind the back of who asks.

    Args:
        compute: the value.
        seconds: that it is kept at least; ten times what it took to compute if that is more.
        patience: seconds that a person waits for the first value.
    """

    def __init__(
        self, compute: Callable[[], Awaitable[Value]], seconds: float, patience: float
    ) -> None:
        self._compute = compute
        self._seconds = seconds
        self._patience = patience
        self._value: tuple[Value, float] | None = None  # and until when it is fresh
        self._flight: asyncio.Task[Value] | None = None

    async def get(self) -> Value:
        """The value.

        Raises:
            Unavailable: it takes long, or cannot be computed.
        """
        now = monotonic()
        if self._value is not None and now < self._value[1] + STALE:
            if now >= self._value[1]:
                self._fly()
            return self._value[0]
        try:
            return await asyncio.wait_for(asyncio.shield(self._fly()), self._patience)
        except TimeoutError:
            raise Unavailable("the pool is being counted: ask again in a moment") from None

    def _fly(self) -> asyncio.Task[Value]:
        if self._flight is None or self._flight.done():
            self._flight = asyncio.create_task(self._run())
            # Nobody may be waiting for it: a failure was logged where it happened.
            self._flight.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._flight

    async def _run(self) -> Value:
        begun = monotonic()
        try:
            value = await self._compute()
        except BaseException:
            self._value = None
            raise
        now = monotonic()
        self._value = value, now + max(self._seconds, (now - begun) * COST_FACTOR)
        return value
