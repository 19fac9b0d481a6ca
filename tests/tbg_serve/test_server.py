"""What the server does when it is asked much, when a store is away, and with hostile names."""

import asyncio
import base64
import gzip
import json
from pathlib import Path
from time import monotonic
from typing import Any, cast
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg
import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from devnet.simulator.worker_name import HOSTILE
from tbg.migrate import SERVE_ROLE
from tbg_core.settings import SettingsError
from tbg_serve.cache import Cache
from tbg_serve.settings import ServeSettings
from tests.tbg_serve.harness import ALICE, BOB, IP, Client, asked, past, served, user, worker

NOWHERE = "postgresql://tbg@127.0.0.1:1/tbg"
EVERYWHERE = "0.0.0.0"  # noqa: S104  compared, not bound
NO_REDIS = "redis://127.0.0.1:1/0"


async def test_what_is_away_says_so_with_a_reason(
    db: asyncpg.Connection, database_url: str, redis_url: str
) -> None:
    await past(db)
    async with asked(NOWHERE, redis_url) as client:
        for path in ("/v1/week", "/v1/odds", "/api/info", "/pool/pool.status", "/readyz"):
            answer = await client.get(path)
            assert answer.status == 503, path
            assert answer.json == {
                "error": "not available",
                "reason": "the database does not answer",
            }
            assert answer.headers["retry-after"] == "5"
        assert (await client.get("/healthz")).status == 200
    async with asked(database_url, NO_REDIS) as client:
        assert (await client.get("/v1/events")).json["reason"] == "Redis does not answer"
        # A place needs no Redis.
        assert (await client.json(f"/v1/weeks/current/users/{BOB}"))["rank"] == 2


async def test_a_slow_database_is_given_up(
    db: asyncpg.Connection, database_url: str, redis_url: str
) -> None:
    await past(db)
    async with (
        asked(database_url, redis_url, serve_query_seconds=0.3) as client,
        db.transaction(),
    ):
        await db.execute("lock table blocks in access exclusive mode")
        answer = await client.get("/v1/blocks")
        assert answer.status == 503
        assert "slow" in answer.json["reason"] or "long" in answer.json["reason"]


async def test_a_database_without_the_schema_says_so(
    empty_database_url: str, redis_url: str
) -> None:
    async with asked(empty_database_url, redis_url) as client:
        answer = await client.get("/v1/week")
        assert (answer.status, answer.json["reason"]) == (
            503,
            "the database lacks the schema of this version",
        )


async def test_a_database_of_another_version_says_so(
    db: asyncpg.Connection, database_url: str, redis_url: str
) -> None:
    await past(db)
    async with asked(database_url, redis_url) as client:
        for other in (
            "alter table users rename column last_seen to seen",
            "alter table users rename column seen to last_seen; drop view served_shares cascade",
            "drop function bounded cascade",
        ):
            await db.execute(other)
            answer = await client.get(f"/v1/users/{ALICE}")
            assert (answer.status, answer.json["reason"]) == (
                503,
                "the database lacks the schema of this version",
            ), other


async def test_a_database_that_is_full_says_so(
    db: asyncpg.Connection, database_url: str, redis_url: str
) -> None:
    name = await db.fetchval("select current_database()")
    await db.execute(f'alter database "{name}" connection limit 0')
    role = "tbg_serve_crowd"
    if not await db.fetchval("select true from pg_roles where rolname = $1", role):
        await db.execute(f"create role {role} login password 'secret'")
    parts = urlsplit(database_url)
    url = urlunsplit(parts._replace(netloc=f"{role}:secret@{parts.netloc.rpartition('@')[2]}"))
    try:
        async with asked(url, redis_url) as client:
            answer = await client.get("/v1/week")
            assert (answer.status, answer.json["reason"]) == (
                503,
                "the database takes no more connections",
            )
    finally:
        await db.execute(f'alter database "{name}" connection limit -1')


