"""The script of a day of 300 workers, and what it sends: the truth that messages are judged by.

Nothing here asks the product. Events are those of an engine; what a person must hear of them
is said beside each.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Final

from tests.clock import _EPOCH
from tests.ingest.harness import golden

MINUTE: Final = timedelta(minutes=1)
STEP: Final = 5 * MINUTE
DIFFICULTY: Final = 1000.0
HASHES: Final = 2.0**32
# Gaps of a worker that is there are cut at 8 means: a longer one is 1 in 3,000, and the
# allowance is near 14, so no honest silence is told by chance.
LONGEST_GAP: Final = 8.0
NETWORK: Final = 5e7  # a small network's difficulty, so that a block is no record


@dataclass(frozen=True)
class Machine:
    """A worker of the fleet and its mean seconds between shares."""

    number: int
    name: str
    pace: float

    @property
    def user(self) -> str:
        return self.name.partition(".")[0]

    @property
    def worker(self) -> str:
        return self.name.partition(".")[2]


HALL: Final = [f"bc1qhall{n % 10}.rig{n}" for n in range(100)]
MIXED: Final = [f"bc1qmix{n % 35}.rig{n}" for n in range(140)]
SLOW: Final = [f"bc1qslow{n}.usb" for n in range(45)]  # three shares an hour
NAPPERS: Final = [f"bc1qnap{n}.wifi" for n in range(5)]  # mine 8 minutes, nap 6
HOME: Final = [f"bc1qhome{n}.heater" for n in range(9)]  # off at night, with a goodbye
GONE: Final = "bc1qgone.attic"  # from 14:00 on
PACES: Final = ((HALL, 150), (MIXED, 400), (SLOW, 1200), (NAPPERS, 15), (HOME, 90), ([GONE], 120))
FLEET: Final = [
    Machine(number, name, float(pace))
    for number, (name, pace) in enumerate((name, pace) for names, pace in PACES for name in names)
]
USERS: Final = list(dict.fromkeys(machine.user for machine in FLEET))
# The best of everybody before the day: what comes by chance on it is far below.
OWN_BEST: Final = 2e5
FOUNDATION: Final = {user: 1e6 * (1 + place) for place, user in enumerate(USERS)}

OUTAGE: Final = (600, 660)  # minutes of the day; the hall has no power
OFF: Final = 30  # the heaters' goodbye, until MORNING; the last one is back at EARLY
MORNING, EARLY = 370, 180
SPIKE: Final = (900, 960)  # a stuck engine: many rejects
LOST, FOUND_AGAIN = 780, 820  # one event never reaches us, until it does

# Minute, worker, achieved difficulty.
BESTS: Final = (
    (481, "bc1qhome2.heater", 1.2e8),  # of all time, and the lead
    (487, "bc1qhome2.heater", 1.3e8),  # too soon after: waits, and is beaten meanwhile
    (491, "bc1qhome2.heater", 1.4e8),  # of all time
    (541, "bc1qmix3.rig3", 2e9),  # of all time, and the lead
    (601, "bc1qmix0.rig35", 1e9),  # of the week, to rank 2; the worker's of all time
    (661, "bc1qhall0.rig0", 1.5e6),  # the rank stays: nothing
    (721, "bc1qmix5.rig40", 5e6),  # the worker's of all time; its user has done better
)
# Minute, worker, achieved difficulty; a block's share is a best too, and told as the block.
BLOCKS: Final = (
    (241, "bc1qhome8.heater", 6e7),
    (571, "bc1qhall1.rig1", 6e7),  # its user's best of all time
    (1021, "bc1qmix1.rig1", 7e7),  # its user's best of all time; orphaned at 18:30
)
# In the week before, which makes the user's week of the day no record.
BEFORE: Final = (("bc1qhall0.rig0", 5e9), ("bc1qmix0.rig0", 5e9))


@dataclass(frozen=True)
class Event:
    """A datagram of a moment (seconds of the day; negative before it)."""

    second: float
    bytes_: bytes
    late: bool = False


def mines(machine: Machine, minute: float) -> bool:
    """Whether a worker has power in a minute of the day."""
    if minute < 0:
        return True
    if machine.name in NAPPERS:
        return minute % 14 < 8
    if machine.name in HOME:
        return not OFF <= minute < (EARLY if machine.name == HOME[-1] else MORNING)
    if machine.name == GONE:
        return minute < 14 * 60
    return not (machine.name in HALL and OUTAGE[0] <= minute < OUTAGE[1])


class Day:
    """All events from four hours before a midnight to 45 minutes after the next.

    Attributes:
        accepted, rejected: shares of the day by user.
        naps: of the flapping workers.
    """

    def __init__(self, start: datetime) -> None:
        self.start = start
        self.instance = f"ckpool-day/{(start - _EPOCH) // timedelta(microseconds=1) - 10**12}"
        self.accepted: dict[str, int] = dict.fromkeys(USERS, 0)
        self.rejected: dict[str, int] = dict.fromkeys(USERS, 0)
        self._random = random.Random(15)
        self._seq = 0
        self._session = dict.fromkeys((machine.name for machine in FLEET), 0.0)
        self._week = dict.fromkeys(USERS, 0.0)
        self._ever = dict.fromkeys(USERS, 0.0)

    @cached_property
    def blocks(self) -> list[tuple[str, int]]:
        """Hash and height of each."""
        return [(f"{number + 1:02x}" * 32, 870_000 + number) for number in range(len(BLOCKS))]

    @property
    def steps(self) -> Iterator[int]:
        """Minutes at which the clock stops; before midnight, nobody looks."""
        yield -9 * 24 * 60 + 5
        yield from range(-4 * 60, 24 * 60 + 50, 5)

    def events(self) -> Iterator[Event]:
        """In the order of their times; a lost one comes late."""
        plan: list[tuple[float, int, Any]] = []
        machines = {machine.name: machine for machine in FLEET}
        first = {machine.user: machine for machine in reversed(FLEET)}
        for machine in FLEET:
            second = -4 * 3600.0 + machine.number * 0.1
            plan.append((second, 0, ("connect", machine)))
            best = FOUNDATION[machine.user] if first[machine.user] is machine else OWN_BEST
            plan.append((second + 1, 1, ("share", machine, best, None)))
            while second < 24.75 * 3600:
                second += machine.pace * min(self._random.expovariate(1), LONGEST_GAP)
                if mines(machine, second / 60):
                    achieved = DIFFICULTY / max(1 - self._random.random(), 0.02)
                    plan.append((second, 1, ("share", machine, achieved, None)))
            for hour in range(-4, 25):
                if mines(machine, hour * 60 + 1):
                    plan.append((hour * 3600 + 60.0, 2, ("rate", machine)))
            if machine.name in HOME:
                back = EARLY if machine.name == HOME[-1] else MORNING
                plan.append((OFF * 60.0, 0, ("goodbye", machine)))
                plan.append((back * 60.0, 0, ("connect", machine)))
        for name, best in BEFORE:
            for number in range(120):
                second = -9 * 86_400.0 + number
                achieved = best if number == 60 else DIFFICULTY
                plan.append((second, 1, ("share", machines[name], achieved, None)))
        plan += [(m * 60.0, 1, ("share", machines[name], best, None)) for m, name, best in BESTS]
        for (minute, name, best), (block_hash, height) in zip(BLOCKS, self.blocks, strict=True):
            plan.append((minute * 60.0, 1, ("share", machines[name], best, block_hash)))
            plan.append((minute * 60.0, 0, ("block", machines[name], best, block_hash, height)))
        plan.sort(key=lambda item: (item[0], item[1]))
        lost: Event | None = None
        for second, _, (what, machine, *more) in plan:
            for event in getattr(self, f"_{what}")(second, machine, *more):
                if lost is None and second >= LOST * 60 and what == "share":
                    lost = event
                    break  # its number is used, and it is on no wire
                yield event
            if lost is not None and not lost.late and second >= FOUND_AGAIN * 60:
                lost = Event(second, lost.bytes_, late=True)
                yield lost

    def _event(self, event: str, second: float, machine: Machine, **data: Any) -> Event:
        self._seq += 1
        moment = self.start + timedelta(seconds=second)
        value = golden(
            event,
            timestamp=(moment - _EPOCH) // timedelta(microseconds=1),
            source="hosted",
            instance=self.instance,
            user=machine.user,
            worker=machine.worker,
            **data,
        )
        value |= {"instance": self.instance, "seq": self._seq}
        return Event(second, json.dumps(value).encode())

    def _connect(self, second: float, machine: Machine) -> Iterator[Event]:
        self._session[machine.name] = 0.0
        yield self._event("miner_connected", second, machine, client_id=machine.number)

    def _goodbye(self, second: float, machine: Machine) -> Iterator[Event]:
        yield self._event("miner_disconnected", second, machine, client_id=machine.number)

    def _rate(self, second: float, machine: Machine) -> Iterator[Event]:
        rate = DIFFICULTY * HASHES / machine.pace
        spans = ("1m", "5m", "1h", "24h")
        yield self._event(
            "hashrate_update", second, machine, **{f"hashrate_{span}": rate for span in spans}
        )

    def _block(
        self, second: float, machine: Machine, best: float, block_hash: str, height: int
    ) -> Iterator[Event]:
        yield self._event(
            "block_found", second, machine, height=height, hash=block_hash, difficulty=best,
            network_difficulty=NETWORK,
        )  # fmt: skip

    def _share(
        self, second: float, machine: Machine, achieved: float, block_hash: str | None
    ) -> Iterator[Event]:
        minute = second / 60
        odds = 0.3 if SPIKE[0] <= minute < SPIKE[1] else 0.01
        valid = achieved > 1e5 or self._random.random() >= odds
        if 0 <= minute < 24 * 60:
            (self.accepted if valid else self.rejected)[machine.user] += 1
        share_hash = block_hash or f"{self._seq + 1:064x}"
        yield self._event(
            "share_submitted", second, machine, difficulty=DIFFICULTY, share_diff=achieved,
            valid=valid, reject_reason=None if valid else "Stale", hash=share_hash,
            client_id=machine.number, network_difficulty=NETWORK,
        )  # fmt: skip
        if not valid:
            return
        week = (self.start + timedelta(seconds=second)).isocalendar()
        text = f"{week.year}-W{week.week:02}"
        if second < -7 * 86_400:
            self._ever[machine.user] = max(self._ever[machine.user], achieved)
            return
        if second >= 86_400:  # another week
            return
        bests = (
            ("session", self._session, machine.name),
            ("week", self._week, machine.user),
            ("alltime", self._ever, machine.user),
        )
        for period, known, key in bests:
            if achieved > known[key]:
                yield self._event(
                    "share_best_diff", second, machine, new_best_diff=achieved,
                    previous_best_diff=known[key], period=period, week=text, hash=share_hash,
                )  # fmt: skip
                known[key] = achieved

    def tip(self, second: float, height: int) -> bytes:
        """The network's next block: what came before it in the streams is committed first."""
        value = golden(
            "new_block_network",
            timestamp=(self.start + timedelta(seconds=second) - _EPOCH) // timedelta(microseconds=1),
            source="hosted", height=height, hash=f"{height:064x}",
            network_difficulty=NETWORK,
        )  # fmt: skip
        return json.dumps(value).encode()
