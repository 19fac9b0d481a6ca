"""What a miner and the pool say to each other, with real work on a real chain."""

import json
from pathlib import Path
from typing import Any

import pytest

from devnet.bitcoin.address import Network, decode_address_for
from devnet.bitcoin.block import Block
from devnet.bitcoin.coinbase import has_witness_commitment
from devnet.bitcoin.script import push_height
from devnet.miner.job import Job
from devnet.rpc import RPCClient
from tbg_core.periods import iso_week
from tests.devnet.pool.harness import ALICE, EASY, Client, Running, client, running_pool
from tests.devnet.pool.test_hostile import Table

BOB = "bcrt1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3qzf4jry"
MAINNET = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"
BLOCK = 2e-6


async def block(rpc: RPCClient, block_hash: str) -> Block:
    return Block.unpack(bytes.fromhex(await rpc.call("getblock", block_hash, 0)))


async def test_the_handshake_brings_extranonce_difficulty_and_a_clean_job(miner: Client) -> None:
    answer = await miner.ask("mining.subscribe", "bitaxe/BM1370")
    subscriptions, nonce1, nonce2_length = answer["result"]
    assert [item[0] for item in subscriptions] == ["mining.set_difficulty", "mining.notify"]
    assert (len(bytes.fromhex(nonce1)), nonce2_length) == (4, 8)
    assert (await miner.ask("mining.extranonce.subscribe"))["result"] is True
    assert (await miner.ask("mining.authorize", f"{ALICE}.rig", "x"))["result"] is True
    assert await miner.heard("mining.set_difficulty") == [EASY]
    job = Job.parse(await miner.heard("mining.notify"))
    assert job.clean
    # An authorisation that is repeated is no new one.
    for name in (f"{ALICE}.rig", f"bitcoin:{ALICE.upper()}_rig "):
        assert (await miner.ask("mining.authorize", name, "x"))["result"] is True
    assert miner.notifications == []


async def test_an_accepted_share_is_answered_and_reported_in_full(
    running: Running, miner: Client
) -> None:
    # It comes from a task of its own.
    await running.events.wait("new_block_network")
    job = await miner.start(f"{ALICE}.rig.2")
    params = miner.solve(job, EASY)
    answer = await miner.ask("mining.submit", *params)
    assert (answer["result"], answer["error"]) == (True, None)
    [share] = await running.events.wait("share_submitted")
    assert share.valid
    assert (share.user, share.worker, share.ip) == (ALICE, "rig.2", "127.0.0.1")
    assert share.difficulty == EASY <= share.share_diff
    assert (share.job_id, share.nonce2, share.ntime, share.nonce) == tuple(params[1:])
    assert share.user_agent == "test/1.0"
    assert share.network_difficulty == running.pool.works.current.network_difficulty < 1e-9
    [connected] = running.events.of("miner_connected")
    assert (connected.initial_diff, connected.protocol) == (EASY, "stratum_v1")
    assert connected.client_id == share.client_id
    bests = running.events.of("share_best_diff")
    assert [best.period for best in bests] == ["session", "week", "alltime"]
    assert {(best.previous_best_diff, best.new_best_diff) for best in bests} == {
        (0.0, share.share_diff)
    }
    share_event = next(item for item in running.events.all if item.event == "share_submitted")
    assert {best.week for best in bests} == {iso_week(share_event.timestamp)}
    kinds = [item.event for item in running.events.all]
    assert kinds[-4:] == ["share_best_diff"] * 3 + ["share_submitted"]
    assert [item.seq for item in running.events.all] == list(range(1, len(kinds) + 1))
    assert {item.source for item in running.events.all} == {"hosted"}


