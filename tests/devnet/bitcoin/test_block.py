"""Headers, transactions and merkle trees agree with blocks of the real chain."""

from __future__ import annotations

import pbk
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devnet.bitcoin.block import Block, pack_block
from devnet.bitcoin.coinbase import (
    coinbase_transaction,
    has_witness_commitment,
    witness_commitment_script,
)
from devnet.bitcoin.compact_size import Reader, pack_compact_size
from devnet.bitcoin.hashing import NULL_HASH, from_display, to_display
from devnet.bitcoin.header import BlockHeader
from devnet.bitcoin.merkle import coinbase_branch, merkle_root, root_from_branch
from devnet.bitcoin.script import push, push_height
from devnet.bitcoin.subsidy import REGTEST_HALVING_INTERVAL, block_subsidy
from devnet.bitcoin.transaction import Transaction, TxInput, TxOutput

GENESIS_BLOCK = bytes.fromhex(
    "0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd"
    "7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d1dac2b7c"
    "0101000000010000000000000000000000000000000000000000000000000000000000000000ffff"
    "ffff4d04ffff001d0104455468652054696d65732030332f4a616e2f32303039204368616e63656c"
    "6c6f72206f6e206272696e6b206f66207365636f6e64206261696c6f757420666f722062616e6b73"
    "ffffffff0100f2052a01000000434104678afdb0fe5548271967f1a67130b7105cd6a828e03909a6"
    "7962e0ea1f61deb649f6bc3f4cef38c4f35504e51ec112de5c384df7ba0b8d578a4c702b6bf11d5f"
    "ac00000000"
)

# Block 100,000 of the main chain: its four transactions.
BLOCK_100000_TXIDS = [
    "8c14f0db3df150123e6f3dbbf30f8b955a8249b62ac1d1ff16284aefa3d06d87",
    "fff2525b8931402dd09222c50775608f75787bd2b87e56995a7bdd30f79702c4",
    "6359f0868171b1d194cbee1af2f16ea598ae8fad666d9b012c8ed2b79a236ec4",
    "e9a66845e05d5abc0ad04ec80f774a7e585c6e8db975962d069a522137b80c1d",
]
BLOCK_100000_ROOT = "f3e94742aca4b5ef85488dc37c06c3282295ffec960994b2c0d5ac2a25a95766"

hashes = st.binary(min_size=32, max_size=32)
inputs = st.builds(
    TxInput,
    prev_txid=hashes,
    prev_index=st.integers(0, 2**32 - 1),
    script_sig=st.binary(max_size=300),
    sequence=st.integers(0, 2**32 - 1),
    witness=st.lists(st.binary(max_size=300), max_size=3).map(tuple),
)
transactions = st.builds(
    Transaction,
    version=st.integers(-(2**31), 2**31 - 1),
    inputs=st.lists(inputs, min_size=1, max_size=3).map(tuple),
    outputs=st.lists(
        st.builds(
            TxOutput,
            value=st.integers(0, 21_000_000 * 10**8),
            script_pubkey=st.binary(max_size=300),
        ),
        max_size=3,
    ).map(tuple),
    lock_time=st.integers(0, 2**32 - 1),
)


def test_the_genesis_block_reads_hashes_and_packs_as_it_is() -> None:
    block = Block.unpack(GENESIS_BLOCK)

    assert block.header.hash_hex == (
        "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f"
    )
    assert (block.header.time, block.header.nonce) == (1231006505, 2083236893)
    assert block.header.meets(0xFFFF << 208)
    (coinbase,) = block.transactions
    assert [item.prev_txid for item in coinbase.inputs] == [NULL_HASH]
    assert coinbase.txid == block.header.merkle_root == merkle_root([coinbase.txid])
    assert coinbase.outputs[0].value == block_subsidy(0)
    assert block.pack() == GENESIS_BLOCK


def test_a_segwit_transaction_packs_as_it_is_and_has_the_txid_that_bitcoin_core_computes() -> None:
    # The signed P2WPKH example of BIP 143.
    raw = bytes.fromhex(
        "01000000000102fff7f7881a8099afa6940d42d1e7f6362bec38171ea3edf433541db4e4ad969f00"
        "000000494830450221008b9d1dc26ba6a9cb62127b02742fa9d754cd3bebf337f7a55d114c8e5cdd"
        "30be022040529b194ba3f9281a99f2b1c0a19c0489bc22ede944ccf4ecbab4cc618ef3ed01eeffff"
        "ffef51e1b804cc89d182d279655c3aa89e815b1b309fe287d9b2b55d57b90ec68a0100000000ffff"
        "ffff02202cb206000000001976a9148280b37df378db99f66f85c95a783a76ac7a6d5988ac9093510d"
        "000000001976a9143bde42dbee7e4dbe6a21b2d50ce2f0167faa815988ac000247304402203609e17b"
        "84f6a7d30c80bfa610b5b4542f32a8a0d5447a12fb1366d7f01cc44a0220573a954c4518331561406f"
        "90300e8f3358f51928d43c212a8caed02de67eebee0121025476c2e83188368da1ff3e292e7acafcdb"
        "3566bb0ad253f62fc70f07aeee635711000000"
    )

    transaction = Transaction.unpack(raw)

    assert transaction.pack() == raw
    assert bytes(pbk.Transaction(raw).txid) == transaction.txid
    assert [len(item.witness) for item in transaction.inputs] == [0, 2]


@given(transaction=transactions)
def test_every_transaction_reads_back_as_it_was_packed(
    transaction: Transaction,
) -> None:
    assert Transaction.unpack(transaction.pack()) == transaction
    stripped = Transaction.unpack(transaction.pack(witness=False))
    assert stripped.txid == transaction.txid
    assert not stripped.has_witness


