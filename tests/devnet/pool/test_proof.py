"""Week and all-time bests and blocks carry a proof that anybody can check with hashlib alone."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from devnet.bitcoin.address import Network, decode_address_for
from tests.devnet.pool.fake_node import FakeNode
from tests.devnet.pool.harness import ALICE, EASY, Running, client, running_pool
from tests.devnet.pool.test_work import answer


def double(data: bytes) -> bytes:
    return sha256(sha256(data).digest()).digest()


def verify(proof: dict[str, Any], claimed_hash: str, claimed_diff: float) -> bytes:
    """Checks a proof from first principles; returns its coinbase."""
    assert sorted(proof) == ["branch", "coinbase", "header"]
    header = bytes.fromhex(proof["header"])
    assert len(header) == 80
    digest = double(header)
    assert digest[::-1].hex() == claimed_hash
    assert (0xFFFF << 208) / int.from_bytes(digest, "little") == claimed_diff
    coinbase = bytes.fromhex(proof["coinbase"])
    root = double(coinbase)
    for sibling in proof["branch"]:
        root = double(root + bytes.fromhex(sibling))
    assert header[36:68] == root
    return coinbase


def template(**changes: Any) -> dict[str, Any]:
    return answer(**changes, longpollid=None)


async def events_of_one_block(folder: Path, entries: dict[str, Any], password: str) -> Running:
    """The events of a share that is a block and a best of every period."""
    fake = FakeNode(
        getblockchaininfo={"chain": "regtest"},
        getbestblockhash=entries["previousblockhash"],
        getblocktemplate=entries,
        submitblock=None,
    )
    async with (
        fake.running() as node,
        running_pool(folder, node.url, block_difficulty=EASY) as running,
        client(running.port) as miner,
    ):
        job = await miner.start(password=password)
        params = miner.solve(job, EASY, version_bits=0x2000, mask=0x1FFFE000)
        assert (await miner.ask("mining.submit", *params))["result"] is True
        await running.events.wait("share_submitted")
    return running


def data_of(running: Running, event: str) -> list[dict[str, Any]]:
    """The data of the events of one kind, as they went over the socket."""
    return [json.loads(item.raw_data) for item in running.events.all if item.event == event]


@pytest.mark.parametrize("transactions", [0, 1, 2, 7])
async def test_a_proof_holds_from_first_principles(tmp_path: Path, transactions: int) -> None:
    running = await events_of_one_block(tmp_path, template(transactions=transactions), "tag=alice")
    [share] = data_of(running, "share_submitted")
    [found] = data_of(running, "block_found")
    bests = {item["period"]: item for item in data_of(running, "share_best_diff")}
    assert sorted(bests) == ["alltime", "session", "week"]
    assert "proof" not in bests["session"]
    script = decode_address_for(ALICE, Network.REGTEST).script_pubkey
    for data in (found, bests["week"], bests["alltime"]):
        coinbase = verify(data["proof"], share["hash"], share["share_diff"])
        assert script in coinbase
        assert b"/TheBitcoinGame/alice/" in coinbase
    assert len(found["proof"]["branch"]) == transactions.bit_length()


async def test_a_proof_that_is_too_large_is_left_out_and_its_event_is_not(tmp_path: Path) -> None:
    # A coinbase output as long as no node makes it.
    entries = template(default_witness_commitment="6a" + "07" * 2500)
    running = await events_of_one_block(tmp_path, entries, "x")
    assert len(running.events.of("block_found")) == 1
    assert len(running.events.of("share_best_diff")) == 3
    assert not any(b"proof" in item.raw_data for item in running.events.all)
