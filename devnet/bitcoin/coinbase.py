"""The coinbase transaction: who is paid, at which height, under which witness commitment."""

from collections.abc import Sequence

from devnet.bitcoin.hashing import NULL_HASH, sha256d
from devnet.bitcoin.merkle import merkle_root
from devnet.bitcoin.script import MAX_COINBASE_SCRIPT_SIG, OP_RETURN, push, push_height
from devnet.bitcoin.transaction import NULL_INDEX, Transaction, TxInput, TxOutput

WITNESS_RESERVED_VALUE = bytes(32)
"""The one witness item of a coinbase input; BIP 141 leaves its meaning to later soft forks."""

_COMMITMENT_MAGIC = bytes.fromhex("aa21a9ed")
COMMITMENT_SCRIPT_SIZE = 38
"""OP_RETURN, a push of 36 bytes: four of magic and a hash."""


def coinbase_transaction(
    height: int,
    outputs: Sequence[TxOutput],
    *,
    script_sig_tail: bytes = b"",
    reserved_value: bytes | None = WITNESS_RESERVED_VALUE,
) -> Transaction:
    """The first transaction of the block at ``height``.

    ``script_sig_tail`` follows the height (BIP 34) in the input's script: extranonce, signature.
    ``reserved_value`` becomes the input's witness, which a block with a witness commitment needs;
    None leaves it out.

    Raises:
        ValueError: height and tail do not have 2 to 100 bytes together.
    """
    script_sig = push_height(height) + script_sig_tail
    if not 2 <= len(script_sig) <= MAX_COINBASE_SCRIPT_SIG:
        raise ValueError(
            f"the script of a coinbase input has 2 to {MAX_COINBASE_SCRIPT_SIG} bytes,"
            f" height and tail have {len(script_sig)}"
        )
    witness = () if reserved_value is None else (reserved_value,)
    coinbase_input = TxInput(NULL_HASH, NULL_INDEX, script_sig, witness=witness)
    return Transaction(2, (coinbase_input,), tuple(outputs))


def witness_commitment_script(other_wtxids: Sequence[bytes]) -> bytes:
    """The scriptPubKey that commits a block to its witnesses (BIP 141).

    ``getblocktemplate`` gives it as ``default_witness_commitment``. ``other_wtxids`` are those of
    every transaction but the coinbase, which counts as zero.
    """
    root = merkle_root([NULL_HASH, *other_wtxids])
    return bytes((OP_RETURN,)) + push(_COMMITMENT_MAGIC + sha256d(root + WITNESS_RESERVED_VALUE))


def has_witness_commitment(coinbase: Transaction) -> bool:
    """Whether an output of ``coinbase`` commits to the witnesses (BIP 141)."""
    prefix = bytes((OP_RETURN, 36)) + _COMMITMENT_MAGIC
    return any(
        len(output.script_pubkey) >= COMMITMENT_SCRIPT_SIZE
        and output.script_pubkey.startswith(prefix)
        for output in coinbase.outputs
    )