async def test_a_solved_block_pays_its_miner_and_gives_everybody_clean_jobs(
    tmp_path: Path, rpc: RPCClient
) -> None:
    async with (
        running_pool(tmp_path, rpc.url, block_difficulty=BLOCK) as running,
        client(running.port) as alice,
        client(running.port) as bob,
    ):
        job = await alice.start(f"{ALICE}.rig", "tag=alice")
        await bob.start(f"{BOB}.rig")
        [first] = await running.events.wait("new_block_network")
        assert first.height == 0
        answer = await alice.ask("mining.submit", *alice.solve(job, BLOCK))
        assert answer["result"] is True
        renewed = await bob.clean_job()
        [found] = await running.events.wait("block_found")
        assert await rpc.call("getbestblockhash") == found.hash
        assert renewed.prev_hash[::-1].hex() == found.hash
        solved = await block(rpc, found.hash)
        coinbase = solved.transactions[0]
        paid = decode_address_for(ALICE, Network.REGTEST).script_pubkey
        assert coinbase.outputs[0].script_pubkey == paid
        assert coinbase.outputs[0].value == found.reward_sats == 50 * 100_000_000
        assert found.fees_sats == 0
        assert has_witness_commitment(coinbase)
        script = coinbase.inputs[0].script_sig
        assert script.startswith(push_height(1))
        assert script.endswith(b"/TheBitcoinGame/alice/")
        assert found.coinbase_sig == "/TheBitcoinGame/alice/"
        assert (found.user, found.worker, found.height) == (ALICE, "rig", 1)
        assert found.difficulty >= BLOCK > found.network_difficulty
        header = await rpc.call("getblockheader", found.hash)
        assert (header["confirmations"], header["nonce"]) == (1, int(found.nonce, 16))
        assert header["previousblockhash"] == found.prev_hash
        _, second = await running.events.wait("new_block_network", 2)
        assert (second.height, second.hash, second.prev_hash) == (1, found.hash, found.prev_hash)
        [share] = await running.events.wait("share_submitted")
        assert share.hash == found.hash
        kinds = [item.event for item in running.events.all if item.event != "new_block_network"]
        assert kinds == [
            "miner_connected",
            "miner_connected",
            "block_found",
            *["share_best_diff"] * 3,
            "share_submitted",
        ]


async def test_blocks_can_be_found_one_after_the_other(tmp_path: Path, rpc: RPCClient) -> None:
    async with (
        running_pool(tmp_path, rpc.url, block_difficulty=BLOCK) as running,
        client(running.port) as miner,
    ):
        job = await miner.start()
        for height in range(1, 6):
            await miner.ask("mining.submit", *miner.solve(job, BLOCK))
            job = await miner.clean_job()
            assert await rpc.call("getblockcount") == height
        blocks = await running.events.wait("block_found", 5)
    # Each is reported when the node has answered for it, so the order is not promised.
    assert sorted(item.height for item in blocks) == [1, 2, 3, 4, 5]
    assert running.pool.blocks.reported == 5


async def test_a_foreign_block_makes_old_jobs_stale(
    running: Running, rpc: RPCClient, miner: Client
) -> None:
    old = await miner.start()
    await rpc.call("generatetoaddress", 1, BOB)
    new = await miner.clean_job()
    answer = await miner.ask("mining.submit", *miner.solve(old, EASY))
    assert answer["error"] == [21, "Stale share", None]
    [share] = await running.events.wait("share_submitted")
    assert share.reject_reason == "Stale"
    assert share.share_diff >= EASY
    assert (await miner.ask("mining.submit", *miner.solve(new, EASY)))["result"] is True


