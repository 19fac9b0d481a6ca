"""The numbers on which the events of a run depend."""

from dataclasses import dataclass
from math import inf


@dataclass(frozen=True, slots=True)
class Scenario:
    """One run. Two equal scenarios give byte-identical events (with one version of numpy).

    Attributes:
        seed: decides who the miners are, and with ``start`` what happens to them.
        miners: machines, each with its own connection.
        start: microseconds since the epoch.
        span: seconds from the first event to the last; ``inf`` never ends.
        shares_per_minute: what vardiff aims at for every machine.
        rate: events per second. Time is then counted in events: event n happens at
            ``start + n / rate``, but events of the same share happen together. Without a rate,
            every event happens at its own, Poisson-distributed time.
        hashrate_every: seconds between the hashrate updates of a worker; 0 sends none.
        block_every: mean seconds between blocks that the fleet finds. It sets the network
            difficulty.
        network_every: mean seconds between blocks that others find.
        rejects: fraction of the shares that are rejected.
        diurnal: fraction by which hashrates swing over a day, highest at 03:00 UTC.
        session: mean seconds that a connection lasts.
        offline: mean seconds until a machine is back.
        nap_every: mean seconds until a connected machine falls silent without a word.
        nap: mean seconds until it sends shares again.
        leave_every: seconds, more or less, until another machine leaves and never comes back;
            at most one machine in ten does.
        restart_every: seconds, more or less, between restarts of the engine. A restarted engine
            is a new instance. One restart in two is a crash: no connection is closed in order.
        step_every: seconds, more or less, between steps of the engine's clock, which is set
            right again after a tenth of that.
        steps: seconds by which its clock may step.
        settled: all machines are connected at the start, with bests and counts of some time.
            Otherwise the run begins with all of them connecting, and with many bests.
        vardiff: mean seconds between changes of difficulty after the first.
    """

    miners: int
    start: int
    span: float
    seed: int = 1
    shares_per_minute: float = 18.0
    rate: float | None = None
    hashrate_every: float = 60.0
    block_every: float = 3600.0
    network_every: float = 600.0
    rejects: float = 0.01
    diurnal: float = 0.15
    session: float = 86_400.0
    offline: float = 120.0
    vardiff: float = 43_200.0
    nap_every: float = 43_200.0
    nap: float = 900.0
    leave_every: float = inf
    restart_every: float = inf
    step_every: float = inf
    steps: tuple[float, ...] = (1800.0, -1800.0, -7200.0)
    settled: bool = False

    def __post_init__(self) -> None:
        """Checks the numbers.

        Raises:
            ValueError: names the first that is out of range.
        """
        for name, low, high in (
            ("miners", 1, 10_000_000),
            ("start", 0, 2**62),
            ("span", 0, inf),
            ("seed", 0, 2**63 - 1),
            ("shares_per_minute", 1e-9, 1e6),
            ("hashrate_every", 0, inf),
            ("block_every", 1e-3, 1e12),
            ("network_every", 1e-3, 1e12),
            ("rejects", 0, 1),
            ("diurnal", 0, 1),
            ("session", 1, 1e12),
            ("offline", 1e-3, 1e12),
            ("vardiff", 1, 1e12),
            ("nap_every", 1, inf),
            ("nap", 1e-3, 1e12),
            ("leave_every", 1, inf),
            ("restart_every", 1, inf),
            ("step_every", 1, inf),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} must lie between {low} and {high}, got {value}")
        if self.rate is not None and not 0 < self.rate <= 1e7:
            raise ValueError(f"rate must lie between 0 and 10000000, got {self.rate}")

    def instance(self, boot: int) -> str:
        """The engine instance that starts at ``boot``, in microseconds since the epoch."""
        return f"simulator-{self.seed}/{boot}"

    @property
    def ramp(self) -> float:
        """Seconds over which the fleet connects at the start: up to 200 machines a second."""
        return min(60.0, self.miners / 200, self.span / 10)

    @property
    def availability(self) -> float:
        """The fraction of time that a machine sends shares until it leaves for good."""
        awake = 1.0 if self.nap_every == inf else self.nap_every / (self.nap_every + self.nap)
        return awake * self.session / (self.session + self.offline)
