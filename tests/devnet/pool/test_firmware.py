"""What real firmware sends, seen in the field: every share that its work proves is accepted."""

import json
from pathlib import Path
from typing import Any

import pytest

from devnet.bitcoin.address import Network, decode_address_for
from devnet.bitcoin.hashing import sha256d
from devnet.rpc import RPCClient
from tests.devnet.pool.fake_node import FakeNode
from tests.devnet.pool.harness import ALICE, EASY, Client, Running, client, running_pool
from tests.devnet.pool.test_work import answer

MASK = 0x1FFFE000
FACES = ["0x{}", "{} ", "{}\0", " {}\n"]


@pytest.mark.parametrize("place", [2, 4])
async def test_leading_zeros_may_be_missing_in_every_number_of_a_share(
    running: Running, miner: Client, place: int
) -> None:
    job = await miner.start()
    params = miner.solve(job, EASY, nonce2=0x1E)
    short: list[Any] = list(params)
    short[place] = params[place].lstrip("0")
    assert short[place] != params[place]
    assert (await miner.ask("mining.submit", *short))["result"] is True
    [share] = await running.events.wait("share_submitted")
    # The event has the full form, whatever was sent: odd digits would be a dead letter.
    assert (share.nonce2, share.ntime, share.nonce) == tuple(params[2:])


@pytest.mark.parametrize("face", FACES)
async def test_prefixes_and_padding_around_the_numbers_of_a_share_mean_nothing(
    running: Running, miner: Client, face: str
) -> None:
    job = await miner.start()
    params = miner.solve(job, EASY, version_bits=0x2000, mask=MASK)
    sent = [params[0], *(face.format(item.lstrip("0") or "0") for item in params[1:])]
    sent[1] = params[1] + "\0"
    assert (await miner.ask("mining.submit", *sent))["result"] is True
    [share] = await running.events.wait("share_submitted")
    assert (share.nonce2, share.ntime, share.nonce) == tuple(params[2:5])
    assert (share.version_bits, share.valid) == ("00002000", True)


async def test_a_rejected_share_never_becomes_a_dead_letter(
    running: Running, miner: Client
) -> None:
    job = await miner.start()
    good = miner.solve(job, EASY)
    odd: list[Any] = ["1ec", "", "0x", "zz", "1" * 65, "é", None, 5, [], {"a": 1}]
    number = 0
    for place in (1, 2, 3, 4, 5):
        for value in odd:
            params: list[Any] = [*good, "00002000"]
            params[place] = value
            assert (await miner.ask("mining.submit", *params))["id"] is not None
            number += 1
            # Events.wait decodes each event by the contract, and fails if one does not fit.
            await running.events.wait("share_submitted", number)


async def test_a_miner_may_roll_versions_without_asking(running: Running, miner: Client) -> None:
    job = await miner.start()
    params = miner.solve(job, EASY, version_bits=0x2000, mask=MASK)
    assert (await miner.ask("mining.submit", *params))["result"] is True
    outside = [*params[:5], "20000000"]
    assert (await miner.ask("mining.submit", *outside))["error"][1] == "Invalid version mask"


@pytest.mark.parametrize("rolled", ["", " ", None, "0", "00000000"])
async def test_no_version_bits_can_be_said_in_many_ways(
    running: Running, miner: Client, rolled: str | None
) -> None:
    job = await miner.start()
    params = [*miner.solve(job, EASY), rolled]
    assert (await miner.ask("mining.submit", *params))["result"] is True
    [share] = await running.events.wait("share_submitted")
    assert share.version_bits in (None, "00000000")


async def test_params_after_the_version_bits_are_ignored(running: Running, miner: Client) -> None:
    job = await miner.start()
    params = [*miner.solve(job, EASY), None, "later extension", 5]
    assert (await miner.ask("mining.submit", *params))["result"] is True


