"""Work: what miners are told makes the block that the node is given."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devnet.bitcoin.address import Network, decode_address_for
from devnet.bitcoin.block import Block
from devnet.bitcoin.coinbase import coinbase_transaction
from devnet.bitcoin.hashing import sha256d, to_display
from devnet.bitcoin.header import BlockHeader
from devnet.bitcoin.merkle import merkle_root
from devnet.bitcoin.script import MAX_COINBASE_SCRIPT_SIG
from devnet.bitcoin.transaction import TxOutput
from devnet.miner.job import Job
from devnet.pool.config import PoolConfig
from devnet.pool.rejection import Rejection
from devnet.pool.share import Solution, Submission, prove, solves
from devnet.pool.work import (
    Payout,
    Template,
    TemplateError,
    Work,
    hardest,
    signature_with_root,
    signature_with_tag,
    swap_words,
)
from devnet.pool.works import Works
from tests.devnet.pool.harness import ALICE

PAYOUT = Payout(decode_address_for(ALICE, Network.REGTEST).script_pubkey, "/TheBitcoinGame/")


def answer(transactions: int = 0, **changes: Any) -> dict[str, Any]:
    """A getblocktemplate answer; its transactions are any that have a txid."""
    entries = []
    for number in range(transactions):
        transaction = coinbase_transaction(number + 100, [TxOutput(number, b"\x51")])
        entries.append(
            {
                "data": transaction.pack().hex(),
                "txid": to_display(transaction.txid),
                "fee": 100 + number,
            }
        )
    return {
        "version": 0x20000000,
        "previousblockhash": "0f" * 31 + "aa",
        "height": 868_001,
        "bits": "207fffff",
        "curtime": 1_795_330_000,
        "coinbasevalue": 312_500_000,
        "transactions": entries,
        "default_witness_commitment": "6a24aa21a9ed" + "07" * 32,
        "longpollid": "x",
    } | changes


def work(**changes: Any) -> Work:
    return Work(1, "00000001", Template.parse(answer(**changes)), 4, 8)


@settings(max_examples=25)
@given(
    transactions=st.integers(0, 9),
    height=st.integers(1, 2**31 - 1),
    nonce=st.integers(0, 2**32 - 1),
    extranonce=st.binary(min_size=12, max_size=12),
    bits=st.integers(0, 2**32 - 1),
    commitment=st.booleans(),
    signature=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=59),
)
def test_the_miners_header_is_the_blocks_header(
    transactions: int,
    height: int,
    nonce: int,
    extranonce: bytes,
    bits: int,
    commitment: bool,
    signature: str,
) -> None:
    """From mining.notify alone a miner makes the header of the block that we submit."""
    payout = Payout(PAYOUT.script_pubkey, signature)
    changes: dict[str, Any] = {"height": height}
    if not commitment:
        changes["default_witness_commitment"] = None
    made = work(transactions=transactions, **changes)
    job = Job.parse(made.notify_params(payout, clean=True))
    mask = 0x1FFFE000
    version = job.version & ~mask | bits & mask
    submission = Submission("u", job.job_id, extranonce[4:], job.ntime, nonce, bits & mask)
    proof = prove(made, payout, extranonce[:4], submission, mask)
    assert isinstance(proof, Solution)
    assert proof.header == job.header(extranonce, version) + nonce.to_bytes(4, "little")
    block = Block.unpack(made.block(payout, extranonce, proof.header))
    assert block.header.hash == proof.hash == sha256d(proof.header)
    assert block.header.merkle_root == merkle_root([item.txid for item in block.transactions])
    assert len(block.transactions) == 1 + transactions
    coinbase = block.transactions[0]
    script = coinbase.inputs[0].script_sig
    assert extranonce in script
    assert script.endswith(signature.encode())
    assert len(script) <= MAX_COINBASE_SCRIPT_SIG
    assert coinbase.has_witness is commitment
    assert coinbase.outputs[0] == TxOutput(312_500_000, payout.script_pubkey)


@pytest.mark.parametrize(
    "broken",
    [
        None,
        [],
        "template",
        {},
        answer(bits="00000000"),
        answer(bits="zz"),
        answer(previousblockhash="00"),
        answer(height="high"),
        answer(transactions=1) | {"transactions": [{"data": "00"}]},
        answer(transactions=1) | {"transactions": 5},
        answer(default_witness_commitment="xx"),
        answer(coinbasevalue=-1),
        answer(coinbasevalue=float("inf")),
        answer(height=2**31),
        answer(curtime=-5),
        answer(version=2**31),
    ],
)
def test_a_template_that_makes_no_sense_is_refused(broken: Any) -> None:
    with pytest.raises(TemplateError, match="block template"):
        Template.parse(broken)


def test_fees_are_the_sum_of_the_transactions_fees() -> None:
    assert Template.parse(answer(transactions=3)).fees == 303


def test_the_previous_hash_is_written_in_swapped_words() -> None:
    assert swap_words(bytes(range(8))) == bytes([3, 2, 1, 0, 7, 6, 5, 4])


def test_bits_outside_the_mask_and_times_outside_the_range_are_refused() -> None:
    made = work()
    now = made.template.curtime

    def verdict(ntime: int, bits: int | None) -> Solution | Rejection:
        submission = Submission("u", made.job_id, bytes(8), ntime, 0, bits)
        return prove(made, PAYOUT, bytes(4), submission, 0x1FFFE000)

    assert verdict(now, 0x20000000) is Rejection.VERSION_MASK
    assert verdict(now, 0x00001000) is Rejection.VERSION_MASK
    assert verdict(now - 1, None) is Rejection.NTIME
    assert verdict(now + 7001, None) is Rejection.NTIME
    assert isinstance(verdict(now + 7000, 0x1FFFE000), Solution)


def test_the_latest_time_of_a_share_counts_from_now_if_the_template_is_old() -> None:
    made = work()
    now = made.template.curtime + 10_000  # no node has given a template since

    def verdict(ntime: int) -> Solution | Rejection:
        submission = Submission("u", made.job_id, bytes(8), ntime, 0, None)
        return prove(made, PAYOUT, bytes(4), submission, 0x1FFFE000, now)

    assert isinstance(verdict(now + 7000), Solution)
    assert verdict(now + 7001) is Rejection.NTIME


def test_a_version_with_the_top_bit_set_is_signed_in_the_header() -> None:
    made = work(version=-1)
    job = Job.parse(made.notify_params(PAYOUT, clean=False))
    assert job.version == 0xFFFFFFFF
    proof = prove(
        made, PAYOUT, bytes(4), Submission("u", "1", bytes(8), job.ntime, 0, None), 0x1FFFE000
    )
    assert isinstance(proof, Solution)
    assert BlockHeader.unpack(proof.header).version == -1


def test_a_block_needs_the_networks_target_and_our_threshold() -> None:
    easy, real = work(), work(bits="1d00ffff")

    def solution(made: Work, value: int, share_diff: float) -> Solution:
        return Solution(made, PAYOUT, b"", b"", value.to_bytes(32, "little"), share_diff)

    assert solves(solution(easy, 1 << 200, 0.6), 0.5)
    assert not solves(solution(easy, 1 << 200, 0.4), 0.5)
    assert solves(solution(real, real.target, 1.0), None)
    assert not solves(solution(real, real.target + 1, 1.0), None)
    assert hardest(easy, 0.5) == 0.5
    assert hardest(real, None) == 1.0


def test_the_last_signed_root_of_receipts_stands_behind_the_signature(tmp_path: Path) -> None:
    ours, head = "/TheBitcoinGame/", tmp_path / "head.json"
    head.write_text(json.dumps({"size": 1, "root": "00" * 32, "last": "5182df5b" + "11" * 28}))
    assert signature_with_root(ours, None) == ours
    assert signature_with_root(ours, tmp_path) == ours  # no key has signed it
    (tmp_path / "head.json.sig").write_bytes(bytes(64))
    assert signature_with_root(ours, tmp_path) == "/TheBitcoinGame/5182df5b/"
    # The longest signature with both: a coinbase's script has 100 bytes at most.
    longest = signature_with_tag(signature_with_root("x" * 38, tmp_path), "t" * 20)
    payout = Payout(PAYOUT.script_pubkey, longest)
    made = Work(1, "01" * 8, Template.parse(answer()), 8, 8)
    made.block(payout, bytes(16), bytes(80))  # refuses a longer script
    for wrong in ("", "[]", '{"last": null}', '{"last": "xy"}', "[" * 100_000):
        head.write_text(wrong)
        assert signature_with_root(ours, tmp_path) == ours


def test_a_tag_stands_behind_the_signature() -> None:
    assert signature_with_tag("/TheBitcoinGame/", "alice") == "/TheBitcoinGame/alice/"
    assert signature_with_tag("/TheBitcoinGame/", "") == "/TheBitcoinGame/"


def test_two_works_of_the_same_template_share_no_header() -> None:
    """Else a share of the one could be sent again for the other."""
    template = Template.parse(answer())
    first, second = (
        Work(serial, f"{serial:016x}", template, 4, 8).header(
            PAYOUT, bytes(12), 0x20000000, template.curtime, 0
        )
        for serial in (1, 2)
    )
    assert first != second


def test_work_without_its_transactions_makes_no_block_but_the_same_jobs() -> None:
    made = work(transactions=5)
    before = made.notify_params(PAYOUT, clean=False)
    assert made.complete
    made.strip()
    assert made.template.transactions == ()
    assert not made.complete
    assert made.notify_params(PAYOUT, clean=False) == before


class Times:
    """Works on a clock that a test turns."""

    def __init__(self) -> None:
        self.now = 0.0
        config, _ = PoolConfig.read(None, {})
        self.works = Works(config, Network.REGTEST, self.template(1), lambda: self.now)

    def template(self, tip: int) -> Template:
        return Template.parse(answer(transactions=2, previousblockhash=f"{tip:064x}"))

    def renew(self, tip: int, after: float) -> Work:
        """A new template ``after`` seconds later; returns the work that it replaces."""
        self.now += after
        replaced = self.works.current
        self.works.renew(self.template(tip))
        return replaced


def test_the_current_job_never_expires() -> None:
    times = Times()
    times.now = 1e9
    assert times.works.find(times.works.current.job_id) is times.works.current


def test_a_job_is_known_for_600_seconds_after_it_was_replaced() -> None:
    times = Times()
    first = times.renew(1, after=5000.0)  # the node was away for long: the job was in use
    times.renew(1, after=600.0)
    assert times.works.find(first.job_id) is first
    times.renew(1, after=1.0)
    assert times.works.find(first.job_id) is None


def test_a_node_that_freezes_makes_no_job_old() -> None:
    times = Times()
    first = times.renew(1, after=30.0)
    times.now += 100_000.0
    assert times.works.find(first.job_id) is first


def test_work_on_the_tip_before_can_make_a_block_for_two_minutes() -> None:
    times = Times()
    older = times.renew(1, after=30.0)
    last = times.renew(2, after=30.0)
    times.works.strip()
    assert (older.stale, older.complete, last.stale, last.complete) == (True, True, True, True)
    times.now += 121.0
    times.works.strip()
    assert not older.complete
    assert not last.complete
    assert times.works.current.complete


def test_work_two_tips_behind_makes_no_block() -> None:
    times = Times()
    first = times.renew(2, after=30.0)
    second = times.renew(3, after=1.0)
    assert not first.complete
    assert second.complete


def test_more_payouts_than_are_kept_change_no_header(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devnet.pool.work.PAYOUTS_KEPT", 2)
    made = work()
    payouts = [Payout(PAYOUT.script_pubkey, f"/{number}/") for number in range(5)]

    def headers() -> list[bytes]:
        return [made.header(item, bytes(12), 0x20000000, 0, 0) for item in payouts]

    assert headers() == headers()
    assert len(set(headers())) == 5
