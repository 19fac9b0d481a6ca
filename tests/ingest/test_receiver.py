"""The receiver as a process: bad input, Redis away, and the end."""

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import redis.asyncio as redis_async
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ingest.counts import Report, parse_report
from ingest.receiver.packer import REPORT_EVERY
from tbg.stack.embedded import EmbeddedValkey
from tbg_core.events import MAX_DATAGRAM
from tbg_core.names import DEAD_LETTER_STREAM, LEDGER_STREAM, stream_of
from tests.ingest.harness import OWN, entries, packed, sending, stage
from tests.processes import PYTHON, running

Eventually = Callable[..., Awaitable[Any]]
SHARES = stream_of("share_submitted")


async def test_bad_datagrams_are_dead_lettered_with_their_bytes_and_the_daemon_goes_on(
    tmp_path: Path, redis_url: str, redis: redis_async.Redis, eventually: Eventually
) -> None:
    bad = [
        b"",
        b"\xff\xfe\x00",
        b"[" * 5000,
        b"{}",
        packed("share_submitted", difficulty=0, instance="e/1", seq=1),
        packed("share_submitted", difficulty=float("nan")),
        packed("share_submitted", client_id=10**40),
        packed("share_submitted", user=["list"]),
        packed("share_submitted", later="x" * (MAX_DATAGRAM - 100)),
        b"x" * 60_000,
        # Its number comes last, far behind what may be read.
        b'{"data":"' + b"x" * 30_000 + b'","instance":"e/1","seq":2}',
    ]
    async with stage("receiver", tmp_path, redis_url, RECEIVER_METRICS_PORT=OWN) as receiver:
        with sending(tmp_path / "events.sock") as sender:
            for datagram in bad:
                sender.send(datagram)
            sender.send(packed("share_submitted", instance="e/1", seq=3))

        async def arrived() -> bool:
            return bool(await redis.xlen(SHARES) == 1)

        await eventually(arrived)
        letters = await entries(redis, DEAD_LETTER_STREAM)
        assert [letter[b"raw"] for letter in letters] == [raw[: MAX_DATAGRAM + 1] for raw in bad]
        assert all(letter[b"reason"] and letter[b"stage"] == b"receiver" for letter in letters)
        assert letters[4][b"instance"] == b"e/1"
        assert (letters[-1][b"instance"], letters[-1][b"seq"]) == (b"e/1", b"2")
        assert receiver.metric("tbg_received_total") == len(bad) + 1
        assert receiver.metric("tbg_dead_lettered_total") == len(bad)
        # The refused event has a number, so it is no gap.
        assert receiver.metric("tbg_sequence_gap_events_total") == 0
        assert receiver.get("/healthz") == (200, "alive\n")
        assert receiver.get("/readyz")[0] == 200
        assert receiver.get("/nothing")[0] == 404


async def test_any_bytes_are_answered_by_a_dead_letter(
    tmp_path: Path, redis_url: str, redis: redis_async.Redis, eventually: Eventually
) -> None:
    samples: list[bytes] = []

    @settings(
        phases=[Phase.generate],
        database=None,
    )
    @given(
        st.one_of(
            st.binary(max_size=2000),
            st.recursive(
                st.none() | st.floats() | st.integers() | st.text(),
                lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            ).map(lambda value: json.dumps(value).encode()[:60_000]),
        )
    )
    def collect(datagram: bytes) -> None:
        samples.append(datagram)

    collect()
    async with stage("receiver", tmp_path, redis_url):
        with sending(tmp_path / "events.sock") as sender:
            for datagram in samples:
                sender.send(datagram)

        async def all_there() -> bool:
            return bool(await redis.xlen(DEAD_LETTER_STREAM) == len(samples))

        await eventually(all_there)
    kept = [fields[b"raw"] for fields in await entries(redis, DEAD_LETTER_STREAM)]
    assert kept == [datagram[: MAX_DATAGRAM + 1] for datagram in samples]


