"""Every RPC answers with bitcoind's fields, and with bitcoind's codes when it cannot."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from devnet.bitcoin.header import BlockHeader
from devnet.node.methods import Methods
from devnet.node.node import Node
from devnet.rpc import RPCClient
from tbg_core.rpc import RPCError, RPCErrorCode
from tests.devnet.node.blocks import ADDRESS
from tests.devnet.node.conftest import PATIENCE, running_node

GENESIS = "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206"
SEGWIT = {"rules": ["segwit"]}


async def error_code(rpc: RPCClient, method: str, *params: Any) -> int:
    with pytest.raises(RPCError) as caught:
        await rpc.call(method, *params)
    return caught.value.code


async def test_a_fresh_chain_holds_regtests_genesis_block(rpc: RPCClient) -> None:
    assert await rpc.call("getblockcount") == 0
    assert await rpc.call("getbestblockhash") == GENESIS
    assert await rpc.call("getblockhash", 0) == GENESIS

    header = await rpc.call("getblockheader", GENESIS)
    assert header == {
        "hash": GENESIS,
        "confirmations": 1,
        "height": 0,
        "version": 1,
        "versionHex": "00000001",
        "merkleroot": "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b",
        "time": 1296688602,
        "mediantime": 1296688602,
        "nonce": 2,
        "bits": "207fffff",
        "target": "7fffff" + "00" * 29,
        "difficulty": pytest.approx(4.656542373906925e-10),
        "chainwork": f"{2:064x}",
        "nTx": 1,
    }


async def test_a_template_has_every_field_that_a_pool_needs(rpc: RPCClient) -> None:
    await rpc.call("generatetoaddress", 12, ADDRESS)
    tip = await rpc.call("getblockheader", await rpc.call("getbestblockhash"))

    template = await rpc.call("getblocktemplate", SEGWIT)

    now = int(time.time())
    assert abs(template.pop("curtime") - now) < 60
    assert template == {
        "capabilities": [],
        "version": 0x20000000,
        "rules": ["csv", "!segwit", "taproot"],
        "vbavailable": {},
        "vbrequired": 0,
        "previousblockhash": tip["hash"],
        "transactions": [],
        "coinbaseaux": {},
        "coinbasevalue": 5_000_000_000,
        "longpollid": tip["hash"] + "0",
        "target": tip["target"],
        "mintime": tip["mediantime"] + 1,
        "mutable": ["time", "transactions", "prevblock"],
        "noncerange": "00000000ffffffff",
        "sigoplimit": 80000,
        "sizelimit": 4000000,
        "weightlimit": 4000000,
        "bits": "207fffff",
        "height": 13,
        "default_witness_commitment": (
            "6a24aa21a9ede2f61c3f71d1defd3fa999dfa36953755c690689799962b48bebd836974e8cf9"
        ),
    }


async def test_the_coinbase_value_halves_after_150_blocks(rpc: RPCClient) -> None:
    await rpc.call("generatetoaddress", 148, ADDRESS)
    assert (await rpc.call("getblocktemplate", SEGWIT))["coinbasevalue"] == 5_000_000_000

    await rpc.call("generatetoaddress", 1, ADDRESS)  # the next one has height 150
    template = await rpc.call("getblocktemplate", SEGWIT)
    assert (template["height"], template["coinbasevalue"]) == (150, 2_500_000_000)
    # the consensus code agrees
    await rpc.call("generatetoaddress", 2, ADDRESS)
    assert await rpc.call("getblockcount") == 151


@pytest.mark.parametrize(
    ("request_object", "code"),
    [
        (None, RPCErrorCode.INVALID_PARAMETER),
        ({}, RPCErrorCode.INVALID_PARAMETER),
        ({"rules": ["taproot"]}, RPCErrorCode.INVALID_PARAMETER),
        ({"rules": ["segwit"], "mode": "proposal"}, RPCErrorCode.INVALID_PARAMETER),
        ({"rules": ["segwit"], "mode": 7}, RPCErrorCode.INVALID_PARAMETER),
        ({"rules": "segwit"}, RPCErrorCode.TYPE_ERROR),
        ({"rules": ["segwit", 1]}, RPCErrorCode.TYPE_ERROR),
        ({"rules": ["segwit"], "longpollid": "xyz"}, RPCErrorCode.INVALID_PARAMETER),
        ("segwit", RPCErrorCode.TYPE_ERROR),
    ],
)
async def test_a_template_request_that_bitcoind_refuses_is_refused(
    rpc: RPCClient, request_object: object, code: RPCErrorCode
) -> None:
    assert await error_code(rpc, "getblocktemplate", request_object) == code


@pytest.fixture
def polled(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set once a long poll waits for a new tip."""
    entered = asyncio.Event()
    wait = Node.wait_for_new_tip

    async def noted(node: Node, known: bytes) -> bool:
        entered.set()
        return await wait(node, known)

    monkeypatch.setattr(Node, "wait_for_new_tip", noted)
    return entered


