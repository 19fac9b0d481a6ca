"""Sensors of miners for Home Assistant, by its MQTT discovery.

Home Assistant makes an entity of each retained message below its prefix, at
``prefix/component/node/object/config``, whose names have letters, digits, ``_`` and ``-`` alone. The
values are in our own topics, one JSON object for each miner and worker. Names are data of
strangers: in topics they are percent-encoded, in ids hashed, and no template has one.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from tbg_core.wording import printable

MAKER: Final = "The Bitcoin Game"


class Worker(NamedTuple):
    """A worker; ``hash_rate`` in H/s, ``silent``: it is gone for longer than its pace allows."""

    name: str
    hash_rate: float
    last_share: datetime | None
    silent: bool


class Miner(NamedTuple):
    """A user.

    Attributes:
        hash_rate: H/s.
        best_week: share difficulty of the best share of the running week.
        odds: chance of a block within a day, 0 to 1.
    """

    user: str
    hash_rate: float
    best_week: float | None
    odds: float
    workers: Sequence[Worker]


class _Sensor(NamedTuple):
    component: str
    field: str
    name: str
    says: dict[str, Any]


_RATE: Final = _Sensor(
    "sensor",
    "hash_rate",
    "Hash rate",
    {"unit_of_measurement": "H/s", "state_class": "measurement", "icon": "mdi:pickaxe"},
)
_LAST: Final = _Sensor("sensor", "last_share", "Last share", {"device_class": "timestamp"})
_OF_MINER: Final = (
    _RATE,
    _Sensor(
        "sensor",
        "best_week",
        "Best of the week",
        {"state_class": "measurement", "icon": "mdi:trophy"},
    ),
    _LAST,
    _Sensor(
        "sensor",
        "odds",
        "Odds of a block a day",
        {"unit_of_measurement": "%", "state_class": "measurement", "icon": "mdi:dice-multiple"},
    ),
)
_OF_WORKER: Final = (
    _RATE,
    _LAST,
    _Sensor("binary_sensor", "silent", "Silent", {"device_class": "problem"}),
)


@dataclass(frozen=True)
class Topics:
    """Where messages go.

    Args:
        prefix: of Home Assistant's discovery.
        base: first level of our own topics; each pool of a broker has one of its own.
        version: of this software.
    """

    prefix: str
    base: str
    version: str
    status: str = field(init=False)
    look: str = field(init=False)  # has no message that is retained
    filters: tuple[str, ...] = field(init=False)  # of all messages but for these two

    def __post_init__(self) -> None:
        object.__setattr__(self, "status", f"{self.base}/status")
        object.__setattr__(self, "look", f"{self.base}/look")
        filters = (f"{self.base}/miners/#", f"{self.prefix}/+/{self.base}/+/config")
        object.__setattr__(self, "filters", filters)

    def messages(self, miners: Iterable[Miner]) -> dict[str, bytes]:
        """All retained messages by topic, but for our status."""
        found: dict[str, bytes] = {}
        for miner in miners:
            place = f"{self.base}/miners/{quote(miner.user, safe='')}"
            device = self._device("miner", miner.user)
            self._add(found, place, device, _OF_MINER, _of_miner(miner))
            for worker in miner.workers:
                below = f"{place}/workers/{quote(worker.name, safe='')}"
                part = self._device("worker", miner.user, worker.name)
                part["via_device"] = device["identifiers"][0]
                self._add(found, below, part, _OF_WORKER, _of_worker(worker))
        return found

    def _device(self, model: str, *names: str) -> dict[str, Any]:
        sized = "".join(f"{len(name)}:{name}" for name in names)
        number = hashlib.sha256(sized.encode()).hexdigest()[:20]
        return {
            "identifiers": [f"{self.base}_{model}_{number}"],
            "name": printable(names[-1]).strip() or "worker without a name",
            "manufacturer": MAKER,
            "model": model,
        }

    def _add(
        self,
        found: dict[str, bytes],
        place: str,
        device: dict[str, Any],
        sensors: Sequence[_Sensor],
        state: dict[str, Any],
    ) -> None:
        for sensor in sensors:
            name = f"{device['identifiers'][0]}_{sensor.field}"
            value = f"value_json.{sensor.field}"
            on_off = f"'ON' if {value} else 'OFF'"
            found[f"{self.prefix}/{sensor.component}/{self.base}/{name}/config"] = _packed(
                {
                    "name": sensor.name,
                    "unique_id": name,
                    "state_topic": place,
                    "value_template": f"{{{{ {on_off if sensor.field == 'silent' else value} }}}}",
                    "availability_topic": self.status,
                    "device": device,
                    "origin": {"name": MAKER, "sw_version": self.version},
                    **sensor.says,
                }
            )
        found[place] = _packed(state)


def _of_miner(miner: Miner) -> dict[str, Any]:
    shares = [worker.last_share for worker in miner.workers if worker.last_share is not None]
    return {
        "hash_rate": miner.hash_rate,
        "best_week": miner.best_week,
        "last_share": max(shares).isoformat() if shares else None,
        "odds": 100 * miner.odds,
    }


def _of_worker(worker: Worker) -> dict[str, Any]:
    return {
        "hash_rate": worker.hash_rate,
        "last_share": worker.last_share.isoformat() if worker.last_share else None,
        "silent": worker.silent,
    }


def _packed(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
