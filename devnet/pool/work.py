"""Work: a block template of the node, and the jobs and blocks made of it."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import structlog
from cachetools import LRUCache

from devnet.bitcoin.block import pack_block
from devnet.bitcoin.coinbase import WITNESS_RESERVED_VALUE, coinbase_transaction
from devnet.bitcoin.difficulty import difficulty_from_bits, target_from_bits
from devnet.bitcoin.hashing import from_display, sha256d
from devnet.bitcoin.header import BlockHeader
from devnet.bitcoin.merkle import coinbase_branch, root_from_branch
from devnet.bitcoin.script import push, push_height
from devnet.bitcoin.transaction import Transaction, TxOutput
from tbg_core.events import MAX_MONEY

log = structlog.get_logger("pool")

PAYOUTS_KEPT: Final = 8192  # whose lines and coinbases are not made again for each share

# Version, input count, outpoint and script length come before the script of a coinbase without
# witness. The script has fewer than 253 bytes, so its length takes one.
_BEFORE_SCRIPT: Final = 4 + 1 + 36 + 1


class TemplateError(ValueError):
    """The node's block template is incomplete or invalid."""


@dataclass(frozen=True, slots=True)
class Template:
    """The parts of ``getblocktemplate`` (BIP 22, 23, 145) that make a block.

    Hashes are in internal order. ``transactions`` are serialised, in the node's order. Amounts are
    in satoshis.
    """

    version: int
    prev_hash: bytes
    height: int
    bits: int
    curtime: int
    coinbase_value: int
    transactions: tuple[bytes, ...]
    txids: tuple[bytes, ...]
    fees: int
    commitment_script: bytes | None
    longpoll_id: str | None

    @classmethod
    def parse(cls, answer: Any) -> "Template":
        """Reads the RPC's answer.

        Raises:
            TemplateError: names what is wrong with it.
        """
        try:
            entries = answer["transactions"]
            commitment = answer.get("default_witness_commitment")
            longpoll_id = answer.get("longpollid")
            template = cls(
                version=int(answer["version"]),
                prev_hash=from_display(answer["previousblockhash"]),
                height=int(answer["height"]),
                bits=int(answer["bits"], 16),
                curtime=int(answer["curtime"]),
                coinbase_value=int(answer["coinbasevalue"]),
                transactions=tuple(bytes.fromhex(entry["data"]) for entry in entries),
                txids=tuple(from_display(entry["txid"]) for entry in entries),
                fees=sum(int(entry.get("fee", 0)) for entry in entries),
                commitment_script=None if commitment is None else bytes.fromhex(commitment),
                longpoll_id=longpoll_id if isinstance(longpoll_id, str) else None,
            )
            target_from_bits(template.bits)
            template.check()
        except KeyError as error:
            raise TemplateError(f"the block template has no {error}") from None
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            raise TemplateError(f"the block template makes no sense: {error}") from None
        return template

    def check(self) -> None:
        """Checks the numbers.

        Raises:
            ValueError: no block can carry one of them.
        """
        for name, value, most in (
            ("height", self.height, 2**31 - 1),
            ("curtime", self.curtime, 2**32 - 1),
            ("coinbasevalue", self.coinbase_value, MAX_MONEY),
            ("the sum of the fees", self.fees, MAX_MONEY),
            ("version", self.version + 2**31, 2**32 - 1),
        ):
            if not 0 <= value <= most:
                raise ValueError(f"{name} is out of range")


@dataclass(frozen=True, slots=True)
class Payout:
    """The script that a block pays, and the signature in its coinbase."""

    script_pubkey: bytes
    signature: str


