"""Transactions, with and without witness (BIP 141, BIP 144)."""

from dataclasses import dataclass

from devnet.bitcoin.compact_size import Reader, pack_bytes, pack_compact_size
from devnet.bitcoin.hashing import HASH_SIZE, sha256d

FINAL_SEQUENCE = 0xFFFFFFFF
NULL_INDEX = 0xFFFFFFFF
"""The output index of the outpoint that a coinbase input names."""


@dataclass(frozen=True, slots=True)
class TxInput:
    """An input: the output it spends, its script, its sequence number, its witness stack."""

    prev_txid: bytes
    prev_index: int
    script_sig: bytes
    sequence: int = FINAL_SEQUENCE
    witness: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class TxOutput:
    """An output: satoshis, and the script that says who may spend them."""

    value: int
    script_pubkey: bytes


@dataclass(frozen=True, slots=True)
class Transaction:
    """A transaction; ``pack`` and ``unpack`` are each other's inverse."""

    version: int
    inputs: tuple[TxInput, ...]
    outputs: tuple[TxOutput, ...]
    lock_time: int = 0

    @property
    def has_witness(self) -> bool:
        """Whether any input carries a witness."""
        return any(item.witness for item in self.inputs)

    def pack(self, *, witness: bool = True) -> bytes:
        """The serialisation; ``witness=False`` leaves the witness out, as the txid does.

        A transaction without witness has only one serialisation.
        """
        with_witness = witness and self.has_witness
        parts = [self.version.to_bytes(4, "little", signed=True)]
        if with_witness:
            parts.append(b"\x00\x01")  # marker and flag, BIP 144
        parts.append(pack_compact_size(len(self.inputs)))
        for item in self.inputs:
            parts += (
                item.prev_txid,
                item.prev_index.to_bytes(4, "little"),
                pack_bytes(item.script_sig),
                item.sequence.to_bytes(4, "little"),
            )
        parts.append(pack_compact_size(len(self.outputs)))
        for output in self.outputs:
            parts += (
                output.value.to_bytes(8, "little", signed=True),
                pack_bytes(output.script_pubkey),
            )
        if with_witness:
            for item in self.inputs:
                parts.append(pack_compact_size(len(item.witness)))
                parts += map(pack_bytes, item.witness)
        parts.append(self.lock_time.to_bytes(4, "little"))
        return b"".join(parts)

    @classmethod
    def unpack(cls, data: bytes) -> "Transaction":
        """The transaction that ``data`` consists of.

        Raises:
            ValueError: ``data`` is anything else.
        """
        reader = Reader(data)
        transaction = cls.read(reader)
        if reader.remaining:
            raise ValueError(f"{reader.remaining} bytes follow the transaction")
        return transaction

    @classmethod
    def read(cls, reader: Reader) -> "Transaction":
        """The next transaction of a reader, such as that of a block.

        Raises:
            ValueError: the reader is not at a transaction.
        """
        version = reader.int32()
        input_count = reader.compact_size()
        with_witness = input_count == 0
        if with_witness:
            # No inputs means the marker of BIP 144: every transaction has an input.
            if reader.uint(1) != 1:
                raise ValueError("unknown flag after the witness marker")
            input_count = reader.compact_size()
        bare_inputs = [_read_input(reader) for _ in range(input_count)]
        outputs = tuple(
            TxOutput(
                int.from_bytes(reader.take(8), "little", signed=True),
                reader.sized_bytes(),
            )
            for _ in range(reader.compact_size())
        )
        stacks: list[tuple[bytes, ...]] = [()] * input_count
        if with_witness:
            stacks = [
                tuple(reader.sized_bytes() for _ in range(reader.compact_size()))
                for _ in range(input_count)
            ]
            if not any(stacks):
                raise ValueError("the witness marker is set, but no input has a witness")
        inputs = tuple(
            TxInput(*bare, witness=stack) for bare, stack in zip(bare_inputs, stacks, strict=True)
        )
        return cls(version, inputs, outputs, reader.uint(4))

    @property
    def txid(self) -> bytes:
        """The hash without witness, in internal order."""
        return sha256d(self.pack(witness=False))


def _read_input(reader: Reader) -> tuple[bytes, int, bytes, int]:
    return reader.take(HASH_SIZE), reader.uint(4), reader.sized_bytes(), reader.uint(4)
