"""The engine's clock, which now and then is wrong for a while."""

from math import inf
from random import Random

from devnet.simulator.scenario import Scenario
from tbg_core.periods import SECOND


class Clock:
    """Steps of the engine's clock, away from the right time and back to it."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._random = Random(f"{scenario.seed}/{scenario.start}/clock")  # noqa: S311 - repeatable
        self._wrong = False
        self._next = about(self._random, scenario.step_every)

    def steps(self, end: float) -> list[tuple[float, int]]:
        """When it steps before ``end``, in seconds, and by how many microseconds it is then wrong.

        Each step is returned once.
        """
        found = []
        while self._next < end:
            self._wrong = not self._wrong
            wait = self._scenario.step_every / (10 if self._wrong else 1)
            error = self._random.choice(self._scenario.steps) if self._wrong else 0.0
            found.append((self._next, int(error * SECOND)))
            self._next += about(self._random, wait)
        return found


def about(random: Random, seconds: float) -> float:
    """From half to one and a half times ``seconds``, which may be infinite."""
    return seconds if seconds == inf else seconds * random.uniform(0.5, 1.5)
