"""Work: a block template of the node, and the jobs and blocks that are made of it."""

from dataclasses import dataclass, field, replace
from typing import Any, Final

from devnet.bitcoin.block import pack_block
from devnet.bitcoin.coinbase import WITNESS_RESERVED_VALUE, coinbase_transaction
from devnet.bitcoin.difficulty import difficulty_from_bits, target_from_bits
from devnet.bitcoin.hashing import from_display, sha256d
from devnet.bitcoin.header import BlockHeader
from devnet.bitcoin.merkle import coinbase_branch, root_from_branch
from devnet.bitcoin.script import push, push_height
from devnet.bitcoin.transaction import Transaction, TxOutput
from ingest.events import MAX_MONEY

# Version, input count, outpoint, script length: what stands before the script of a coinbase
# without witness. The script is under 253 bytes, so that its length takes one.
_BEFORE_SCRIPT: Final = 4 + 1 + 36 + 1


class TemplateError(ValueError):
    """The node's block template lacks something or contradicts itself."""


@dataclass(frozen=True, slots=True)
class Template:
    """What of ``getblocktemplate`` (BIP 22, 23, 145) makes a block.

    Hashes are in internal order; ``transactions`` are serialised, in the node's order.
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
            TemplateError: that names what is wrong with it.
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
        """Raises ``ValueError`` for a number that no block could carry."""
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
    """Who is paid by a block, and how it is signed."""

    script_pubkey: bytes
    signature: str


@dataclass(slots=True)
class Work:
    """One template under the number that jobs are told by, and the shares it got.

    ``serial`` counts the works of this run. ``job_id`` is hex, and stands in the coinbase too: two
    works of one template in one second would else have the same headers, and a share of the one
    could be sent again for the other. ``seen`` holds the header hashes of accepted shares.
    """

    serial: int
    job_id: str
    template: Template
    nonce1_length: int
    nonce2_length: int
    stale: bool = False
    seen: set[bytes] = field(default_factory=set)
    target: int = field(init=False)
    network_difficulty: float = field(init=False)
    branch: list[bytes] = field(init=False)
    """From the coinbase's txid to the merkle root, in internal order."""
    _parts: dict[Payout, tuple[bytes, bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.target = target_from_bits(self.template.bits)
        self.network_difficulty = difficulty_from_bits(self.template.bits)
        self.branch = coinbase_branch(self.template.txids)

    def retire(self) -> None:
        """The block before it is no longer the tip: shares are stale, and no block is made."""
        self.stale = True
        self.template = replace(self.template, transactions=())  # up to 4 MB each

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
        """The whole block, as submitblock takes it."""
        coinbase = self._transaction(payout, extranonce)
        return pack_block(header, [coinbase.pack(), *self.template.transactions])

    def _script_start(self) -> bytes:
        """What stands before the extranonce in the coinbase's script."""
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
    """``data`` with every four bytes reversed: Stratum V1's way to write the previous hash."""
    return b"".join(data[i : i + 4][::-1] for i in range(0, len(data), 4))


def signature_with_tag(signature: str, tag: str) -> str:
    """The coinbase signature with a miner's tag behind it: /TheBitcoinGame/alice/."""
    return f"{signature.rstrip('/')}/{tag}/" if tag else signature


def hardest(work: Work, block_difficulty: float | None) -> float:
    """The difficulty of a block: no share need be harder than that."""
    return max(work.network_difficulty, block_difficulty or 0.0)
