"""Whatever comes in on the Stratum port, it is answered or closed, and every event is sound."""

import asyncio
import contextlib
import json
import logging
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devnet.bitcoin.address import Network
from devnet.pool.bests import Bests
from devnet.pool.config import PoolConfig
from devnet.pool.events import PoolEvents
from devnet.pool.mining import MAX_REJECTED
from devnet.pool.node_answer import NodeAnswer
from devnet.pool.pool import Pool
from devnet.pool.protocol import MAX_LINE, NO_ID, ProtocolError, parse_request
from devnet.pool.rate_limit import RateLimit
from devnet.pool.session import MAX_FAULTS, Session
from devnet.pool.values import hex_or_none, printable
from devnet.pool.work import Template
from devnet.rpc import RPCClient
from tbg_core.decode import Decoded, decode
from tests.devnet.pool.harness import ALICE, EASY, PATIENCE, Running, client, running_pool
from tests.devnet.pool.test_work import answer

# json.dumps writes lone surrogates as escapes, which is how they arrive from outside.
TEXT = st.text(st.characters(), max_size=300)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)
WORDS = st.from_regex(r"[0-9a-f]{8}", fullmatch=True) | TEXT
METHODS = st.sampled_from(
    [
        "mining.configure",
        "mining.subscribe",
        "mining.authorize",
        "mining.extranonce.subscribe",
        "mining.suggest_difficulty",
        "mining.suggest_target",
        "mining.submit",
    ]
)


class CheckedSink:
    """Takes events as the emitter does, and refuses what the contract refuses."""

    def __init__(self) -> None:
        self.events: list[Decoded] = []

    def emit(self, event: str, data: dict[str, Any], *, timestamp: int | None = None) -> int:
        envelope = {
            "event": event,
            "timestamp": timestamp or 1_763_769_600_123_456,
            "source": "hosted",
            "instance": "test/1",
            "seq": len(self.events) + 1,
            "data": data,
        }
        self.events.append(decode(msgspec.json.encode(envelope)))
        return len(self.events)


class Table:
    """One session of a pool without a network: what it sent, why it was closed, its events."""

    def __init__(self) -> None:
        self.sink = CheckedSink()
        self.sent: list[bytes] = []
        self.closed: list[str] = []
        config, _ = PoolConfig.read(
            None, {"mindiff": 1e-9, "startdiff": 1e-9, "block_difficulty": 2e-9}
        )

        async def submit_block(_: bytes) -> NodeAnswer:
            return NodeAnswer.TAKEN

        template = Template.parse(answer())
        events = PoolEvents(self.sink)
        self.pool = Pool(config, Network.REGTEST, events, Bests(), submit_block, template)
        self.session = Session(self.pool, 1, "192.0.2.1", self.sent.append, self.closed.append)

    def say(self, method: str, params: Any) -> None:
        line = json.dumps({"id": 1, "method": method, "params": params})
        self.session.handle(line.encode())


@st.composite
def submissions(draw: st.DrawFn) -> list[Any]:
    """Params of mining.submit, right or spoiled in a place or two; NAME and such are filled in.

    The difficulty of the table is so low that every fourth right one is accepted.
    """
    nonce = f"{draw(st.integers(0, 15)):08x}"
    params: list[Any] = ["NAME", "JOB", f"{draw(st.integers(0, 3)):016x}", "NTIME", nonce]
    for place in draw(st.sets(st.integers(0, 4), max_size=2)):
        params[place] = draw(WORDS | JSON)
    return params + draw(st.just([]) | st.lists(WORDS | st.none(), max_size=2))


def requests() -> st.SearchStrategy[tuple[str, Any]]:
    """Any of our methods with any params; difficulties that a pool could take among them."""
    suggestion = st.tuples(
        st.just("mining.suggest_difficulty"), st.lists(st.floats(0, 1e-8), min_size=1, max_size=1)
    )
    return suggestion | st.tuples(METHODS, st.lists(JSON, max_size=6) | JSON)


