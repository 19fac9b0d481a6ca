"""From the command's options to a scenario: history over a span, or live traffic."""

from dataclasses import dataclass, replace
from math import inf
from typing import Final

from devnet.simulator.fleet import build_fleet, shares_per_second
from devnet.simulator.scenario import Scenario
from tbg_core.events import MAX_AHEAD
from tbg_core.periods import SECOND, week_begins

SHARES_PER_MINUTE: Final = 18.0
MINERS: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the options for both modes ask for; None leaves a number to the plan."""

    seed: int = 1
    miners: int | None = None
    shares_per_minute: float | None = None
    hashrate_every: float | None = None
    block_every: float | None = None
    rejects: float = 0.01
    diurnal: float = 0.15
    tidy: bool = False


def plan_history(
    wishes: Wishes,
    *,
    now: int,
    span: float,
    start: int | None,
    shares: int | None,
) -> Scenario:
    """History of ``span`` seconds; without a ``start`` it ends where the current ISO week begins.

    ``shares`` sets the pace at which that many shares are expected. Times are in microseconds.

    Raises:
        ValueError: for invalid numbers, or a history that ends in the future, which
            the receiver would refuse.
    """
    if shares is not None and wishes.shares_per_minute is not None:
        raise ValueError("--shares and --shares-per-minute say the same: give one")
    if start is None:
        start = week_begins(now) - int(span * SECOND)
    every = 21_600.0 if wishes.hashrate_every is None else wishes.hashrate_every
    scenario = _scenario(wishes, start, span, hashrate_every=every, block_every=span / 20)
    if not wishes.tidy:
        scenario = _untidy(scenario, max(60.0, span / 10))
    # Clocks that step stay within what the receiver allows for.
    ahead = 0.0 if wishes.tidy else max(scenario.steps)
    if start + (span + ahead) * SECOND > now + MAX_AHEAD:
        raise ValueError("the history would end in the future: start earlier or make it shorter")
    if shares is None:
        return scenario
    wanted = shares / (span * scenario.availability)  # a second, all machines connected
    hashrate = build_fleet(scenario).hashrate
    pace = 60 * wanted / scenario.miners
    for _ in range(8):  # the slowest machines cannot keep the pace
        pace *= wanted / shares_per_second(hashrate, pace)
    return replace(scenario, shares_per_minute=pace)


def plan_live(
    wishes: Wishes,
    *,
    duration: float | None,
    settled: bool | None,
    rate: float | None,
) -> Scenario:
    """Live traffic, with a start yet to be set.

    Of ``miners``, ``rate`` (events per second) and ``shares_per_minute``, two decide the third:
    a rate alone sizes the fleet, a rate and a number of miners set the shares per minute.

    With a rate, the fleet is ``settled`` by default: a benchmark wants shares, not arrivals.

    Raises:
        ValueError: for numbers that contradict each other.
    """
    every = 60.0 if wishes.hashrate_every is None else wishes.hashrate_every
    # A worker's own reading, and a part of the user's total.
    readings = 1.5 / every if every else 0.0
    if rate is not None and wishes.miners is None:
        per_miner = (wishes.shares_per_minute or SHARES_PER_MINUTE) / 60 + readings
        wishes = replace(wishes, miners=max(1, round(rate / per_miner)))
    elif rate is not None and wishes.miners is not None:
        if wishes.shares_per_minute is not None:
            raise ValueError("--rate, --miners and --shares-per-minute: give two of the three")
        shares = rate / wishes.miners - readings  # a second
        if shares <= 0:
            raise ValueError(
                f"{rate:g} events a second are too few for the hashrate updates of {wishes.miners} "
                "miners: raise --rate or --hashrate-every, or lower --miners"
            )
        wishes = replace(wishes, shares_per_minute=60 * shares)
    scenario = replace(
        _scenario(
            wishes,
            0,
            inf if duration is None else duration,
            hashrate_every=every,
            block_every=600.0,
        ),
        rate=rate,
        settled=rate is not None if settled is None else settled,
    )
    if wishes.tidy:
        return scenario
    # Not in history, which may begin with the oldest day that the database keeps.
    far = (*scenario.steps, -14 * 86_400.0)
    return replace(_untidy(scenario, 1200.0), steps=far)


def _scenario(
    wishes: Wishes, start: int, span: float, *, hashrate_every: float, block_every: float
) -> Scenario:
    """What both modes have in common."""
    scenario = Scenario(
        miners=wishes.miners or MINERS,
        start=start,
        span=span,
        seed=wishes.seed,
        shares_per_minute=wishes.shares_per_minute or SHARES_PER_MINUTE,
        hashrate_every=hashrate_every,
        block_every=wishes.block_every or block_every,
        rejects=wishes.rejects,
        diurnal=wishes.diurnal,
    )
    return replace(scenario, nap_every=inf) if wishes.tidy else scenario


def _untidy(scenario: Scenario, every: float) -> Scenario:
    """With a restart, a step of the clock and two machines that leave in ``every`` seconds."""
    return replace(scenario, restart_every=every, step_every=every, leave_every=every / 2)
