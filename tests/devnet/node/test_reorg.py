"""A longer branch takes over; blocks off the active chain have -1 confirmations."""

from typing import Any

import pytest

from devnet.bitcoin.header import BlockHeader
from devnet.rpc import RPCClient
from tbg_core.rpc import RPCError, RPCErrorCode
from tests.devnet.node.blocks import ADDRESS
from tests.devnet.node.test_submitblock import claim_too_much, new_draft


async def confirmations(rpc: RPCClient, hashes: list[str]) -> list[int]:
    headers: list[Any] = [await rpc.call("getblockheader", item) for item in hashes]
    blocks: list[Any] = [await rpc.call("getblock", item) for item in hashes]
    assert [item["confirmations"] for item in blocks] == [item["confirmations"] for item in headers]
    return [item["confirmations"] for item in headers]


async def test_two_branches_take_the_chain_from_each_other_and_back(rpc: RPCClient) -> None:
    trunk = await rpc.call("generatetoaddress", 3, ADDRESS)
    first = await rpc.call("generatetoaddress", 2, ADDRESS)
    assert await confirmations(rpc, trunk + first) == [5, 4, 3, 2, 1]

    # As long as the active branch: what came first stays.
    second = await rpc.call("devnet_generate", trunk[-1], 2, ADDRESS)
    assert await rpc.call("getbestblockhash") == first[-1]
    assert await confirmations(rpc, second) == [-1, -1]
    side = await rpc.call("getblockheader", second[0])
    assert "nextblockhash" not in side
    assert side["previousblockhash"] == trunk[-1]

    # One block longer: reorganisation.
    second += await rpc.call("devnet_generate", second[-1], 1, ADDRESS)
    assert await rpc.call("getbestblockhash") == second[-1]
    assert await confirmations(rpc, trunk + second) == [6, 5, 4, 3, 2, 1]
    assert await confirmations(rpc, first) == [-1, -1]
    assert (await rpc.call("getblockheader", trunk[-1]))["nextblockhash"] == second[0]
    assert await rpc.call("getblockhash", 4) == second[0]
    template = await rpc.call("getblocktemplate", {"rules": ["segwit"]})
    assert (template["previousblockhash"], template["height"]) == (second[-1], 7)

    # And back.
    first += await rpc.call("devnet_generate", first[-1], 2, ADDRESS)
    assert await rpc.call("getbestblockhash") == first[-1]
    assert await confirmations(rpc, trunk + first) == [7, 6, 5, 4, 3, 2, 1]
    assert await confirmations(rpc, second) == [-1, -1, -1]
    assert await rpc.call("getblockcount") == 7


async def test_a_long_poll_sees_a_reorganisation(rpc: RPCClient) -> None:
    (only,) = await rpc.call("generatetoaddress", 1, ADDRESS)
    genesis = await rpc.call("getblockhash", 0)

    branch = await rpc.call("devnet_generate", genesis, 2, ADDRESS)

    request = {"rules": ["segwit"], "longpollid": only + "0"}
    assert (await rpc.call("getblocktemplate", request))["previousblockhash"] == branch[-1]


async def test_a_branch_below_the_median_time_of_its_parent_is_still_valid(rpc: RPCClient) -> None:
    """Blocks mined in one second push each other's time forward; a branch copes as well."""
    hashes = await rpc.call("generatetoaddress", 40, ADDRESS)

    branch = await rpc.call("devnet_generate", hashes[10], 30, ADDRESS)

    assert await rpc.call("getbestblockhash") == branch[-1]
    assert await rpc.call("getblockcount") == 41


async def test_mining_on_an_invalid_parent_says_why_it_was_refused(rpc: RPCClient) -> None:
    block = await new_draft(rpc)
    claim_too_much(block)
    raw = block.solved()
    assert await rpc.call("submitblock", raw.hex()) == "bad-cb-amount"

    with pytest.raises(RPCError, match="bad-prevblk") as caught:
        await rpc.call("devnet_generate", BlockHeader.unpack(raw[:80]).hash_hex, 1, ADDRESS)
    assert caught.value.code == RPCErrorCode.INTERNAL_ERROR
