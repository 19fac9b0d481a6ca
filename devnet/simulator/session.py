"""The connections of the fleet, and what each has done so far."""

from random import Random
from typing import Final

from devnet.simulator.best import FleetBests
from devnet.simulator.fleet import Fleet
from devnet.simulator.journal import KINDS, Journal
from devnet.simulator.lifecycle import Change, Turn
from devnet.simulator.scenario import Scenario
from tbg_core.periods import SECOND

_CONNECTED: Final = KINDS.index("miner_connected")
_DISCONNECTED: Final = KINDS.index("miner_disconnected")
_DIFF: Final = KINDS.index("diff_updated")
_FAREWELLS: Final = ("closed by the miner", "connection reset", "idle timeout")


class Sessions:
    """One session for each machine, as lists indexed by machine.

    ``accepted`` and ``rejected`` count its shares. ``prefix`` and ``suffix`` are the members of
    a share that seldom change, as JSON: all that stands before the value of ``share_diff``, and
    all after the proof. ``last`` holds the share difficulty and the work, as JSON, of the share
    that was accepted last.
    """

    def __init__(
        self, scenario: Scenario, fleet: Fleet, journal: Journal, bests: FleetBests, tail: str
    ) -> None:
        """``tail`` is what ends every share's members."""
        machines = scenario.miners
        self._fleet = fleet
        self._journal = journal
        self._bests = bests
        self._tail = tail
        self._clients = 0
        self._client = [0] * machines
        self._since: list[int | None] = [None] * machines  # microseconds; None while away
        self._silent_since: list[int | None] = [None] * machines  # None while awake
        self._difficulty = [0.0] * machines
        self.accepted = [0] * machines
        self.rejected = [0] * machines
        self.prefix = [""] * machines
        self.suffix = [""] * machines
        self.last: list[tuple[str, str] | None] = [None] * machines
        if scenario.settled:
            self._settle(scenario)

    def connected(self, machine: int) -> bool:
        """Whether the machine has a session."""
        return self._since[machine] is not None

    def age(self, machine: int) -> float:
        """Seconds since the machine connected.

        Raises:
            RuntimeError: it is not connected; lifecycle and sessions disagree.
        """
        since = self._since[machine]
        if since is None:
            raise RuntimeError(f"machine {machine} has no session")
        return (self._journal.now - since) / SECOND

    def silence(self, machine: int) -> float:
        """Seconds since the machine began to nap, 0 when it is awake."""
        since = self._silent_since[machine]
        return 0.0 if since is None else (self._journal.now - since) / SECOND

    def change(self, change: Change) -> None:
        """A machine connects, leaves, naps, or is given another difficulty."""
        machine = change.machine
        if change.turn is Turn.CONNECT:
            self._connect(machine, change.difficulty)
        elif change.turn is Turn.NAP:
            self._silent_since[machine] = self._journal.now
        elif change.turn is Turn.WAKE:
            self._silent_since[machine] = None
        elif change.turn is Turn.RETARGET:
            self._journal.write(
                _DIFF,
                f'{self._fleet.identity[machine]},"old_diff":{self._difficulty[machine]!r},'
                f'"new_diff":{change.difficulty!r},"client_id":{self._client[machine]},'
                '"reason":"vardiff"',
            )
        else:
            self._disconnect(machine, _FAREWELLS[self._client[machine] % len(_FAREWELLS)])
        self._assign(machine, change.difficulty)

    def end(self, time: float, *, in_order: bool) -> None:
        """Ends every connection with the engine; a crash writes no events.

        With a rate, each event has its own moment, so that a restart makes no burst.
        """
        for machine, since in enumerate(self._since):
            if since is not None and in_order:
                self._journal.tick(time)
                self._disconnect(machine, "engine stopped")
            self._since[machine] = None
        self._clients = 0

    def _connect(self, machine: int, difficulty: float) -> None:
        self._open(machine, self._journal.now)
        self._journal.write(
            _CONNECTED,
            f'{self._fleet.identity[machine]},"ip":{self._fleet.ip[machine]},'
            f'"initial_diff":{difficulty!r},"client_id":{self._clients},'
            f'"user_agent":{self._fleet.agent[machine]},"protocol":"stratum_v1"',
        )

    def _disconnect(self, machine: int, reason: str) -> None:
        self._journal.write(
            _DISCONNECTED,
            f'{self._fleet.identity[machine]},"session_duration":{self.age(machine)!r},'
            f'"client_id":{self._client[machine]},"ip":{self._fleet.ip[machine]},'
            f'"shares_accepted":{self.accepted[machine]},'
            f'"shares_rejected":{self.rejected[machine]},'
            f'"best_diff_session":{self._bests.session[machine]!r},'
            f'"reason":"{reason}"',
        )
        self._since[machine] = None

    def _open(self, machine: int, since: int) -> None:
        self._clients += 1
        self._client[machine] = self._clients
        self._since[machine] = since
        self._silent_since[machine] = None
        self.accepted[machine] = self.rejected[machine] = 0
        self._bests.session[machine] = 0.0
        self.last[machine] = None

    def _assign(self, machine: int, difficulty: float) -> None:
        fleet = self._fleet
        self._difficulty[machine] = difficulty
        self.prefix[machine] = (
            f'{fleet.identity[machine]},"difficulty":{difficulty!r},"share_diff":'
        )
        self.suffix[machine] = (
            f',"ip":{fleet.ip[machine]},"client_id":{self._client[machine]},'
            f'"user_agent":{fleet.agent[machine]}{self._tail}'
        )

    def _settle(self, scenario: Scenario) -> None:
        """Gives every machine a session that began earlier, with its counts and bests.

        The best of n shares is distributed as difficulty * n / Exp(1) for large n.
        """
        random = Random(f"{scenario.seed}/{scenario.start}/settled")  # noqa: S311 - repeatable
        for machine, difficulty in enumerate(self._fleet.difficulty.tolist()):
            age = random.expovariate(1 / scenario.session)
            shares = int(age * scenario.shares_per_minute / 60)
            self._open(machine, scenario.start - int(age * SECOND))
            self.accepted[machine] = shares
            if shares:
                best = max(1.0, shares / random.expovariate(1.0))
                self._bests.settle(machine, float(f"{difficulty * best:.15g}"))
            self._assign(machine, difficulty)
