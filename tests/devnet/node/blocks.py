"""Blocks as a pool makes them from a template, and every way to spoil one."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from devnet.bitcoin.block import pack_block
from devnet.bitcoin.coinbase import coinbase_transaction
from devnet.bitcoin.difficulty import target_from_bits
from devnet.bitcoin.hashing import from_display
from devnet.bitcoin.header import BlockHeader
from devnet.bitcoin.merkle import merkle_root
from devnet.bitcoin.transaction import Transaction, TxOutput

ADDRESS = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
ANYONE = b"\x51"  # OP_TRUE


@dataclass
class Draft:
    """A block before its nonce is found; tests change what they want to be wrong."""

    header: BlockHeader
    transactions: list[Transaction] = field(default_factory=list)

    @property
    def coinbase(self) -> Transaction:
        return self.transactions[0]

    def solved(self, *, solve: bool = True) -> bytes:
        """The block under a nonce that meets the target, or (``solve=False``) misses it."""
        header = replace(
            self.header, merkle_root=merkle_root([item.txid for item in self.transactions])
        )
        return mined(header, self.transactions, solve=solve)

    def change_header(self, **changes: Any) -> None:
        self.header = replace(self.header, **changes)

    def change_coinbase(self, **changes: Any) -> None:
        self.transactions[0] = replace(self.coinbase, **changes)

    def change_coinbase_input(self, **changes: Any) -> None:
        self.change_coinbase(inputs=(replace(self.coinbase.inputs[0], **changes),))


def draft(template: dict[str, Any], tail: bytes = b"\x04test") -> Draft:
    """The block that a ``getblocktemplate`` answer asks for, ``tail`` making it unique."""
    outputs = [
        TxOutput(template["coinbasevalue"], ANYONE),
        TxOutput(0, bytes.fromhex(template["default_witness_commitment"])),
    ]
    header = BlockHeader(
        template["version"],
        from_display(template["previousblockhash"]),
        bytes(32),
        template["curtime"],
        int(template["bits"], 16),
        0,
    )
    return Draft(header, [coinbase_transaction(template["height"], outputs, script_sig_tail=tail)])


def mined(header: BlockHeader, transactions: Sequence[Transaction], *, solve: bool = True) -> bytes:
    """The serialised block under the first nonce whose hash meets (or misses) regtest's target."""
    target = target_from_bits(0x207FFFFF)
    nonce = 0
    while replace(header, nonce=nonce).meets(target) is not solve:
        nonce += 1
    packed = replace(header, nonce=nonce).pack()
    return pack_block(packed, [item.pack() for item in transactions])
