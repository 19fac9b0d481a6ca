"""The pool's eight events, as in the contract of ``tbg_core.events``."""

from typing import Any, Final, Protocol

from devnet.bitcoin.hashing import to_display
from devnet.pool.bests import Broken
from devnet.pool.identity import Miner
from devnet.pool.share import Share, Solution

PROTOCOL: Final = "stratum_v1"


class Sink(Protocol):
    """Where events go; ``devnet.emitter.Emitter`` is one."""

    def emit(self, event: str, data: dict[str, Any], *, timestamp: int | None = None) -> int:
        """Takes an event, and returns its sequence number at once."""
        ...


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
        """The connection of an authorised miner has ended."""
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

    def share(self, share: Share) -> None:
        """A share came in."""
        miner = share.miner
        self._sink.emit(
            "share_submitted",
            miner.who
            | share.fields()
            | {"ip": miner.ip, "client_id": miner.client_id, "user_agent": miner.user_agent},
            timestamp=share.timestamp,
        )

    def best(self, share: Share, solution: Solution, broken: Broken) -> None:
        """An accepted share broke a best; those that stand for longer carry their proof."""
        self._sink.emit(
            "share_best_diff",
            share.miner.who
            | {
                "new_best_diff": broken.new,
                "previous_best_diff": broken.previous,
                "period": broken.period,
                "week": broken.week,
                "hash": to_display(solution.hash),
            }
            | (_proof(solution) if broken.period != "session" else {}),
            timestamp=share.timestamp,
        )

    def block(self, data: dict[str, Any], timestamp: int) -> None:
        """A share is a block that no node has refused; ``data`` is from :func:`block_data`."""
        self._sink.emit("block_found", data, timestamp=timestamp)

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
        """The averages of a worker, or of a user over all workers (worker '')."""
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


def block_data(share: Share, solution: Solution) -> dict[str, Any]:
    """The data of ``block_found`` for a share that solves a block."""
    template = solution.work.template
    return (
        share.miner.who
        | {
            "height": template.height,
            "hash": to_display(solution.hash),
            "prev_hash": to_display(template.prev_hash),
            "difficulty": solution.share_diff,
            "network_difficulty": solution.work.network_difficulty,
            "reward_sats": template.coinbase_value,
            "fees_sats": template.fees,
            "nonce": f"{int.from_bytes(solution.header[76:], 'little'):08x}",
            "coinbase_sig": solution.payout.signature,
        }
        | _proof(solution)
    )


def _proof(solution: Solution) -> dict[str, Any]:
    proof = solution.proof()
    return {} if proof is None else {"proof": proof}