@given(
    agent=JSON,
    worker=TEXT,
    password=JSON,
    shares=st.lists(submissions(), max_size=12),
    others=st.lists(requests(), max_size=6),
)
def test_every_event_fits_the_contract_whatever_a_miner_sends(
    agent: Any, worker: str, password: Any, shares: list[list[Any]], others: list[tuple[str, Any]]
) -> None:
    async def scene() -> Table:
        table = Table()
        name = f"{ALICE}.{worker}"
        table.say("mining.configure", [["version-rolling"], {}])
        table.say("mining.subscribe", [agent])
        table.say("mining.authorize", [name, password])
        work = table.pool.works.current
        known = {"NAME": name, "JOB": work.job_id, "NTIME": f"{work.template.curtime:08x}"}
        for method, params in others:
            table.say(method, params)
        for params in shares:
            table.say("mining.submit", [known.get(str(item), item) for item in params])
        table.pool.report_hashrates()
        await table.pool.blocks.finish(PATIENCE)
        table.session.end("closed by the miner")
        return table

    table = asyncio.run(scene())
    for line in table.sent:
        assert isinstance(json.loads(line), dict)
        assert line.endswith(b"\n")
    submitted = [item for item in table.sink.events if item.event == "share_submitted"]
    # The decoder refuses a name with a surrogate: no miner is authorised then.
    if table.session.mining is not None:
        assert len(submitted) >= len([item for item in shares if _is_readable(item)])
        assert table.sink.events[-1].event == "miner_disconnected"
        assert table.sink.events[-1].data.shares_rejected + table.sink.events[
            -1
        ].data.shares_accepted == len(submitted)


def _is_readable(params: list[Any]) -> bool:
    try:
        parse_request(json.dumps({"id": 1, "method": "m", "params": params}).encode())
    except ProtocolError:
        return False
    return True


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_a_line_is_a_request_or_a_protocol_error(line: bytes) -> None:
    try:
        request = parse_request(line)
    except ProtocolError as error:
        json.loads(bytes(error.id))
        return
    if request is not None:
        json.loads(bytes(request.id))
        assert isinstance(request.method, str)
        assert isinstance(request.params, list)