async def test_a_long_poll_returns_when_a_block_arrives_and_not_before(
    rpc: RPCClient, polled: asyncio.Event
) -> None:
    template = await rpc.call("getblocktemplate", SEGWIT)
    waiting = asyncio.create_task(
        rpc.call("getblocktemplate", {**SEGWIT, "longpollid": template["longpollid"]})
    )
    await asyncio.wait_for(polled.wait(), PATIENCE)
    # Other calls are answered meanwhile, and do not wake it.
    for _ in range(20):
        await rpc.call("getblocktemplate", SEGWIT)
    assert not waiting.done()

    (mined,) = await rpc.call("generatetoaddress", 1, ADDRESS)

    fresh = await asyncio.wait_for(waiting, PATIENCE)
    assert (fresh["previousblockhash"], fresh["height"]) == (mined, 2)
    # an id of the past returns at once
    again = await rpc.call("getblocktemplate", {**SEGWIT, "longpollid": template["longpollid"]})
    assert again["previousblockhash"] == mined


async def test_a_long_poll_ends_when_the_node_stops(tmp_path: Path, polled: asyncio.Event) -> None:
    async with Node(tmp_path) as node:
        methods = Methods(node, request_stop=node.release_waiters)
        request = {**SEGWIT, "longpollid": GENESIS + "0"}
        waiting = asyncio.create_task(methods.call("getblocktemplate", [request]))
        await asyncio.wait_for(polled.wait(), PATIENCE)

        assert await methods.call("stop", []) == "devnet node stopping"
        with pytest.raises(RPCError) as caught:
            await asyncio.wait_for(waiting, PATIENCE)
        assert caught.value.code == RPCErrorCode.CLIENT_NOT_CONNECTED


async def test_headers_link_both_ways_and_sum_up_their_work(rpc: RPCClient) -> None:
    hashes = [GENESIS, *await rpc.call("generatetoaddress", 5, ADDRESS)]

    headers = [await rpc.call("getblockheader", item) for item in hashes]

    assert [item["height"] for item in headers] == list(range(6))
    assert [item["confirmations"] for item in headers] == [6, 5, 4, 3, 2, 1]
    assert [item.get("nextblockhash") for item in headers] == [*hashes[1:], None]
    assert [item.get("previousblockhash") for item in headers] == [None, *hashes[:-1]]
    assert [int(item["chainwork"], 16) for item in headers] == [2, 4, 6, 8, 10, 12]
    times = [item["time"] for item in headers]
    assert headers[5]["mediantime"] == sorted(times)[3]
    raw = bytes.fromhex(await rpc.call("getblockheader", hashes[3], False))
    assert BlockHeader.unpack(raw).hash_hex == hashes[3]


async def test_a_block_shows_its_sizes_and_transactions(rpc: RPCClient) -> None:
    (mined,) = await rpc.call("generatetoaddress", 1, ADDRESS)

    raw = bytes.fromhex(await rpc.call("getblock", mined, 0))
    block = await rpc.call("getblock", mined)

    # a coinbase alone: its id is the merkle root; its witness takes 2 + 34 bytes
    assert block["tx"] == [block["merkleroot"]]
    assert (block["size"], block["strippedsize"]) == (len(raw), len(raw) - 36)
    assert block["weight"] == 4 * len(raw) - 3 * 36
    header = await rpc.call("getblockheader", mined)
    assert block == header | {key: block[key] for key in ("size", "strippedsize", "weight", "tx")}
    assert await rpc.call("getblock", mined, True) == block
    assert await rpc.call("getblock", mined, False) == raw.hex()