async def test_each_bad_share_gets_its_standard_code_and_text(
    running: Running, miner: Client
) -> None:
    job = await miner.start()
    good = miner.solve(job, EASY)
    stranger = ["mining.submit", f"{ALICE}.other", *good[1:]]
    late = f"{job.ntime + 70_000:08x}"
    early = f"{job.ntime - 1:08x}"
    cases: list[tuple[list[Any], int, str, str, bool]] = [
        (stranger[1:], 24, "Unauthorized worker", "Worker mismatch", False),
        ([good[0], "ffff", *good[2:]], 21, "Job not found", "Invalid JobID", False),
        ([*good[:3], late, good[4]], 20, "Ntime out of range", "Ntime out of range", False),
        ([*good[:3], early, good[4]], 20, "Ntime out of range", "Ntime out of range", False),
        ([*good, "00001000"], 20, "Invalid version mask", "Invalid version mask", False),
        (
            miner.solve(job, 1e-9, below=EASY, nonce2=7),
            23,
            "Low difficulty share",
            "Above target",
            True,
        ),
        (good[:4], 20, "Malformed share", "Malformed", False),
        ([*good[:2], "00" * 9, *good[3:]], 20, "Malformed share", "Malformed", False),
        ([*good[:4], "0" * 9], 20, "Malformed share", "Malformed", False),
        ([*good, "2000x"], 20, "Malformed share", "Malformed", False),
        ([*good, {}], 20, "Malformed share", "Malformed", False),
        ([*good[:4], "zz zz zz"], 20, "Malformed share", "Malformed", False),
        ([*good[:4], None], 20, "Malformed share", "Malformed", False),
    ]
    for number, (params, code, text, reason, hashed) in enumerate(cases, 1):
        answer = await miner.ask("mining.submit", *params)
        assert (answer["result"], answer["error"]) == (None, [code, text, None]), reason
        share = (await running.events.wait("share_submitted", number))[-1]
        assert (share.valid, share.reject_reason) == (False, reason)
        assert (share.share_diff is not None) is hashed is (share.hash is not None)
        assert share.difficulty == EASY
    assert (await miner.ask("mining.submit", *good))["result"] is True
    twice = await miner.ask("mining.submit", *good)
    assert twice["error"] == [22, "Duplicate share", None]
    await running.events.wait("share_submitted", len(cases) + 2)
    # No rejected share was a best, and all were counted.
    assert len(running.events.of("share_best_diff")) == 3
    miner.writer.close()
    [left] = await running.events.wait("miner_disconnected")
    assert (left.shares_accepted, left.shares_rejected) == (1, len(cases) + 1)
    assert left.reason == "closed by the miner"
    assert left.best_diff_session == running.events.of("share_best_diff")[0].new_best_diff


async def test_a_share_before_the_handshake_belongs_to_no_miner(
    running: Running, miner: Client
) -> None:
    params = [ALICE, "1", "00" * 8, "00000000", "00000000"]
    assert (await miner.ask("mining.submit", *params))["error"][0] == 25
    assert (await miner.ask("mining.authorize", ALICE, "x"))["error"][0] == 25
    await miner.ask("mining.subscribe")
    answer = await miner.ask("mining.submit", *params)
    assert answer["error"] == [24, "Unauthorized worker", None]
    assert running.pool.refused_strangers == 2
    await running.settled()
    assert running.events.of("share_submitted") == []


@pytest.mark.parametrize(
    ("user", "said"),
    [
        (MAINNET, "address of main, not of regtest"),
        ("alice", "must begin with your address"),
        ("", "is your address"),
        (7, "is your address"),
        (ALICE[:-1] + "q", "checksum"),
        ("bcrt1sw50qt2uwha", "anybody could spend"),
    ],
)
async def test_a_user_who_cannot_be_paid_is_told_why(miner: Client, user: Any, said: str) -> None:
    await miner.ask("mining.subscribe")
    answer = await miner.ask("mining.authorize", user, "x")
    code, text, _ = answer["error"]
    assert code == 24
    assert said in text


async def test_one_connection_serves_one_address(miner: Client) -> None:
    await miner.start()
    answer = await miner.ask("mining.authorize", BOB, "x")
    assert answer["error"][0] == 24
    assert "open a second one" in answer["error"][1]


