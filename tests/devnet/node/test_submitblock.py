"""submitblock takes good blocks and gives each bad one the reason that BIP 22 and bitcoind name."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devnet.bitcoin.coinbase import coinbase_transaction
from devnet.bitcoin.header import BlockHeader
from devnet.bitcoin.transaction import Transaction, TxInput, TxOutput
from devnet.rpc import RPCClient
from tbg_core.rpc import RPCError, RPCErrorCode
from tests.devnet.node.blocks import ADDRESS, ANYONE, Draft, draft, mined

SEGWIT = {"rules": ["segwit"]}


async def new_draft(rpc: RPCClient, tail: bytes = b"\x04test") -> Draft:
    return draft(await rpc.call("getblocktemplate", SEGWIT), tail)


def change_height(block: Draft) -> None:
    block.change_coinbase_input(script_sig=b"\x02\xff\x7f\x04test")


def claim_too_much(block: Draft) -> None:
    paid, commitment = block.coinbase.outputs
    block.change_coinbase(outputs=(replace(paid, value=paid.value + 1), commitment))


def commit_to_something_else(block: Draft) -> None:
    paid, commitment = block.coinbase.outputs
    wrong = commitment.script_pubkey[:-1] + b"\x00"
    block.change_coinbase(outputs=(paid, replace(commitment, script_pubkey=wrong)))


def spend_nothing(block: Draft) -> None:
    """Add a transaction whose input does not exist, in a block without witnesses."""
    no_commitment(block)
    block.change_coinbase_input(witness=())
    block.transactions.append(
        Transaction(2, (TxInput(b"\x07" * 32, 0, b""),), (TxOutput(1, ANYONE),))
    )


def no_commitment(block: Draft) -> None:
    block.change_coinbase(outputs=block.coinbase.outputs[:1])


FAULTS: dict[str, Callable[[Draft], Any]] = {
    "bad-cb-height": change_height,
    "bad-cb-amount": claim_too_much,
    "bad-cb-length": lambda block: block.change_coinbase_input(script_sig=bytes(101)),
    "bad-cb-missing": lambda block: block.change_coinbase_input(prev_index=0),
    "bad-cb-multiple": lambda block: block.transactions.append(
        coinbase_transaction(1, [TxOutput(0, ANYONE)], script_sig_tail=b"two", reserved_value=None)
    ),
    "bad-txns-vout-empty": lambda block: block.change_coinbase(outputs=()),
    "bad-txns-inputs-missingorspent": spend_nothing,
    "bad-txns-nonfinal": lambda block: block.change_coinbase(
        lock_time=500, inputs=(replace(block.coinbase.inputs[0], sequence=0),)
    ),
    "bad-witness-nonce-size": lambda block: block.change_coinbase_input(witness=(bytes(31),)),
    "bad-witness-merkle-match": commit_to_something_else,
    "unexpected-witness": no_commitment,
    "bad-diffbits": lambda block: block.change_header(bits=0x207FFFFE),
    "bad-version(0x00000001)": lambda block: block.change_header(version=1),
    "time-too-old": lambda block: block.change_header(time=1_300_000_000),
    "time-too-new": lambda block: block.change_header(time=block.header.time + 3 * 3600),
    "prev-blk-not-found": lambda block: block.change_header(prev_hash=b"\x09" * 32),
}


async def test_a_block_made_from_the_template_becomes_the_tip(rpc: RPCClient) -> None:
    raw = (await new_draft(rpc)).solved()

    assert await rpc.call("submitblock", raw.hex()) is None

    tip = await rpc.call("getbestblockhash")
    assert tip == BlockHeader.unpack(raw[:80]).hash_hex
    assert await rpc.call("getblockcount") == 1
    assert await rpc.call("getblock", tip, 0) == raw.hex()


@pytest.mark.parametrize(("reason", "spoil"), FAULTS.items(), ids=FAULTS.keys())
async def test_a_spoiled_block_is_refused_with_its_reason(
    rpc: RPCClient, reason: str, spoil: Callable[[Draft], Any]
) -> None:
    await rpc.call("generatetoaddress", 20, ADDRESS)
    before = await rpc.call("getbestblockhash")
    block = await new_draft(rpc)
    spoil(block)

    assert await rpc.call("submitblock", block.solved().hex()) == reason
    assert await rpc.call("getbestblockhash") == before
    # and the node goes on
    assert await rpc.call("submitblock", (await new_draft(rpc)).solved().hex()) is None


async def test_a_hash_above_the_target_is_high_hash(rpc: RPCClient) -> None:
    raw = (await new_draft(rpc)).solved(solve=False)

    assert await rpc.call("submitblock", raw.hex()) == "high-hash"
    assert await rpc.call("getblockcount") == 0


async def test_a_merkle_root_of_other_transactions_is_bad_txnmrklroot(rpc: RPCClient) -> None:
    block = await new_draft(rpc)
    raw = mined(replace(block.header, merkle_root=b"\x01" * 32), block.transactions)

    assert await rpc.call("submitblock", raw.hex()) == "bad-txnmrklroot"


async def test_the_same_block_twice_is_a_duplicate(rpc: RPCClient) -> None:
    raw = (await new_draft(rpc)).solved().hex()

    assert await rpc.call("submitblock", raw) is None
    assert await rpc.call("submitblock", raw) == "duplicate"
    # whatever follows the block and the second parameter of BIP 22 are ignored
    assert await rpc.call("submitblock", raw + "00", "ignored") == "duplicate"


async def test_an_invalid_block_twice_and_a_block_on_top_of_it_are_refused(rpc: RPCClient) -> None:
    block = await new_draft(rpc)
    claim_too_much(block)
    raw = block.solved()
    child = await new_draft(rpc)
    child.change_header(prev_hash=BlockHeader.unpack(raw[:80]).hash)
    child.change_coinbase_input(script_sig=b"\x52\x04test")

    assert await rpc.call("submitblock", raw.hex()) == "bad-cb-amount"
    assert await rpc.call("submitblock", raw.hex()) == "duplicate-invalid"
    assert await rpc.call("submitblock", child.solved().hex()) == "bad-prevblk"

    header = await rpc.call("getblockheader", BlockHeader.unpack(raw[:80]).hash_hex)
    assert header["confirmations"] == -1


async def test_a_valid_block_that_does_not_win_is_inconclusive(rpc: RPCClient) -> None:
    first = (await new_draft(rpc, b"\x05first")).solved()
    second = (await new_draft(rpc, b"\x06second")).solved()

    assert await rpc.call("submitblock", first.hex()) is None
    assert await rpc.call("submitblock", second.hex()) == "inconclusive"
    assert await rpc.call("submitblock", second.hex()) == "duplicate"
    assert await rpc.call("getbestblockhash") == BlockHeader.unpack(first[:80]).hash_hex


async def test_a_coinbase_without_its_witness_is_completed_as_bitcoind_does(rpc: RPCClient) -> None:
    block = await new_draft(rpc)
    complete = block.solved()
    block.change_coinbase_input(witness=())
    bare = block.solved()
    assert len(bare) < len(complete)

    assert await rpc.call("submitblock", bare.hex()) is None
    assert await rpc.call("getblock", await rpc.call("getbestblockhash"), 0) == complete.hex()


@pytest.mark.parametrize("hexdata", ["", "zz", "0", "00" * 79, "00" * 80, "ff" * 200])
async def test_what_is_no_block_is_a_deserialisation_error(rpc: RPCClient, hexdata: str) -> None:
    with pytest.raises(RPCError) as caught:
        await rpc.call("submitblock", hexdata)

    assert caught.value.code == RPCErrorCode.DESERIALIZATION_ERROR


async def test_a_block_with_flipped_bits_is_refused_and_the_node_goes_on(rpc: RPCClient) -> None:
    raw = (await new_draft(rpc)).solved()
    # Everything that the merkle root and the witness commitment cover, and the root itself: a
    # flipped bit of the nonce, the time or the version can leave a valid block.
    positions = st.integers(36, 67) | st.integers(80, len(raw) - 1)
    flips = st.dictionaries(positions, st.integers(1, 255), min_size=1, max_size=4)

    for flip in _examples(flips, 60):
        mutated = bytearray(raw)
        for position, mask in flip.items():
            mutated[position] ^= mask
        try:
            answer = await rpc.call("submitblock", mutated.hex())
        except RPCError as error:
            answer = error.code
        assert answer not in (None, "inconclusive", "duplicate")
        assert answer == RPCErrorCode.DESERIALIZATION_ERROR or isinstance(answer, str)

    assert await rpc.call("getblockcount") == 0
    assert await rpc.call("submitblock", raw.hex()) is None


def _examples(strategy: st.SearchStrategy[Any], count: int) -> list[Any]:
    """``count`` examples, drawn ahead: an asynchronous test cannot be run by hypothesis."""
    drawn: list[Any] = []

    @settings(max_examples=count, database=None)
    @given(strategy)
    def draw(example: Any) -> None:
        drawn.append(example)

    draw()
    return drawn