async def test_gaps_in_the_numbers_are_counted_and_late_ones_fill_them(
    tmp_path: Path, redis_url: str, redis: redis_async.Redis, eventually: Eventually
) -> None:
    async with stage("receiver", tmp_path, redis_url, RECEIVER_METRICS_PORT=OWN) as receiver:
        with sending(tmp_path / "events.sock") as sender:
            for seq in (5, 6, 10, 8, 11):
                sender.send(packed("share_submitted", instance="e/1", seq=seq))

        async def arrived() -> bool:
            return bool(await redis.xlen(SHARES) == 5)

        await eventually(arrived)
        assert receiver.metric("tbg_sequence_gap_events_total") == 3
        assert receiver.metric("tbg_sequence_filled_events_total") == 1


async def sequence(client: redis_async.Redis) -> list[int]:
    return [int(fields[b"seq"]) for fields in await entries(client, SHARES)]


async def test_a_resent_event_that_redis_had_is_reported_in_the_silence_after_it(
    tmp_path: Path, redis_url: str, redis: redis_async.Redis, eventually: Eventually
) -> None:
    event = packed("share_submitted", instance="e/1", seq=1)
    async with stage("receiver", tmp_path, redis_url):
        with sending(tmp_path / "events.sock") as sender:

            async def reported() -> list[Report]:
                reports = [one[b"report"] for one in await entries(redis, LEDGER_STREAM)]
                return [parse_report(report) for report in reports]

            async def taken() -> bool:
                return bool(await redis.xlen(SHARES))

            sender.send(event)
            await eventually(taken)
            # The next batch takes its own report along, and what Redis had is known when it
            # answers: by then the receiver has neither an event nor a count left.
            await asyncio.sleep(REPORT_EVERY * 1.1)
            await redis.client_pause(1500, all=False)
            sender.send(event)

            async def counted() -> bool:
                return any(report.duplicates for report in await reported())

            await eventually(counted)
            assert sum(count for one in await reported() for *_, count in one.duplicates) == 1


async def test_while_redis_is_away_events_spool_and_come_back_in_order(
    tmp_path: Path, valkey_server: Callable[..., EmbeddedValkey], eventually: Eventually
) -> None:
    server = valkey_server(appendfsync="always")
    async with stage("receiver", tmp_path, server.url, RECEIVER_METRICS_PORT=OWN) as receiver:
        with sending(tmp_path / "events.sock") as sender:
            client = redis_async.Redis.from_url(server.url)
            for seq in range(1, 501):
                sender.send(packed("share_submitted", instance="e/1", seq=seq))
            await eventually(lambda: receiver.metric("tbg_published_total") == 500)
            server.kill()
            for seq in range(501, 1501):
                sender.send(packed("share_submitted", instance="e/1", seq=seq))
            await eventually(lambda: receiver.metric("tbg_spooled_total") == 1000)
            assert "away" in receiver.get("/readyz")[1]
            # The receiver dies too: the spool is on disk.
            await receiver.kill()
            await receiver.start()
        with sending(tmp_path / "events.sock") as sender:
            for seq in range(1501, 1601):
                sender.send(packed("share_submitted", instance="e/1", seq=seq))
            server.start()

            async def all_there() -> bool:
                return len(await sequence(client)) >= 1600

            await eventually(all_there)
            assert await sequence(client) == list(range(1, 1601))
            await eventually(lambda: receiver.metric("tbg_spool_bytes") == 0)
        await client.aclose()


async def test_a_redis_out_of_memory_makes_events_spool_and_nothing_is_lost(
    tmp_path: Path, valkey_server: Callable[..., EmbeddedValkey], eventually: Eventually
) -> None:
    server = valkey_server()
    client = redis_async.Redis.from_url(server.url)
    async with stage("receiver", tmp_path, server.url, RECEIVER_METRICS_PORT=OWN) as receiver:
        await client.config_set("maxmemory", "1")
        with sending(tmp_path / "events.sock") as sender:
            for seq in range(1, 101):
                sender.send(packed("share_submitted", instance="e/1", seq=seq))
            await eventually(lambda: receiver.metric("tbg_spooled_total") == 100)
            await client.config_set("maxmemory", "0")

            async def all_there() -> bool:
                return len(await sequence(client)) >= 100

            await eventually(all_there)
        assert await sequence(client) == list(range(1, 101))
    await client.aclose()