async def test_a_proxy_has_several_workers_of_an_address_on_one_connection(
    running: Running, miner: Client
) -> None:
    job = await miner.start(f"{ALICE}.one")
    assert (await miner.ask("mining.authorize", f"{ALICE}.two", "x"))["result"] is True
    assert (await miner.ask("mining.authorize", f"{ALICE}_two", "x"))["result"] is True
    for number, worker in enumerate(("one", "two", "two")):
        share = miner.solve(job, EASY, nonce2=number)
        await miner.ask("mining.submit", f"{ALICE}.{worker}", *share[1:])
    # A worker that did not authorise is refused, and counts for the first one.
    answer = await miner.ask("mining.submit", f"{ALICE}.three", *miner.solve(job, EASY)[1:])
    assert answer["error"][1] == "Unauthorized worker"
    await miner.ask("mining.suggest_difficulty", 5e-6)
    miner.writer.close()
    gone = await running.events.wait("miner_disconnected", 2)
    shares = running.events.of("share_submitted")
    assert [(item.worker, item.valid) for item in shares] == [
        ("one", True),
        ("two", True),
        ("two", True),
        ("one", False),
    ]
    assert [item.worker for item in running.events.of("miner_connected")] == ["one", "two"]
    assert [item.worker for item in running.events.of("diff_updated")] == ["one", "two"]
    counts = {item.worker: (item.shares_accepted, item.shares_rejected) for item in gone}
    assert counts == {"one": (1, 1), "two": (2, 0)}


def test_a_connection_has_a_limit_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devnet.pool.mining.MAX_WORKERS", 2)
    table = Table()
    table.say("mining.subscribe", [])
    for worker in ("one", "two", "three", "two"):
        table.say("mining.authorize", [f"{ALICE}.{worker}", "x"])
    answers = [json.loads(line) for line in table.sent]
    assert [item["result"] for item in answers if "method" not in item][1:] == [
        True,
        True,
        None,
        True,
    ]


async def test_version_rolling_is_negotiated_and_its_shares_count(
    running: Running, miner: Client
) -> None:
    answer = await miner.ask(
        "mining.configure",
        ["version-rolling", "subscribe-extranonce", "info"],
        {"version-rolling.mask": "ffffe000", "version-rolling.min-bit-count": 2},
    )
    assert answer["result"] == {
        "version-rolling": True,
        "version-rolling.mask": "1fffe000",
        "subscribe-extranonce": True,
        "info": False,
    }
    job = await miner.start()
    bits = 0x00C0_0000 | 0x2000
    params = miner.solve(job, EASY, version_bits=bits, mask=0x1FFFE000)
    assert (await miner.ask("mining.submit", *params))["result"] is True
    [share] = await running.events.wait("share_submitted")
    assert share.version_bits == "00c02000"
    outside = [*params[:5], "20000000"]
    assert (await miner.ask("mining.submit", *outside))["error"][1] == "Invalid version mask"


async def test_a_block_with_rolled_version_bits_is_taken_by_the_node(
    tmp_path: Path, rpc: RPCClient
) -> None:
    async with (
        running_pool(tmp_path, rpc.url, block_difficulty=BLOCK) as running,
        client(running.port) as miner,
    ):
        await miner.ask("mining.configure", ["version-rolling"], {})
        job = await miner.start()
        params = miner.solve(job, BLOCK, version_bits=0x1FFF_E000, mask=0x1FFF_E000)
        await miner.ask("mining.submit", *params)
        [found] = await running.events.wait("block_found")
        assert (await rpc.call("getblockheader", found.hash))["version"] == 0x3FFF_E000