@given(data=st.binary(max_size=400))
def test_arbitrary_bytes_are_a_block_or_a_value_error(data: bytes) -> None:
    for unpack in (Block.unpack, Transaction.unpack, BlockHeader.unpack):
        try:
            unpack(data)
        except ValueError:
            continue


@given(transaction=transactions, cut=st.integers(1, 60))
def test_a_shortened_transaction_is_never_read(transaction: Transaction, cut: int) -> None:
    raw = transaction.pack()

    with pytest.raises(ValueError, match="expected at offset"):
        Transaction.unpack(raw[: max(0, len(raw) - cut)])


def test_what_bitcoin_core_does_not_read_as_a_transaction_is_refused() -> None:
    start, end = "02000000", "00000000"
    no_stack = "0001" + "01" + "00" * 36 + "00" + "ffffffff" + "00" + "00"
    unknown_flag = "0002" + "01" + "00" * 36 + "00" + "ffffffff" + "00" + "00"
    bare = "01" + "00" * 36 + "00" + "ffffffff" + "00"

    assert Transaction.unpack(bytes.fromhex(start + bare + end)).version == 2
    for body, reason in (
        (no_stack, "no input has a witness"),
        (unknown_flag, "unknown flag"),
        (bare + "00", "bytes follow"),
    ):
        raw = bytes.fromhex(start + body + end)
        with pytest.raises(ValueError, match=reason):
            Transaction.unpack(raw)
    with pytest.raises(RuntimeError):
        pbk.Transaction(bytes.fromhex(start + no_stack + end))


def test_the_merkle_root_of_block_100000_is_the_one_in_its_header() -> None:
    txids = [from_display(text) for text in BLOCK_100000_TXIDS]

    assert to_display(merkle_root(txids)) == BLOCK_100000_ROOT
    branch = coinbase_branch(txids[1:])
    assert len(branch) == 2
    assert to_display(root_from_branch(txids[0], branch)) == BLOCK_100000_ROOT


@given(coinbase=hashes, others=st.lists(hashes, max_size=40))
def test_the_branch_leads_to_the_root_for_any_number_of_transactions(
    coinbase: bytes, others: list[bytes]
) -> None:
    branch = coinbase_branch(others)

    assert root_from_branch(coinbase, branch) == merkle_root([coinbase, *others])


@pytest.mark.parametrize(
    ("height", "script"),
    [
        (0, "00"),
        (1, "51"),
        (16, "60"),
        (17, "0111"),
        (127, "017f"),
        (128, "028000"),
        (255, "02ff00"),
        (256, "020001"),
        (32767, "02ff7f"),
        (32768, "03008000"),
        (227931, "035b7a03"),  # the first block of the main chain under BIP 34
        (500000, "0320a107"),
        (8388608, "0400008000"),
    ],
)
def test_heights_are_pushed_as_bip_34_wants_them(height: int, script: str) -> None:
    assert push_height(height).hex() == script


@pytest.mark.parametrize(
    ("size", "prefix"),
    [(0, "00"), (75, "4b"), (76, "4c4c"), (255, "4cff"), (256, "4d0001")],
)
def test_pushes_use_the_shortest_opcode(size: int, prefix: str) -> None:
    assert push(bytes(size)) == bytes.fromhex(prefix) + bytes(size)


def test_the_commitment_of_a_block_without_other_transactions_is_the_known_one() -> None:
    # default_witness_commitment of every template without transactions
    script = witness_commitment_script([])

    assert script.hex() == (
        "6a24aa21a9ede2f61c3f71d1defd3fa999dfa36953755c690689799962b48bebd836974e8cf9"
    )
    output = TxOutput(0, script)
    assert has_witness_commitment(coinbase_transaction(1, [output], script_sig_tail=b"x"))
    assert not has_witness_commitment(coinbase_transaction(1, [], script_sig_tail=b"x"))


@pytest.mark.parametrize("tail", [b"", bytes(100)])
def test_a_coinbase_script_outside_2_to_100_bytes_is_refused(tail: bytes) -> None:
    with pytest.raises(ValueError, match="2 to 100 bytes"):
        coinbase_transaction(1, [], script_sig_tail=tail)


def test_the_subsidy_halves_every_150_blocks_on_regtest_and_ends_at_zero() -> None:
    subsidy = [
        block_subsidy(height, REGTEST_HALVING_INTERVAL)
        for height in (0, 149, 150, 299, 300, 150 * 33, 150 * 100)
    ]

    assert subsidy == [5_000_000_000] * 2 + [2_500_000_000] * 2 + [1_250_000_000, 0, 0]
    assert block_subsidy(840_000) == 312_500_000


@given(value=st.integers(0, 0x02000000))
def test_compact_sizes_read_back(value: int) -> None:
    assert Reader(pack_compact_size(value)).compact_size() == value


@pytest.mark.parametrize("data", ["fd0100", "fe00010000", "ff0000000001000000", "fd01"])
def test_long_short_or_huge_compact_sizes_are_refused(data: str) -> None:
    with pytest.raises(ValueError, match=r"shortest|larger|expected at offset"):
        Reader(bytes.fromhex(data)).compact_size()


def test_a_header_with_a_field_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="out of range"):
        BlockHeader(1, bytes(32), bytes(32), 2**32, 0, 0).pack()
    with pytest.raises(ValueError, match="80 bytes"):
        pack_block(bytes(79), [])


@pytest.mark.parametrize("text", ["", "00" * 31, "zz" * 32, "00 " * 21 + "0", "é" * 64])
def test_what_is_not_64_hex_digits_is_no_hash(text: str) -> None:
    with pytest.raises(ValueError, match="hex"):
        from_display(text)