async def test_answers_are_kept_and_have_an_etag(
    db: asyncpg.Connection, database_url: str, redis_url: str
) -> None:
    await past(db)
    async with asked(database_url, redis_url, serve_cache_seconds=60) as client:
        first = await client.get("/v1/week")
        await db.execute("delete from weekly_best_diff")
        again = await client.get("/v1/week?nonsense=1")
        assert again.body == first.body
        etag = first.headers["etag"]
        for condition in (etag, f'{etag.removeprefix("W/")}, "x"', "*"):
            unchanged = await client.get("/v1/week", if_none_match=condition)
            assert (unchanged.status, unchanged.body) == (304, b"")
        assert (await client.get("/v1/week", if_none_match='"x"')).status == 200
        head = await client.get("/v1/week", method="HEAD")
        assert (head.status, head.body) == (200, b"")
        assert head.headers["content-length"] == str(len(first.body))
        assert "max-age=60" in first.headers["cache-control"]
        assert (await client.get("/v1/week", method="POST")).status == 405


async def test_of_a_name_that_comes_twice_the_last_value_has_an_answer_of_its_own(
    db: asyncpg.Connection, database_url: str, redis_url: str
) -> None:
    await past(db)
    async with asked(database_url, redis_url, serve_cache_seconds=60) as client:
        paths = [
            f"/v1/blocks?user={one}&user={other}" for one, other in ((ALICE, BOB), (BOB, ALICE))
        ]
        answers = [await client.json(path) for path in paths * 2]
        assert [len(answer["items"]) for answer in answers] == [0, 1, 0, 1]


async def test_an_answer_says_how_old_it_is_and_none_is_kept_where_none_shall_be(
    db: asyncpg.Connection,
    database_url: str,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await past(db)
    async with asked(database_url, redis_url, serve_cache_seconds=60) as client:
        assert (await client.get("/v1/week")).headers["age"] == "0"
        later = monotonic() + 75
        monkeypatch.setattr("tbg_serve.cache.monotonic", lambda: later)
        old = await client.get("/v1/week")
        assert int(old.headers["age"]) >= 74 > int(old.headers["cache-control"][-2:])
    monkeypatch.undo()
    async with asked(database_url, redis_url, serve_cache_seconds=0) as client:
        assert (await client.get("/v1/week")).headers["cache-control"] == "public, max-age=0"


async def test_a_long_answer_is_sent_with_gzip_to_who_takes_it(
    db: asyncpg.Connection, database_url: str, redis_url: str
) -> None:
    made = await past(db)
    for number in range(100):
        await worker(db, made.bob, f"rig-{number}")
    async with asked(database_url, redis_url, serve_cache_seconds=60) as client:
        plain = await client.get(f"/api/client/{BOB}")
        packed = await client.get(f"/api/client/{BOB}", accept_encoding="br, gzip")
        assert packed.headers["content-encoding"] == "gzip"
        assert packed.headers["content-length"] == str(len(packed.body))
        assert gzip.decompress(packed.body) == plain.body
        assert len(packed.body) < len(plain.body) / 5
        assert plain.headers["vary"] == packed.headers["vary"] == "Accept-Encoding"
        assert plain.headers["etag"] == packed.headers["etag"]
        assert "content-encoding" not in plain.headers
        for refused in ("gzip;q=0", "br, GZIP; q=0.000", "identity", "*", "gzipped"):
            answer = await client.get(f"/api/client/{BOB}", accept_encoding=refused)
            assert answer.body == plain.body, refused
        for taken in ("gzip;q=0.1", "deflate, GZIP", "x-gzip"):
            answer = await client.get(f"/api/client/{BOB}", accept_encoding=taken)
            assert answer.body == packed.body, taken
        unchanged = await client.get(
            f"/api/client/{BOB}", accept_encoding="gzip", if_none_match=packed.headers["etag"]
        )
        assert (unchanged.status, unchanged.body) == (304, b"")
        # What a cache on the way goes by is that of the whole answer.
        assert unchanged.headers["vary"] == "Accept-Encoding"
        assert {"content-encoding", "content-length"}.isdisjoint(unchanged.headers)


async def test_one_request_computes_what_many_wait_for() -> None:
    computed = 0
    go = asyncio.Event()

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        nonlocal computed
        computed += 1
        await go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 400})

    def kept(most: int) -> Client:
        return Client(Cache(app, seconds=60, most_bytes=most, patience=60, parameters=(), never=()))

    client = kept(3010)
    waiting = [asyncio.ensure_future(client.get("/a")) for _ in range(20)]
    await asyncio.sleep(0)
    go.set()
    assert {answer.status for answer in await asyncio.gather(*waiting)} == {200}
    assert computed == 1
    # The bytes are bounded: the answer that was not asked for longest goes first.
    await client.get("/b")
    await client.get("/c")
    assert computed == 3
    await client.get("/a")
    assert computed == 4
    # A name of a path takes memory, too.
    for _ in range(2):
        await client.get("/" + "d" * 3000)
    assert computed == 6
    tiny = kept(10)
    await tiny.get("/a")
    await tiny.get("/a")
    assert computed == 8