@pytest.mark.parametrize("reading", ["bits of the mask", "rolled xor job"])
@pytest.mark.parametrize("version", [0x20000000, 0x30000000, 0x3FFFE004, -1])
@pytest.mark.parametrize("bits", [0x2000, MASK])
async def test_both_readings_of_version_rolling_count_whatever_the_nodes_version(
    tmp_path: Path, reading: str, version: int, bits: int
) -> None:
    """A job's version has no bits within the mask: the two readings would differ there."""
    template = answer(longpollid=None, version=version)
    fake = FakeNode(
        getblockchaininfo={"chain": "regtest"},
        getbestblockhash=template["previousblockhash"],
        getblocktemplate=template,
        submitblock=None,
    )
    async with (
        fake.running() as node,
        running_pool(tmp_path, node.url, block_difficulty=EASY) as running,
        client(running.port) as miner,
    ):
        job = await miner.start()
        assert job.version == version & 0xFFFFFFFF & ~MASK
        # Firmware mines the version whose bits within the mask are its own.
        rolled = job.version & ~MASK | bits
        sent = bits if reading == "bits of the mask" else rolled ^ job.version
        params = miner.solve(job, EASY, version_bits=bits, mask=MASK)
        params[5] = f"{sent:08x}"
        assert (await miner.ask("mining.submit", *params))["result"] is True
        [found] = await running.events.wait("block_found")
    [block] = [params[0] for method, params in fake.calls if method == "submitblock"]
    header = bytes.fromhex(block)[:80]
    assert int.from_bytes(header[:4], "little") == rolled
    assert sha256d(header)[::-1].hex() == found.hash


@pytest.mark.parametrize(
    ("wanted", "told"), [(533.7, 533), (1.0, 1), (2.999, 2), (0.7, 0.7), (0.0001, 0.0001)]
)
async def test_what_a_miner_is_told_is_what_its_shares_are_judged_by(
    tmp_path: Path, rpc: RPCClient, wanted: float, told: float
) -> None:
    async with (
        running_pool(tmp_path, rpc.url, startdiff=wanted) as running,
        client(running.port) as miner,
    ):
        job = await miner.start()
        assert miner.difficulty == told
        assert isinstance(miner.difficulty, int) is (told >= 1)
        [connected] = await running.events.wait("miner_connected")
        params = miner.solve(job, EASY)
        assert (await miner.ask("mining.submit", *params))["error"][1] == "Low difficulty share"
        [share] = await running.events.wait("share_submitted")
        assert (connected.initial_diff, share.difficulty) == (told, told)


async def test_a_suggestion_that_says_nothing_new_changes_nothing(
    running: Running, miner: Client
) -> None:
    await miner.start()
    await miner.ask("mining.suggest_difficulty", 5e-6)
    await running.events.wait("diff_updated")
    [session] = running.pool.sessions.values()
    # Vardiff found a better one since; the miner goes on repeating its wish.
    session.change_difficulty(2e-5)
    for again in (5e-6, "5e-6", "0.000005"):
        assert (await miner.ask("mining.suggest_difficulty", again))["result"] is True
    # The same wish by another method is no news either.
    minimum = {"minimum-difficulty.value": "5e-6"}
    answered = await miner.ask("mining.configure", ["minimum-difficulty"], minimum)
    assert answered["result"] == {"minimum-difficulty": True}
    assert miner.difficulty == 2e-5
    # Another wish is granted, and then the first one is new again.
    await miner.ask("mining.suggest_difficulty", 7e-6)
    await miner.ask("mining.suggest_difficulty", 5e-6)
    changes = [item.new_diff for item in await running.events.wait("diff_updated", 3)]
    assert changes == [5e-6, 7e-6, 5e-6]


@pytest.mark.parametrize("raw", ["3.0", "3", '"3"', "null", "-7", "1e2", "18446744073709551616"])
async def test_every_id_comes_back_as_it_was_sent(miner: Client, raw: str) -> None:
    await miner.send(f'{{"id": {raw}, "method": "mining.subscribe", "params": []}}\n'.encode())
    line = await miner.reader.readline()
    assert line.startswith(f'{{"id":{raw},'.encode())


@pytest.mark.parametrize("params", ['{"a": 1}', "{}", "null", "5", '"x"', None])
async def test_params_that_are_not_a_list_are_answered_under_their_id_and_are_no_fault(
    running: Running, miner: Client, params: str | None
) -> None:
    job = await miner.start()
    tail = "" if params is None else f', "params": {params}'
    for method in ("subscribe", "extranonce.subscribe", "submit", "configure", "ping") * 3:
        await miner.send(f'{{"id": 3.5, "method": "mining.{method}"{tail}}}\n'.encode())
        assert (await miner.line())["id"] == 3.5
    assert (await miner.ask("mining.submit", *miner.solve(job, EASY)))["result"] is True
    shares = await running.events.wait("share_submitted", 4)
    assert [share.reject_reason for share in shares] == ["Malformed"] * 3 + [None]