async def test_a_suggested_difficulty_is_taken_within_the_bounds(
    running: Running, miner: Client
) -> None:
    job = await miner.start()
    assert (await miner.ask("mining.suggest_difficulty", 5e-6))["result"] is True
    assert await miner.heard("mining.set_difficulty") == [5e-6]
    [changed] = await running.events.wait("diff_updated")
    assert (changed.old_diff, changed.new_diff, changed.reason) == (EASY, 5e-6, "suggest")
    # The job of before is held to the difficulty of before.
    between = miner.solve(job, EASY, below=5e-6)
    assert (await miner.ask("mining.submit", *between))["result"] is True
    [share] = await running.events.wait("share_submitted")
    assert share.difficulty == EASY
    assert (await miner.ask("mining.suggest_difficulty", 1e-12))["result"] is True
    assert await miner.heard("mining.set_difficulty") == [1e-9]
    for nonsense in (0, -1, "many", True, None):
        assert (await miner.ask("mining.suggest_difficulty", nonsense))["error"][0] == 20
    target = f"{0xFFFF << 208 << 20:064x}"
    assert (await miner.ask("mining.suggest_target", target))["result"] is True
    assert await miner.heard("mining.set_difficulty") == [2.0**-20]
    assert (await miner.ask("mining.suggest_target", "xyz"))["error"][0] == 20


async def test_a_suggestion_before_authorising_is_the_first_difficulty(
    running: Running, miner: Client
) -> None:
    await miner.ask("mining.subscribe")
    await miner.ask("mining.suggest_difficulty", 3e-6)
    await miner.ask("mining.authorize", ALICE, "x")
    assert await miner.heard("mining.set_difficulty") == [3e-6]
    [connected] = await running.events.wait("miner_connected")
    assert (connected.initial_diff, connected.worker) == (3e-6, "")
    assert running.events.of("diff_updated") == []


async def test_vardiff_raises_a_fast_miner_and_says_so(tmp_path: Path, rpc: RPCClient) -> None:
    async with (
        running_pool(tmp_path, rpc.url, startdiff=1e-8) as running,
        client(running.port) as miner,
    ):
        job = await miner.start()
        number = 0
        while not running.events.of("diff_updated"):
            number += 1
            assert number < 200
            params = miner.solve(job, 1e-8, nonce2=number)
            assert (await miner.ask("mining.submit", *params))["result"] is True
            await running.events.wait("share_submitted", number)
        # The first share starts the clock; 72 more of them are enough.
        assert number == 73
        [changed] = running.events.of("diff_updated")
        assert changed.reason == "vardiff"
        assert changed.new_diff > changed.old_diff == 1e-8
        assert await miner.heard("mining.set_difficulty") == [changed.new_diff]
        kinds = [item.event for item in running.events.all]
        assert kinds[kinds.index("diff_updated") + 1] == "share_submitted"


async def test_jobs_are_renewed_between_blocks(tmp_path: Path, rpc: RPCClient) -> None:
    async with (
        running_pool(tmp_path, rpc.url, update_interval=0.2) as running,
        client(running.port) as miner,
    ):
        first = await miner.start()
        second = Job.parse(await miner.heard("mining.notify"))
        assert not second.clean
        assert second.job_id != first.job_id
        for number, job in enumerate((first, second)):
            params = miner.solve(job, EASY, nonce2=number)
            assert (await miner.ask("mining.submit", *params))["result"] is True


async def test_hashrates_are_reported_for_each_worker_and_for_the_user(
    tmp_path: Path, rpc: RPCClient
) -> None:
    async with (
        running_pool(tmp_path, rpc.url, hashrate_interval=0.1) as running,
        client(running.port) as one,
        client(running.port) as two,
    ):
        for worker, miner in (("one", one), ("two", two)):
            job = await miner.start(f"{ALICE}.{worker}")
            assert (await miner.ask("mining.submit", *miner.solve(job, EASY)))["result"] is True
        await running.events.until(
            lambda: (
                {"one", "two", ""} <= {item.worker for item in running.events.of("hashrate_update")}
            )
        )
        updates = {item.worker: item for item in running.events.of("hashrate_update")}
    assert set(updates) == {"one", "two", ""}
    assert {item.user for item in updates.values()} == {ALICE}
    assert updates["one"].hashrate_1m > updates["one"].hashrate_5m > updates["one"].hashrate_24h > 0
