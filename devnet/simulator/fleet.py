"""Who mines: users with Bitcoin addresses, and the machines that each of them runs."""

from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from devnet.bitcoin.bech32 import encode_segwit
from devnet.simulator.hardware import FASTEST, HARDWARE, LOWEST_DIFFICULTY, SLOWEST
from devnet.simulator.scenario import Scenario
from devnet.simulator.worker_name import HOSTILE_EVERY, worker_name
from tbg_core.difficulty import HASHES_PER_DIFFICULTY

_LARGEST_USER: Final = HOSTILE_EVERY - 1
_MIXED_EVERY: Final = 10


@dataclass(frozen=True, slots=True)
class Fleet:
    """Machines in the order of their users: those of user u are ``first[u]`` to ``first[u+1]-1``.

    Texts that go into events as they are stand here as JSON: ``identity`` holds the members
    ``"user"`` and ``"worker"`` of a machine, ``totals`` the same of a user as a whole (worker
    ``""``), ``ip`` and ``agent`` the values alone. ``hashrate`` is in H/s, ``difficulty`` what
    vardiff aims at for the machine.
    """

    users: list[str]
    workers: list[str]
    first: list[int]
    owner: list[int]
    identity: list[str]
    totals: list[str]
    ip: list[str]
    agent: list[str]
    rolls_version: list[bool]
    hashrate: NDArray[np.float64]
    difficulty: NDArray[np.float64]

    @property
    def work_per_second(self) -> float:
        """Difficulty that the whole fleet solves each second, all machines connected."""
        return float(self.hashrate.sum()) / HASHES_PER_DIFFICULTY


def build_fleet(scenario: Scenario) -> Fleet:
    """The fleet of a scenario: the same miners for the same seed and any start.

    A larger fleet of the same seed does not begin with the smaller one.
    """
    rng = np.random.default_rng([scenario.seed, 1])
    sizes = _user_sizes(scenario.miners, rng)
    weights = np.array([hardware.weight for hardware in HARDWARE])
    kinds = rng.choice(len(HARDWARE), size=scenario.miners, p=weights / weights.sum()).tolist()
    first, owner = [0], []
    for user, size in enumerate(sizes):
        first.append(first[-1] + size)
        owner += [user] * size
    # One user in ten who has several runs the slowest machine beside the fastest.
    mixed = [first[user] for user in range(0, len(sizes), _MIXED_EVERY) if sizes[user] > 1]
    for machine in mixed:
        kinds[machine : machine + 2] = SLOWEST, FASTEST
    nominal = np.array([HARDWARE[kind].hashrate for kind in kinds])
    spread = np.array([HARDWARE[kind].spread for kind in kinds])
    hashrate = nominal * (1 + spread * rng.uniform(-1, 1, scenario.miners))

    users = [_address(scenario.seed, user) for user in range(len(sizes))]
    addresses = [_ip(scenario.seed, user) for user in range(len(sizes))]
    workers = [
        worker_name(machine, HARDWARE[kinds[machine]].name, machine - first[user])
        for machine, user in enumerate(owner)
    ]
    agents = [_json(hardware.user_agent) for hardware in HARDWARE]
    return Fleet(
        users=users,
        workers=workers,
        first=first,
        owner=owner,
        identity=[
            f'"user":"{users[user]}","worker":{_json(name)}'
            for user, name in zip(owner, workers, strict=True)
        ],
        totals=[f'"user":"{user}","worker":""' for user in users],
        ip=[f'"{addresses[user]}"' for user in owner],
        agent=[agents[kind] for kind in kinds],
        rolls_version=[HARDWARE[kind].rolls_version for kind in kinds],
        hashrate=hashrate,
        difficulty=_vardiff_target(hashrate, scenario.shares_per_minute),
    )


def shares_per_second(hashrate: NDArray[np.float64], shares_per_minute: float) -> float:
    """What machines of these hashrates find together when vardiff aims at such a pace."""
    difficulty = _vardiff_target(hashrate, shares_per_minute)
    return float((hashrate / difficulty).sum()) / HASHES_PER_DIFFICULTY


def _vardiff_target(hashrate: NDArray[np.float64], shares_per_minute: float) -> NDArray[np.float64]:
    """The difficulty at which a machine finds so many shares, in four digits."""
    exact = np.maximum(
        hashrate / (shares_per_minute / 60 * HASHES_PER_DIFFICULTY), LOWEST_DIFFICULTY
    )
    return np.array([float(f"{value:.4g}") for value in exact.tolist()])


def _user_sizes(miners: int, rng: np.random.Generator) -> list[int]:
    """How many machines each user has: mostly a few, now and then a shelf full.

    The first has more than one, so that every fleet holds a mixture.
    """
    sizes = [min(miners, 3)]
    left = miners - sizes[0]
    while left:
        drawn = rng.geometric(0.5, 1024) * np.where(rng.random(1024) < 0.02, 16, 1)
        for size in np.minimum(drawn, _LARGEST_USER).tolist():
            sizes.append(min(size, left))
            left -= sizes[-1]
            if not left:
                break
    return sizes


def _address(seed: int, user: int) -> str:
    """A valid regtest address without a known key: P2TR for one user in three."""
    digest = sha256(f"simulated miner {seed}/{user}".encode()).digest()
    if user % 3 == 2:
        return encode_segwit("bcrt", 1, digest)
    return encode_segwit("bcrt", 0, digest[:20])


def _ip(seed: int, user: int) -> str:
    """An address that is not routed: 10.0.0.0/8, or 2001:db8::/32 for one user in five."""
    digest = sha256(f"simulated line {seed}/{user}".encode()).digest()
    if user % 5 == 4:
        return f"2001:db8:{digest[:2].hex()}:{digest[2:4].hex()}::{digest[4] + 1:x}"
    return f"10.{digest[0]}.{digest[1]}.{digest[2]}"


def _json(text: str) -> str:
    return msgspec.json.encode(text).decode()