@dataclass(slots=True)
class Work:
    """One template, its job id, and the shares that came for it.

    ``serial`` counts the works of this run. ``job_id`` is hex, and also stands in the coinbase:
    otherwise two works of one template would have the same headers, and a share of one could be
    sent again for the other. ``stale``: its parent is no longer the tip. ``seen`` holds the header
    hashes of accepted shares.
    """

    serial: int
    job_id: str
    template: Template
    nonce1_length: int
    nonce2_length: int
    stale: bool = False
    replaced: float | None = None
    """When another work took its place, by the clock of the works; None while it is current."""
    seen: set[bytes] = field(default_factory=set)
    target: int = field(init=False)
    network_difficulty: float = field(init=False)
    branch: list[bytes] = field(init=False)
    """From the coinbase's txid to the merkle root, in internal order."""
    _parts: LRUCache[Payout, tuple[bytes, bytes]] = field(
        default_factory=lambda: LRUCache(PAYOUTS_KEPT)
    )

    def __post_init__(self) -> None:
        self.target = target_from_bits(self.template.bits)
        self.network_difficulty = difficulty_from_bits(self.template.bits)
        self.branch = coinbase_branch(self.template.txids)

    @property
    def complete(self) -> bool:
        """Whether its transactions are still here, so that a share of it can make a block."""
        return len(self.template.transactions) == len(self.template.txids)

    def strip(self) -> None:
        """Drops its transactions, up to 4 MB: from now on it makes no block."""
        self.template = replace(self.template, transactions=())

    def coinbase_parts(self, payout: Payout) -> tuple[bytes, bytes]:
        """The coinbase without witness, before and after the extranonce (nonce1 and nonce2)."""
        parts = self._parts.get(payout)
        if parts is None:
            size = self.nonce1_length + self.nonce2_length
            raw = self._transaction(payout, bytes(size)).pack(witness=False)
            start = _BEFORE_SCRIPT + len(self._script_start()) + 1
            parts = self._parts[payout] = raw[:start], raw[start + size :]
        return parts

    def coinbase(self, payout: Payout, extranonce: bytes) -> bytes:
        """The coinbase transaction without witness, whose double SHA-256 is its txid."""
        before, after = self.coinbase_parts(payout)
        return before + extranonce + after

    def notify_params(self, payout: Payout, *, clean: bool) -> list[Any]:
        """The params of mining.notify for a miner with this payout."""
        before, after = self.coinbase_parts(payout)
        template = self.template
        return [
            self.job_id,
            swap_words(template.prev_hash).hex(),
            before.hex(),
            after.hex(),
            [item.hex() for item in self.branch],
            f"{template.version & 0xFFFFFFFF:08x}",
            f"{template.bits:08x}",
            f"{template.curtime:08x}",
            clean,
        ]

    def header(
        self, payout: Payout, extranonce: bytes, version: int, ntime: int, nonce: int
    ) -> bytes:
        """The 80 bytes that a share hashes; ``version`` is unsigned, as Stratum writes it."""
        txid = sha256d(self.coinbase(payout, extranonce))
        return BlockHeader(
            version=version - (1 << 32) if version >> 31 else version,
            prev_hash=self.template.prev_hash,
            merkle_root=root_from_branch(txid, self.branch),
            time=ntime,
            bits=self.template.bits,
            nonce=nonce,
        ).pack()

    def block(self, payout: Payout, extranonce: bytes, header: bytes) -> bytes:
        """The block, as submitblock takes it."""
        coinbase = self._transaction(payout, extranonce)
        return pack_block(header, [coinbase.pack(), *self.template.transactions])

    def _script_start(self) -> bytes:
        """The part of the coinbase's script before the extranonce."""
        return push_height(self.template.height) + push(bytes.fromhex(self.job_id))

    def _transaction(self, payout: Payout, extranonce: bytes) -> Transaction:
        outputs = [TxOutput(self.template.coinbase_value, payout.script_pubkey)]
        commitment = self.template.commitment_script
        if commitment is not None:
            outputs.append(TxOutput(0, commitment))
        return coinbase_transaction(
            self.template.height,
            outputs,
            script_sig_tail=b"".join(
                (
                    push(bytes.fromhex(self.job_id)),
                    push(extranonce),
                    push(payout.signature.encode()),
                )
            ),
            reserved_value=None if commitment is None else WITNESS_RESERVED_VALUE,
        )


def swap_words(data: bytes) -> bytes:
    """``data`` with every four bytes reversed, as Stratum V1 writes the previous hash."""
    return b"".join(data[i : i + 4][::-1] for i in range(0, len(data), 4))


def signature_with_root(signature: str, folder: Path | None) -> str:
    """The coinbase signature with the last root of receipts: /TheBitcoinGame/5182df5b/.

    A block then bears witness to all that the pool had said of its shares by then. Four bytes: a
    coinbase's script has room for no more beside a tag.

    Args:
        signature: of the pool.
        folder: of ``tbg receipts publish``; the signature stays as it is where there is none,
            where its head is not signed, and where it is no head.
    """
    if folder is None or not (folder / "head.json.sig").exists():
        return signature
    try:
        last = bytes.fromhex(json.loads((folder / "head.json").read_bytes())["last"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        log.warning("no root for the coinbase", folder=str(folder), error=repr(error))
        return signature
    return f"{signature.rstrip('/')}/{last[:4].hex()}/"


def signature_with_tag(signature: str, tag: str) -> str:
    """The coinbase signature with a miner's tag: /TheBitcoinGame/alice/."""
    return f"{signature.rstrip('/')}/{tag}/" if tag else signature


def hardest(work: Work, block_difficulty: float | None) -> float:
    """The difficulty of a block; no share needs to be harder."""
    return max(work.network_difficulty, block_difficulty or 0.0)
