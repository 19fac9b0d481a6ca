"""Counts of a quantity in steps of equal width: percentiles in constant memory."""


class Histogram:
    """For integers of at least 0; the last step also counts values beyond ``step * size``."""

    def __init__(self, *, step: int, size: int) -> None:
        self._step = step
        self._counts = [0] * size
        self.count = 0
        self.maximum = 0

    def add(self, value: int) -> None:
        """Counts one value."""
        place = value // self._step
        if place >= len(self._counts):
            place = -1
        self._counts[place] += 1
        self.count += 1
        if value > self.maximum:
            self.maximum = value

    def percentile(self, percent: float) -> int:
        """The upper end of the step that holds this percentile; 0 before the first value."""
        wanted = self.count * percent / 100
        seen = 0
        for place, count in enumerate(self._counts):
            seen += count
            if count and seen >= wanted:
                return min((place + 1) * self._step - 1, self.maximum)
        return 0

    def summary(self) -> dict[str, int]:
        """Median, 99th percentile and maximum."""
        return {"p50": self.percentile(50), "p99": self.percentile(99), "max": self.maximum}