async def test_blank_lines_and_answers_to_our_notifications_are_passed_over(
    running: Running, miner: Client
) -> None:
    job = await miner.start()
    for _ in range(10):
        await miner.send(b'\r\n\0\n \0\n{"id": null, "result": true, "error": null}\n')
    line = json.dumps({"id": 9, "method": "mining.submit", "params": miner.solve(job, EASY)})
    await miner.send(line.encode() + b" \0\r\n")
    assert (await miner.line()) == {"id": 9, "result": True, "error": None}


@pytest.mark.parametrize(
    ("mask", "given"),
    [
        ("0x1fffe000", "1fffe000"),
        ("0X00FFE000", "00ffe000"),
        ("ffffffff", "1fffe000"),
        ("e000", "0000e000"),
        (0x1FFFE000, "1fffe000"),
        (None, "1fffe000"),
        ("1fffe000z", "00000000"),
    ],
)
async def test_a_version_mask_is_negotiated_however_it_is_written(
    miner: Client, mask: Any, given: str
) -> None:
    answered = await miner.ask(
        "mining.configure", ["version-rolling"], {"version-rolling.mask": mask}
    )
    assert answered["result"] == {
        "version-rolling": given != "00000000",
        "version-rolling.mask": given,
    }


async def test_extensions_may_come_without_parameters(miner: Client) -> None:
    for params in ([["version-rolling"]], [["version-rolling"], None], [["version-rolling"], {}]):
        answered = await miner.ask("mining.configure", *params)
        assert answered["result"]["version-rolling.mask"] == "1fffe000"


@pytest.mark.parametrize("value", [2e-6, "2e-6", " 0.000002\0"])
async def test_difficulties_may_be_texts(running: Running, miner: Client, value: Any) -> None:
    minimum = {"minimum-difficulty.value": value}
    answered = await miner.ask("mining.configure", ["minimum-difficulty"], minimum)
    assert answered["result"] == {"minimum-difficulty": True}
    await miner.start()
    [connected] = await running.events.wait("miner_connected")
    assert connected.initial_diff == 2e-6
    await miner.ask("mining.suggest_target", f"0x{0xFFFF << 208 << 20:x}")
    assert await miner.heard("mining.set_difficulty") == [2.0**-20]


@pytest.mark.parametrize(
    ("name", "worker"),
    [
        (f"{ALICE}_rig1", "rig1"),
        (f"{ALICE}/rig1", "rig1"),
        (f"{ALICE}+512", "512"),
        (f"{ALICE} ", ""),
        (f"bitcoin:{ALICE.upper()}.rig", "rig"),
    ],
)
async def test_user_names_are_taken_as_people_write_them(
    running: Running, miner: Client, name: str, worker: str
) -> None:
    job = await miner.start(name)
    assert (await miner.ask("mining.submit", *miner.solve(job, EASY)))["result"] is True
    # Some firmware trims the name later on.
    trimmed = miner.solve(job, EASY, nonce2=1)
    trimmed[0] = name.strip().lower()
    assert (await miner.ask("mining.submit", *trimmed))["result"] is True
    shares = await running.events.wait("share_submitted", 2)
    assert {(share.user, share.worker) for share in shares} == {(ALICE, worker)}


async def test_a_password_sets_the_first_difficulty_beside_the_tag(
    running: Running, miner: Client
) -> None:
    job = await miner.start(password="x; d=3e-6, tag=alice lang=en")  # noqa: S106  # what a miner sends, no secret
    assert miner.difficulty == 3e-6
    assert b"/TheBitcoinGame/alice/" in job.after
    [connected] = await running.events.wait("miner_connected")
    assert connected.initial_diff == 3e-6
    assert running.events.of("diff_updated") == []
    paid = decode_address_for(ALICE, Network.REGTEST).script_pubkey
    assert paid in job.after
