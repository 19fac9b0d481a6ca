"""What a node does to a submitted block before it judges it."""

from dataclasses import replace

from devnet.bitcoin.coinbase import WITNESS_RESERVED_VALUE, has_witness_commitment
from devnet.bitcoin.compact_size import Reader, pack_compact_size
from devnet.bitcoin.header import HEADER_SIZE
from devnet.bitcoin.transaction import Transaction


def complete_witness(raw_block: bytes) -> bytes:
    """``raw_block`` with the coinbase's witness added if its miner left it out.

    A block with a witness commitment needs the reserved value in its coinbase. Bitcoin Core adds
    the usual 32 zero bytes to a submitted block that has no witness there
    (UpdateUncommittedBlockStructures), and miners rely on that. Bytes that do not begin with a
    block come back as they are, for the consensus code to refuse.
    """
    try:
        reader = Reader(raw_block)
        header = reader.take(HEADER_SIZE)
        count = reader.compact_size()
        coinbase = Transaction.read(reader)
    except ValueError:
        return raw_block
    if coinbase.has_witness or not coinbase.inputs or not has_witness_commitment(coinbase):
        return raw_block
    first, *others = coinbase.inputs
    completed = replace(
        coinbase, inputs=(replace(first, witness=(WITNESS_RESERVED_VALUE,)), *others)
    )
    rest = raw_block[reader.offset :]
    return b"".join((header, pack_compact_size(count), completed.pack(), rest))