async def test_who_waits_too_long_is_answered_and_the_next_one_gets_the_answer() -> None:
    go = asyncio.Event()

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    cache = Cache(app, seconds=60, most_bytes=10_000, patience=0.01, parameters=(), never=())
    client = Client(cache)
    assert (await client.get("/a")).status == 503
    go.set()
    await asyncio.gather(*cache._flights.values())
    assert (await client.get("/a")).body == b"done"


async def test_an_address_that_asks_too_often_waits(
    db: asyncpg.Connection, database_url: str, redis_url: str
) -> None:
    async with asked(database_url, redis_url, serve_rate=0.001) as client:
        assert (await client.get("/healthz")).status == 200
        refused = await client.get("/healthz")
        assert refused.status == 429
        assert int(refused.headers["retry-after"]) > 0
        client.address = "2001:db8:1:2:3::1"
        assert (await client.get("/healthz")).status == 200
        client.address = "2001:db8:1:2:ffff::2"  # of the same /64
        assert (await client.get("/healthz")).status == 429
        client.address = "::ffff:192.0.2.1"  # the first one
        assert (await client.get("/healthz")).status == 429


def test_an_open_server_limits_everybody_and_a_local_one_nobody() -> None:
    def rate(**chosen: Any) -> float:
        return ServeSettings.load(database_url=NOWHERE, redis_url=NO_REDIS, **chosen).rate

    assert rate() == rate(serve_host="localhost") == rate(serve_host="::1") == 0
    assert rate(serve_host=EVERYWHERE) == rate(serve_host="tbg.example") == 50
    assert rate(serve_host=EVERYWHERE, serve_rate="") == 50
    assert rate(serve_host=EVERYWHERE, serve_rate=0) == 0


async def test_only_named_origins_may_read(database_url: str, redis_url: str) -> None:
    origins = "https://Game.example/, http://localhost:4200"
    async with asked(database_url, redis_url, serve_origins=origins) as client:
        for origin in ("https://game.example", "http://localhost:4200"):
            allowed = await client.get("/healthz", origin=origin)
            assert allowed.headers["access-control-allow-origin"] == origin
            preflight = await client.get(
                "/api/pool",
                method="OPTIONS",
                origin=origin,
                access_control_request_method="GET",
                access_control_request_headers="content-type, x-requested-with",
            )
            assert preflight.status == 200
            assert preflight.headers["access-control-allow-origin"] == origin
        other = await client.get("/healthz", origin="https://evil.example")
        assert "access-control-allow-origin" not in other.headers
        # A cache on the way gives no page what was said to another one, or to none.
        for answer in (allowed, other, await client.get("/healthz")):
            assert answer.headers["vary"] == "Origin"
    async with asked(database_url, redis_url, serve_origins="*") as client:
        assert (await client.get("/healthz", origin="https://a.example")).headers[
            "access-control-allow-origin"
        ] == "*"
    async with asked(database_url, redis_url) as client:
        closed = await client.get("/healthz", origin="https://game.example")
        assert {"access-control-allow-origin", "vary"}.isdisjoint(closed.headers)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("serve_origins", "game.example"),
        ("serve_origins", "https://game.example/app"),
        ("serve_origins", "https://*.example"),
        ("serve_proxies", "haproxy"),
        ("serve_proxies", "10.0.0.1/24"),
        ("serve_proxies", "*"),
    ],
)
def test_what_would_match_nobody_or_everybody_is_refused(name: str, wrong: str) -> None:
    with pytest.raises(SettingsError, match=f"{name.upper()}: '.*' is no"):
        ServeSettings.load(database_url=NOWHERE, redis_url=NO_REDIS, **{name: wrong})