async def test_a_full_spool_drops_the_newest_and_counts_them(
    tmp_path: Path, valkey_server: Callable[..., EmbeddedValkey], eventually: Eventually
) -> None:
    server = valkey_server()
    server.stop()
    async with stage(
        "receiver",
        tmp_path,
        server.url,
        RECEIVER_METRICS_PORT=OWN,
        SPOOL_MAX_BYTES=str(2**20),
    ) as receiver:
        with sending(tmp_path / "events.sock") as sender:
            for seq in range(1, 3001):
                sender.send(packed("share_submitted", instance="e/1", seq=seq))
            await eventually(
                lambda: (
                    receiver.metric("tbg_spooled_total") + receiver.metric("tbg_dropped_total")
                    == 3000
                )
            )
            dropped = receiver.metric("tbg_dropped_total")
            assert 0 < dropped < 3000
            server.start()
            client = redis_async.Redis.from_url(server.url)

            async def drained() -> bool:
                return len(await sequence(client)) == 3000 - dropped

            await eventually(drained)
            # And it recovers by itself.
            sender.send(packed("share_submitted", instance="e/1", seq=3001))

            async def goes_on() -> bool:
                return (await sequence(client))[-1] == 3001

            await eventually(goes_on)
            await client.aclose()


async def test_sigterm_hands_everything_on_and_exits_0(
    tmp_path: Path, redis_url: str, redis: redis_async.Redis
) -> None:
    async with stage("receiver", tmp_path, redis_url) as receiver:
        with sending(tmp_path / "events.sock") as sender:
            for seq in range(1, 2001):
                sender.send(packed("share_submitted", instance="e/1", seq=seq))
            assert await receiver.stop() == 0
    assert await sequence(redis) == list(range(1, 2001))
    assert not (tmp_path / "events.sock").exists()


async def test_a_second_signal_ends_the_receiver_at_once(tmp_path: Path, redis_url: str) -> None:
    async with stage("receiver", tmp_path, redis_url) as receiver:
        receiver.process.freeze()  # both signals are there when it wakes
        receiver.signal(signal.SIGTERM)
        receiver.signal(signal.SIGINT)
        receiver.signal(signal.SIGCONT)
        assert await receiver.process.ended() == 130
        assert "a second signal" in receiver.log.read_text()


async def test_a_second_receiver_on_the_socket_is_refused(tmp_path: Path, redis_url: str) -> None:
    async with stage("receiver", tmp_path, redis_url) as first:
        command = [PYTHON, "-m", "ingest", "receiver"]
        with running(command, tmp_path / "second.log", first.environment) as second:
            assert await second.ended() == 1
            assert "another receiver listens on" in second.output


async def test_with_debug_every_event_is_a_line(
    tmp_path: Path, redis_url: str, redis: redis_async.Redis, eventually: Eventually
) -> None:
    async with stage("receiver", tmp_path, redis_url, LOG_LEVEL="DEBUG", LOG_FORMAT="json") as one:
        with sending(tmp_path / "events.sock") as sender:
            for seq in range(1, 4):
                sender.send(
                    packed("share_submitted", instance="e/1", seq=seq, worker='x"\n\x1b[31m')
                )

        async def arrived() -> bool:
            return bool(await redis.xlen(SHARES) == 3)

        await eventually(arrived)
    lines = [json.loads(line) for line in one.log.read_text().splitlines()]
    events = [line for line in lines if line["level"] == "debug"]
    assert [line["seq"] for line in events] == [1, 2, 3]
    assert json.loads(events[0]["data"])["worker"] == 'x"\n\x1b[31m'
