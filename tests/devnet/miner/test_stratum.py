"""Whatever a pool sends, the miner's connection ends in an error that it can act on."""

import asyncio
import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devnet.miner.stratum import PoolGone, PoolRefused, StratumClient

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)
MESSAGES = st.fixed_dictionaries({}, optional=dict.fromkeys(("id", "result", "error"), JSON)) | JSON


class Writer:
    """Takes what the client writes."""

    def write(self, data: bytes) -> None:
        pass


async def hear(*lines: bytes) -> Any:
    """The result of the first call to a pool that sends ``lines``; None without an answer."""
    reader = asyncio.StreamReader(limit=1 << 20)
    client = StratumClient(reader, Writer())  # type: ignore[arg-type]  # all that it uses
    asked = asyncio.create_task(client.call("m"))
    await asyncio.sleep(0)  # the call waits for its answer from here on
    reader.feed_data(b"".join(line + b"\n" for line in lines))
    reader.feed_eof()
    with pytest.raises(PoolGone):
        async for _ in client.notifications():
            pass
    await asyncio.sleep(0)
    if not asked.done():
        asked.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        return await asked


@given(messages=st.lists(MESSAGES, max_size=4))
def test_any_json_is_an_answer_a_refusal_or_the_end_of_the_connection(messages: list[Any]) -> None:
    with contextlib.suppress(PoolRefused, PoolGone):
        asyncio.run(hear(*(json.dumps(message).encode() for message in messages)))


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        ([24, "no", None], 24, "no"),
        (["24", "no"], 24, "no"),
        ([24], 20, "[24]"),
        ([None, "no"], 20, "[None, 'no']"),
        ({"code": 24}, 20, "{'code': 24}"),
        ("no", 20, "no"),
    ],
)
async def test_an_error_of_any_form_is_a_refusal(error: Any, code: int, text: str) -> None:
    with pytest.raises(PoolRefused) as caught:
        await hear(json.dumps({"id": 1, "error": error}).encode())
    assert (caught.value.code, caught.value.text) == (code, text)


@pytest.mark.parametrize("line", [b"[" * 100_000, b'{"id": [1], "result": true}', b"\xff"])
async def test_a_line_that_cannot_be_read_answers_nothing(line: bytes) -> None:
    assert await hear(line) is None


@pytest.mark.parametrize("size", [-1, 33, 10**9, float("inf")])
async def test_an_extranonce_that_no_miner_can_roll_ends_the_connection(size: float) -> None:
    reader = asyncio.StreamReader(limit=1 << 20)
    client = StratumClient(reader, Writer())  # type: ignore[arg-type]  # all that it uses
    asked = asyncio.create_task(client.handshake("u", "x", roll_versions=False))
    await asyncio.sleep(0)
    reader.feed_data(json.dumps({"id": 1, "result": [[], "00", size]}).encode() + b"\n")
    reader.feed_eof()
    with pytest.raises(PoolGone, match="closed"):
        async for _ in client.notifications():
            pass
    with pytest.raises(PoolGone, match=r"extranonce2|no sense"):
        await asked