async def test_a_proxy_is_believed_however_a_socket_names_it() -> None:
    chosen = ServeSettings.load(
        database_url=NOWHERE, redis_url=NO_REDIS, serve_proxies="10.0.0.2, 172.16.0.0/12, ::1"
    )

    async def whose(scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(scope["client"][0]).encode()})

    client = Client(cast(Any, ProxyHeadersMiddleware(cast(Any, whose), chosen.proxies)))

    async def seen(peer: str) -> str:
        client.address = peer
        return (await client.get("/", x_forwarded_for=f"192.0.2.66, 192.0.2.1, {peer}")).text

    for proxy in ("10.0.0.2", "::ffff:10.0.0.2", "172.31.1.1", "::ffff:172.31.1.1", "::1"):
        assert await seen(proxy) == "192.0.2.1"
    for stranger in ("10.0.0.3", "::ffff:10.0.0.3", "192.168.0.1", "::2"):
        assert await seen(stranger) == stranger


async def test_who_asks_for_the_head_alone_hears_whether_it_is_well(
    database_url: str, redis_url: str
) -> None:
    async with asked(database_url, redis_url) as client:
        for path in ("/healthz", "/readyz", "/api/pool", "/pool/pool.status"):
            assert (await client.get(path, method="HEAD")).status == 200
        assert (await client.get("/v1/events", method="HEAD")).status == 405
    async with asked(NOWHERE, redis_url) as client:
        assert (await client.get("/readyz", method="HEAD")).status == 503


async def test_hostile_names_are_data_in_every_dialect(
    db: asyncpg.Connection, database_url: str, redis_url: str
) -> None:
    made = await past(db)
    for name in HOSTILE:
        await worker(db, made.bob, name, agent=name)
    evil = "<script>alert(1)</script>"
    await user(db, evil)
    async with asked(database_url, redis_url, serve_miner_metrics=True) as client:
        lines = (await client.json(f"/v1/users/{BOB}/workers?limit=1000"))["items"]
        assert set(HOSTILE) <= {line["worker"] for line in lines}
        listed = (await client.json(f"/api/client/{BOB}"))["workers"]
        assert set(HOSTILE) <= {one["name"] for one in listed}
        written = json.loads((await client.get(f"/users/{BOB}")).text)["worker"]
        names = {one["workername"].removeprefix(BOB).removeprefix(".") for one in written}
        assert set(HOSTILE) <= names
        agents = (await client.json("/api/info"))["userAgents"]
        assert set(HOSTILE) <= {agent["userAgent"] for agent in agents}
        for name in HOSTILE:
            path = f"/v1/users/{BOB}/workers/{quote(name, safe='')}"
            assert (await client.json(path))["worker"] == name
            if name != "chart":
                path = f"/api/client/{BOB}/{quote(name, safe='')}"
                assert (await client.json(path))["name"] == name
        for path in (f"/v1/users/{quote(evil, safe='')}", f"/users/{quote(evil, safe='')}"):
            answer = await client.get(path)
            assert "html" not in answer.headers["content-type"]
            assert answer.headers["x-content-type-options"] == "nosniff"