@pytest.mark.parametrize(
    "line",
    [
        b"[" * 8000,
        b'{"a":' * 1600,
        b'{"id": ' + b"9" * 5000 + b', "method": "x"}',
        b'{"id": "' + b"x" * 255 + b'", "method": "x"}',
        b'{"id": "\xff", "method": "x"}',
        b"[]",
        b"\xff\xfe",
    ],
)
def test_a_line_that_is_not_a_request_is_refused_without_an_id(line: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_request(line)
    assert caught.value.id == NO_ID


@pytest.mark.parametrize(
    "line",
    [
        b'{"id": 7}',
        b'{"id": 7, "method": 5}',
        b'{"id": 7, "method": "x", "params": ["\xff"]}',
        b'{"id": 7, "method": "x", "params": [1e999]}',
    ],
)
def test_a_request_that_cannot_be_read_is_refused_under_its_id(line: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_request(line)
    assert bytes(caught.value.id) == b"7"


@given(st.text(st.characters(), max_size=600), st.integers(1, 256))
def test_cleaned_text_fits_every_store(text: str, limit: int) -> None:
    cleaned = printable(text, limit)
    assert len(cleaned) <= limit
    assert cleaned.isprintable()
    cleaned.encode()


def test_cleaning_keeps_what_people_write() -> None:
    assert printable("Bitaxe Küche ⛏ 1", 128) == "Bitaxe Küche ⛏ 1"
    assert printable("a\x00b\x1b[31mc\ud800\u202ed", 128) == "ab[31mcd"
    assert hex_or_none("AbCd") == "abcd"
    assert [hex_or_none(item) for item in ("abc", "", "zz", "0x12", None, "00" * 33)] == [None] * 6


def test_a_flood_is_slowed_and_a_steady_miner_is_not() -> None:
    limit = RateLimit(100.0, now=0.0)
    assert [limit.pause(number / 50) for number in range(1000)] == [0.0] * 1000
    flood = [limit.pause(20.0) for _ in range(1200)]
    assert flood[:200] == [0.0] * 200
    assert flood[-1] == pytest.approx(10.0, rel=0.01)


def test_faults_add_up_to_a_close() -> None:
    table = Table()
    for _ in range(MAX_FAULTS):
        assert table.closed == []
        table.session.handle(b"GET / HTTP/1.1")
    assert table.closed == ["protocol errors"]
    assert len(table.sent) == MAX_FAULTS


def test_a_miner_whose_shares_are_all_rejected_is_closed_in_the_end() -> None:
    table = Table()
    table.say("mining.subscribe", [])
    table.say("mining.authorize", [ALICE, "x"])
    for _ in range(MAX_REJECTED):
        assert table.closed == []
        table.say("mining.submit", [])
    assert table.closed == ["too many rejected shares"]


# --- over the wire


@pytest.fixture
def complaints(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What asyncio had to say: tracebacks of connections end up there."""
    caplog.set_level(logging.WARNING, "asyncio")
    return caplog.records


async def works(running: Running) -> None:
    """A miner who behaves is served."""
    async with client(running.port) as miner:
        job = await miner.start()
        assert (await miner.ask("mining.submit", *miner.solve(job, EASY)))["result"] is True


async def closed(reader: asyncio.StreamReader) -> bytes:
    """Everything that the pool still says until it closes."""
    async with asyncio.timeout(PATIENCE):
        try:
            return await reader.read(-1)
        except ConnectionResetError:
            return b""


async def test_garbage_on_the_port_is_answered_or_closed(
    running: Running, complaints: list[logging.LogRecord]
) -> None:
    loop = asyncio.get_running_loop()

    @settings(max_examples=60, database=None)
    @given(st.lists(st.binary(max_size=400), min_size=1, max_size=6), st.booleans())
    def throw(chunks: list[bytes], hang_up: bool) -> None:
        async def scene() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
            try:
                for chunk in chunks:
                    writer.write(chunk)
                writer.write(b"\nnonsense\n")
                if hang_up:
                    writer.transport.abort()
                    return
                async with asyncio.timeout(PATIENCE):
                    first = await reader.readline()
                assert json.loads(first)["error"][0] == 20
            except (ConnectionResetError, BrokenPipeError):
                pass
            finally:
                writer.close()

        asyncio.run_coroutine_threadsafe(scene(), loop).result(PATIENCE)

    await asyncio.to_thread(throw)
    await works(running)
    assert complaints == []


async def test_a_line_without_an_end_is_cut_off(running: Running) -> None:
    async with client(running.port) as miner:
        await miner.send(b"x" * (MAX_LINE + 100))
        said = await closed(miner.reader)
    assert b"A line has at most 8192 bytes" in said
    await works(running)


async def test_connections_are_limited_altogether(tmp_path: Path, rpc: RPCClient) -> None:
    async with running_pool(tmp_path, rpc.url, maxclients=1) as running:
        async with client(running.port) as one:
            await one.start()
            async with client(running.port) as two:
                assert b"Too many connections" in await closed(two.reader)
        await running.events.wait("miner_disconnected")
        await works(running)


async def test_a_handshake_that_does_not_end_is_ended(tmp_path: Path, rpc: RPCClient) -> None:
    async with running_pool(tmp_path, rpc.url, handshake_timeout=0.1) as running:
        async with client(running.port) as mute, client(running.port) as chatty:
            with contextlib.suppress(ConnectionError):  # on a busy machine it is closed already
                await chatty.send(b'{"id": 1, "method": "mining.subscribe"}\n')
            assert await closed(mute.reader) == b""
            await closed(chatty.reader)
        await running.settled()
        assert running.events.of("miner_disconnected") == []
        assert running.events.of("miner_connected") == []


async def test_an_idle_miner_is_closed_with_that_reason(tmp_path: Path, rpc: RPCClient) -> None:
    async with (
        running_pool(tmp_path, rpc.url, idle_timeout=0.3) as running,
        client(running.port) as miner,
    ):
        await miner.start()
        await closed(miner.reader)
        [left] = await running.events.wait("miner_disconnected")
    assert left.reason == "idle"


async def test_a_miner_that_does_not_read_is_dropped_and_delays_nobody(
    tmp_path: Path, rpc: RPCClient
) -> None:
    async with (
        running_pool(tmp_path, rpc.url, message_rate=1e6, idle_timeout=60) as running,
        client(running.port) as deaf,
    ):
        await deaf.start()
        question = json.dumps({"id": "x" * 60, "method": "y" * 200, "params": []}).encode() + b"\n"

        async def shout() -> None:
            while True:
                deaf.writer.write(question * 500)
                try:
                    async with asyncio.timeout(0.05):
                        await deaf.writer.drain()
                except TimeoutError:
                    pass
                except ConnectionError:
                    return

        shouting = asyncio.create_task(shout())
        await works(running)
        left = await running.events.wait("miner_disconnected", 2)
        await shouting
    assert "too slow to read" in {item.reason for item in left}


async def test_a_hundred_handshakes_at_once_are_all_served(
    running: Running, complaints: list[logging.LogRecord]
) -> None:
    async def come_and_go() -> None:
        async with client(running.port) as miner:
            await miner.start()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(100):
            tasks.create_task(come_and_go())
    await running.events.wait("miner_disconnected", 100)
    assert running.pool.nonces.open == set()
    assert complaints == []
