"""Limits how fast one connection is read."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class RateLimit:
    """A token bucket of two seconds' worth of lines: a pause instead of a refusal.

    A miner that sends too much is read more slowly, and TCP makes it wait. A Bitaxe whose first
    difficulty was far too low loses nothing, and a flood costs the pool a bounded effort.
    """

    rate: float  # lines per second
    now: float
    _tokens: float = field(init=False)

    def __post_init__(self) -> None:
        self._tokens = self._burst

    def pause(self, now: float) -> float:
        """Counts one line at monotonic second ``now``; returns how many seconds to wait."""
        self._tokens = min(self._burst, self._tokens + (now - self.now) * self.rate) - 1
        self.now = now
        return max(0.0, -self._tokens / self.rate)

    @property
    def _burst(self) -> float:
        return 2 * self.rate