async def test_the_role_reads_what_is_served_and_no_address(
    db: asyncpg.Connection, database_url: str, redis_url: str, postgres_url: str
) -> None:
    await past(db)
    role = f"{SERVE_ROLE}_test"
    if not await db.fetchval("select true from pg_roles where rolname = $1", role):
        await db.execute(f"create role {role} login password 'secret'")
    await db.execute("select grant_serving($1)", role)
    await db.execute("select grant_serving($1)", role)
    parts = urlsplit(database_url)
    place = parts.netloc.rpartition("@")[2]
    url = urlunsplit(parts._replace(netloc=f"{role}:secret@{place}"))
    reader = await asyncpg.connect(url)
    try:
        for query in (
            "select ip_address from shares",
            "select payload from mining_events",
            "select raw from dead_letters",
            "delete from blocks",
            "insert into users (btc_address) values ('x')",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await reader.execute(query)
    finally:
        await reader.close()
    async with asked(url, redis_url, serve_miner_metrics=True) as client:
        schema = (await client.get("/openapi.json")).json
        for path in schema["paths"]:
            if path == "/v1/events":
                continue
            filled = path.format(
                address=ALICE,
                worker="garage",
                week="current",
                block_hash="00" * 32,
                share_hash="00" * 32,
            )
            answer = await client.get(filled)
            # 422 where a query is needed.
            assert answer.status in (200, 404, 422), (filled, answer.text)
            assert IP not in answer.text


async def test_no_path_and_no_query_is_an_internal_error(
    db: asyncpg.Connection, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    made = await past(db)
    with served(database_url, redis_url, tmp_path, SERVE_MINER_METRICS="true") as server:
        document = server.get("/openapi.json").json
        del document["paths"]["/v1/events"]  # it does not end
        schema = schemathesis.openapi.from_dict(document)
        schema.config.update(base_url=server.url)
        known = {"address": ALICE, "worker": "garage", "week": "current"}

        for result in schema.get_all_operations():
            operation = cast(Any, result).ok()

            @hypothesis.given(
                case=operation.as_strategy(), known_values=hypothesis.strategies.booleans()
            )
            @settings(max_examples=15, suppress_health_check=list(HealthCheck), database=None)
            def ask(case: Any, known_values: bool) -> None:
                if known_values:
                    for name in case.path_parameters or {}:
                        if name in known:
                            case.path_parameters[name] = known[name]
                response = case.call()
                assert response.status_code < 500, (case.formatted_path, response.text)

            await asyncio.to_thread(ask)

        def forged(position: Any) -> str:
            return base64.urlsafe_b64encode(json.dumps(position).encode()).decode().rstrip("=")

        # Each is malformed, and says so: it is no fault of the database.
        for path, position in (
            ("/v1/week", ["2026-01-05", 1.0, "9999-12-31T23:59:59.999999-23:59", 1, 1]),
            ("/v1/weeks/2026-W02", ["2026-01-05", 1.0, "0001-01-01T00:00:00+23:59", 1, 1]),
            ("/v1/week", ["2026-01-05", 1.0, "2026-01-01T00:00:00", 1, 1]),
            ("/v1/week", ["2026-01-05", 1.0, "2026-01-01T00:00:00Z", 2**31, 1]),
            ("/v1/week", ["2026-01-05", 1.0, "2026-01-01T00:00:00Z", 1, 2**70]),
            ("/v1/blocks", ["0001-01-01T00:00:00+14:00", 5]),
            ("/v1/blocks", ["9999-12-31T23:59:59-14:00", 5]),
            ("/v1/blocks", ["2026-01-01T00:00:00Z", -(2**40)]),
            ("/v1/weeks", "0000-01-01"),
            (f"/v1/users/{ALICE}/workers", "a\0"),
        ):
            answer = server.get(f"{path}?cursor={forged(position)}")
            assert (answer.status, answer.json["error"]) == (422, "malformed"), position
        moments = (
            "0001-01-01T00:00:00%2B23:59",
            "1970-01-01",
            "9999-12-31T23:59:59-23:59",
            "1e400",
        )
        for start in moments:
            for path in (f"/v1/hours?before={start}", f"/v1/receipts/{ALICE}?from={start}&to=5"):
                assert server.get(path).status == 422, path
        for path in (
            "/v1/weeks/2026-W53",
            "/v1/weeks/0001-W01",
            "/v1/week?" + "&".join(f"a{number}=1" for number in range(7000)),
            "/%ff%fe",
            "/v1/users/%ed%a0%80",
            "/v1/week?cursor=WzFlOTk5LCIyMDI2LTAxLTAxVDAwOjAwOjAwWiIsMSwxXQ",
            f"/v1/users/{ALICE}/workers?cursor=IlwwMDAwIg",
            f"/v1/users/{ALICE}/workers/" + "x" * 300,
            "/v1/hours?before=9999-12-31T23:59:59Z",
            "/v1/hours?before=2026-01-01T00:00:00-99:99",
            "/v1/weeks/9999-W52",
            "/v1/weeks/0000-W01",
            f"/api/client/{ALICE}/garage/{made.garage:08x}/more",
            "//etc/passwd",
            "/users/" + "a" * 5000,
        ):
            assert server.get(path).status < 500, path
