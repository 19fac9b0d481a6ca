"""The pool's eight events, as the contract of ``ingest.events`` has them."""

from dataclasses import dataclass
from typing import Any, Final, Protocol

from devnet.pool.bests import Broken
from devnet.pool.identity import Identity

PROTOCOL: Final = "stratum_v1"


class Sink(Protocol):
    """Where events go; ``devnet.emitter.Emitter`` is one."""

    def emit(self, event: str, data: dict[str, Any], *, timestamp: int | None = None) -> int:
        """Takes an event and returns at once."""
        ...


@dataclass(frozen=True, slots=True)
class Miner:
    """An authorised connection, as its events describe it."""

    identity: Identity
    client_id: int
    ip: str
    user_agent: str | None

    @property
    def who(self) -> dict[str, Any]:
        """The two fields that every event about a miner carries."""
        return {"user": self.identity.user, "worker": self.identity.worker}


class PoolEvents:
    """Writes each event; every text in it was cleaned before (``identity``)."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def connected(self, miner: Miner, initial_diff: float) -> None:
        """A miner authorised."""
        self._sink.emit(
            "miner_connected",
            miner.who
            | {
                "ip": miner.ip,
                "initial_diff": initial_diff,
                "client_id": miner.client_id,
                "user_agent": miner.user_agent,
                "protocol": PROTOCOL,
            },
        )

    def disconnected(
        self,
        miner: Miner,
        *,
        seconds: float,
        accepted: int,
        rejected: int,
        best: float,
        reason: str,
    ) -> None:
        """A miner that had authorised is gone."""
        self._sink.emit(
            "miner_disconnected",
            miner.who
            | {
                "session_duration": seconds,
                "client_id": miner.client_id,
                "ip": miner.ip,
                "shares_accepted": accepted,
                "shares_rejected": rejected,
                "best_diff_session": best,
                "reason": reason,
            },
        )

    def share(self, miner: Miner, timestamp: int, fields: dict[str, Any]) -> None:
        """A share came in; ``fields`` are those of the share itself."""
        self._sink.emit(
            "share_submitted",
            miner.who
            | fields
            | {"ip": miner.ip, "client_id": miner.client_id, "user_agent": miner.user_agent},
            timestamp=timestamp,
        )

    def best(self, miner: Miner, timestamp: int, broken: Broken, share_hash: str) -> None:
        """A best was broken."""
        self._sink.emit(
            "share_best_diff",
            miner.who
            | {
                "new_best_diff": broken.new,
                "previous_best_diff": broken.previous,
                "period": broken.period,
                "week": broken.week,
                "hash": share_hash,
            },
            timestamp=timestamp,
        )

    def block(self, miner: Miner, timestamp: int, fields: dict[str, Any]) -> None:
        """The node took a block; ``fields`` are those of the block."""
        self._sink.emit("block_found", miner.who | fields, timestamp=timestamp)

    def difficulty(
        self, miner: Miner, old: float, new: float, reason: str, timestamp: int | None = None
    ) -> None:
        """The assigned difficulty changed."""
        self._sink.emit(
            "diff_updated",
            miner.who
            | {
                "old_diff": old,
                "new_diff": new,
                "client_id": miner.client_id,
                "reason": reason,
            },
            timestamp=timestamp,
        )

    def hashrate(self, user: str, worker: str, rates: dict[str, float]) -> None:
        """The averages of a worker, or of a user over all workers ('')."""
        self._sink.emit("hashrate_update", {"user": user, "worker": worker} | rates)

    def new_tip(
        self, height: int, block_hash: str, network_difficulty: float, prev_hash: str | None
    ) -> None:
        """The network's tip moved."""
        data: dict[str, Any] = {
            "height": height,
            "hash": block_hash,
            "network_difficulty": network_difficulty,
        }
        if prev_hash is not None:
            data["prev_hash"] = prev_hash
        self._sink.emit("new_block_network", data)