async def test_chain_and_mining_info_describe_the_tip(rpc: RPCClient) -> None:
    hashes = await rpc.call("generatetoaddress", 30, ADDRESS)

    chain = await rpc.call("getblockchaininfo")
    mining = await rpc.call("getmininginfo")

    assert (chain["chain"], chain["blocks"], chain["headers"]) == ("regtest", 30, 30)
    assert chain["bestblockhash"] == hashes[-1]
    assert int(chain["chainwork"], 16) == 62
    assert chain["size_on_disk"] > 0
    assert chain["initialblockdownload"] is False
    assert (mining["chain"], mining["blocks"], mining["pooledtx"]) == ("regtest", 30, 0)
    assert mining["next"]["height"] == 31
    assert mining["bits"] == chain["bits"] == mining["next"]["bits"] == "207fffff"
    # 30 blocks of two hashes each since the genesis block of 2011
    assert 0 < mining["networkhashps"] < 1e-6


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (
            ADDRESS,
            {
                "isvalid": True,
                "address": ADDRESS,
                "scriptPubKey": "0014751e76e8199196d454941c45d1b3a323f1433bd6",
                "isscript": False,
                "iswitness": True,
                "witness_version": 0,
                "witness_program": "751e76e8199196d454941c45d1b3a323f1433bd6",
            },
        ),
        (
            "2MzQwSSnBHWHqSAqtTVQ6v47XtaisrJa1Vc",
            {
                "isvalid": True,
                "address": "2MzQwSSnBHWHqSAqtTVQ6v47XtaisrJa1Vc",
                "scriptPubKey": "a9144e9f39ca4688ff102128ea4ccda34105324305b087",
                "isscript": True,
                "iswitness": False,
            },
        ),
    ],
)
async def test_validateaddress_describes_regtest_addresses(
    rpc: RPCClient, address: str, expected: dict[str, Any]
) -> None:
    assert await rpc.call("validateaddress", address) == expected


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "main"),
        ("tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx", "signet"),
        (ADDRESS[:-1] + "x", "checksum"),
        ("", "address"),
        ("\ud800", "address"),
    ],
)
async def test_validateaddress_says_why_an_address_is_none_of_ours(
    rpc: RPCClient, address: str, reason: str
) -> None:
    answer = await rpc.call("validateaddress", address)

    assert answer["isvalid"] is False
    assert reason in answer["error"]


async def test_uptime_counts_seconds(rpc: RPCClient) -> None:
    assert 0 <= await rpc.call("uptime") < 600


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("nosuchmethod", [], RPCErrorCode.METHOD_NOT_FOUND),
        ("getblockcount", [1], RPCErrorCode.MISC_ERROR),
        ("getblockhash", [], RPCErrorCode.MISC_ERROR),
        ("getblockhash", [None], RPCErrorCode.TYPE_ERROR),
        ("getblockhash", ["1"], RPCErrorCode.TYPE_ERROR),
        ("getblockhash", [True], RPCErrorCode.TYPE_ERROR),
        ("getblockhash", [0.5], RPCErrorCode.MISC_ERROR),
        ("getblockhash", [1], RPCErrorCode.INVALID_PARAMETER),
        ("getblockhash", [-1], RPCErrorCode.INVALID_PARAMETER),
        ("getblockhash", [10**30], RPCErrorCode.INVALID_PARAMETER),
        ("getblockheader", ["00" * 31], RPCErrorCode.INVALID_PARAMETER),
        ("getblockheader", ["zz" * 32], RPCErrorCode.INVALID_PARAMETER),
        ("getblockheader", ["00" * 32], RPCErrorCode.INVALID_ADDRESS_OR_KEY),
        ("getblockheader", [GENESIS, 1], RPCErrorCode.TYPE_ERROR),
        ("getblock", ["00" * 32], RPCErrorCode.INVALID_ADDRESS_OR_KEY),
        ("getblock", [GENESIS, 2], RPCErrorCode.INVALID_PARAMETER),
        ("generatetoaddress", [1, "nowhere"], RPCErrorCode.INVALID_ADDRESS_OR_KEY),
        (
            "generatetoaddress",
            [1, "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"],
            RPCErrorCode.INVALID_ADDRESS_OR_KEY,
        ),
        ("devnet_generate", ["00" * 32, 1, ADDRESS], RPCErrorCode.INVALID_ADDRESS_OR_KEY),
        ("submitblock", [7], RPCErrorCode.TYPE_ERROR),
    ],
)
async def test_bad_calls_get_the_code_that_bitcoind_gives(
    rpc: RPCClient, method: str, params: list[Any], code: RPCErrorCode
) -> None:
    assert await error_code(rpc, method, *params) == code
    assert await rpc.call("getblockcount") == 0


def test_the_readme_lists_every_method() -> None:
    readme = Path(__file__).parents[3] / "devnet" / "node" / "README.md"
    rows = [
        line.split("`")[1]
        for line in readme.read_text("utf-8").splitlines()
        if line.startswith("| `")
    ]

    assert sorted(rows) == Methods(Node(Path()), lambda: None).names


async def test_generating_nothing_gives_nothing(rpc: RPCClient) -> None:
    assert await rpc.call("generatetoaddress", 0, ADDRESS) == []
    assert await rpc.call("generatetoaddress", -3, ADDRESS, 1000) == []


async def test_other_calls_are_answered_while_blocks_are_mined(tmp_path: Path) -> None:
    async with running_node(tmp_path) as rpc:
        mining = asyncio.create_task(rpc.call("generatetoaddress", 200, ADDRESS))
        heights = set()
        while not mining.done():
            heights.add(await rpc.call("getblockcount"))
        assert len(await mining) == 200

    assert len(heights - {0, 200}) >= 2
