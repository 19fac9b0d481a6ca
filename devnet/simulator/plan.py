"""From the command's options to a scenario: history over a span, or live traffic."""

from dataclasses import replace
from math import inf
from typing import Final

from devnet.simulator.calendar import week_start
from devnet.simulator.fleet import build_fleet, shares_per_second
from devnet.simulator.scenario import SECOND, Scenario
from ingest.events import MAX_AHEAD

SHARES_PER_MINUTE: Final = 18.0
MINERS: Final = 1000


def plan_history(
    *,
    now: int,
    span: float,
    start: int | None,
    seed: int,
    miners: int | None,
    shares: int | None,
    shares_per_minute: float | None,
    hashrate_every: float | None,
    block_every: float | None,
    rejects: float,
    diurnal: float,
    tidy: bool,
) -> Scenario:
    """History of ``span`` seconds; without a ``start`` it ends where the current ISO week begins.

    ``shares`` sets the pace at which that many shares are expected. Times are in microseconds.

    Raises:
        ValueError: for numbers that make no sense, or a history that ends in the future, which
            the receiver would refuse.
    """
    if start is None:
        start = week_start(now) - int(span * SECOND)
    if start + span * SECOND > now + MAX_AHEAD:
        raise ValueError("the history would end in the future: start earlier or make it shorter")
    if shares is not None and shares_per_minute is not None:
        raise ValueError("--shares and --shares-per-minute say the same: give one")
    miners = miners or MINERS
    scenario = Scenario(
        miners=miners,
        start=start,
        span=span,
        seed=seed,
        shares_per_minute=shares_per_minute or SHARES_PER_MINUTE,
        hashrate_every=21_600.0 if hashrate_every is None else hashrate_every,
        block_every=block_every or span / 20,
        rejects=rejects,
        diurnal=diurnal,
    )
    scenario = _tidy(scenario) if tidy else _untidy(scenario, max(60.0, span / 10))
    if shares is None:
        return scenario
    wanted = shares / (span * scenario.availability)  # a second, all machines connected
    hashrate = build_fleet(scenario).hashrate
    pace = 60 * wanted / miners
    for _ in range(8):  # the slowest machines cannot keep the pace
        pace *= wanted / shares_per_second(hashrate, pace)
    return replace(scenario, shares_per_minute=pace)


def plan_live(
    *,
    duration: float | None,
    settled: bool | None,
    seed: int,
    miners: int | None,
    rate: float | None,
    shares_per_minute: float | None,
    hashrate_every: float | None,
    block_every: float | None,
    rejects: float,
    diurnal: float,
    tidy: bool,
) -> Scenario:
    """Live traffic, with a start yet to be set.

    Of ``miners``, ``rate`` (events per second) and ``shares_per_minute``, two decide the third:
    a rate alone sizes the fleet, a rate and a number of miners set the shares per minute.

    With a rate, the fleet is ``settled`` by default: a benchmark wants shares, not arrivals.

    Raises:
        ValueError: for numbers that make no sense together.
    """
    every = 60.0 if hashrate_every is None else hashrate_every
    # A worker's own reading, and a part of the user's total.
    readings = 1.5 / every if every else 0.0
    if rate is not None:
        if miners is None:
            per_miner = (shares_per_minute or SHARES_PER_MINUTE) / 60 + readings
            miners = max(1, round(rate / per_miner))
        elif shares_per_minute is not None:
            raise ValueError("--rate, --miners and --shares-per-minute: give two of the three")
        else:
            shares_per_minute = 60 * (rate / miners - readings)
            if shares_per_minute <= 0:
                raise ValueError(
                    f"{rate:g} events a second are too few for the hashrate updates of {miners} "
                    "miners: raise --rate or --hashrate-every, or lower --miners"
                )
    scenario = Scenario(
        miners=miners or MINERS,
        start=0,
        span=inf if duration is None else duration,
        seed=seed,
        shares_per_minute=shares_per_minute or SHARES_PER_MINUTE,
        rate=rate,
        hashrate_every=every,
        block_every=block_every or 600.0,
        rejects=rejects,
        diurnal=diurnal,
        settled=rate is not None if settled is None else settled,
    )
    if tidy:
        return _tidy(scenario)
    # Not in history, which may begin with the oldest day that the database keeps.
    far = (*scenario.steps, -14 * 86_400.0)
    return replace(_untidy(scenario, 1200.0), steps=far)


def _tidy(scenario: Scenario) -> Scenario:
    return replace(scenario, nap_every=inf)


def _untidy(scenario: Scenario, every: float) -> Scenario:
    """With a restart, a step of the clock and two machines that leave in ``every`` seconds."""
    return replace(scenario, restart_every=every, step_every=every, leave_every=every / 2)
