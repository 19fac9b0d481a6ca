"""docs/api.md: every route has a curl line, and every line is answered."""

import gzip
import json
import re
import signal
from pathlib import Path

import asyncpg

from tbg_core.periods import HOUR
from tbg_core.receipts.log import START, Entry, parse
from tbg_core.receipts.merkle import join_hashes
from tbg_core.receipts.node import EMPTY
from tests.processes import ROOT
from tests.tbg_serve.harness import ALICE, BLOCK, asked, past, served

PAGE = (ROOT / "docs" / "api.md").read_text("utf-8")
LINES = re.findall(r'^curl -sN? "?\$API([^"\s]+)"?$', PAGE, re.MULTILINE)
SHARE = "00" * 31 + "07"


def filled(path: str, session: int) -> str:
    values = {
        "ADDRESS": ALICE,
        "WORKER": "garage",
        "BLOCK": BLOCK,
        "SHARE": SHARE,
        "SESSION": f"{session:08x}",
    }
    for name, value in values.items():
        path = path.replace(f"${name}", value)
    assert "$" not in path
    return path


async def roots(db: asyncpg.Connection) -> list[Entry]:
    """Two hours without events in the log of roots."""
    entries: list[Entry] = []
    for place in range(2):
        previous = entries[-1].hash if entries else START
        entries.append(Entry(place, place * HOUR, 1, 0, EMPTY, "", previous))
        await db.execute(
            "insert into receipt_roots (index, hour, revision, boots, root, work, valid, previous, "
            "hash) values ($1, to_timestamp($2), 1, 0, $3, 0, 0, $4, $5)",
            place, place * 3600, EMPTY.hash, previous, entries[-1].hash,
        )  # fmt: skip
    return entries


async def test_the_log_of_roots_is_served_as_it_is_checked(
    db: asyncpg.Connection, database_url: str, redis_url: str
) -> None:
    await past(db)
    entries = await roots(db)
    async with asked(database_url, redis_url) as client:
        lines = (await client.get("/v1/roots")).text.splitlines()
        assert [parse(json.loads(line)) for line in lines] == entries
        assert len((await client.get("/v1/roots?first=1")).text.splitlines()) == 1
        head = (await client.get("/v1/roots/head")).json
        assert (head["size"], head["last"]) == (2, entries[-1].hash.hex())
        found = (await client.get("/v1/roots/consistency?first=1&second=2")).json
        assert found["second_root"] == head["root"]
        left, right = entries[0].hash, bytes.fromhex(found["proof"][0])
        assert join_hashes(left, right).hex() == head["root"]
        for wrong in ("first=0&second=2", "first=2&second=1", "first=1&second=3"):
            assert (await client.get(f"/v1/roots/consistency?{wrong}")).status == 422
        path = f"/v1/receipts/{ALICE}?from=2026-11-23T07:00:00Z"
        answer = await client.get(f"{path}&to=2026-11-23T08:00:00Z")
        assert json.loads(gzip.decompress(answer.body))["hours"] == []
        for wrong in ("2026-11-23T07:00:00Z", "2026-11-24T07:00:01Z", "2026-11-23T08:00:00"):
            assert (await client.get(f"{path}&to={wrong}")).status == 422


async def test_every_route_has_a_curl_line_that_a_real_server_answers(
    db: asyncpg.Connection, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    made = await past(db)
    await db.execute(
        "insert into share_proofs (share_hash, user_id, difficulty, found_at, header, coinbase, "
        "branch) values ($1, $2, 7, now(), $3, $3, $4)",
        bytes.fromhex(SHARE),
        made.alice,
        bytes(80),
        bytes(32),
    )
    await roots(db)
    async with asked(database_url, redis_url) as client:
        schema = (await client.get("/openapi.json")).json
    left = set(schema["paths"])
    with served(database_url, redis_url, tmp_path) as server:
        for line in LINES:
            path = filled(line, made.garage)
            plain = path.partition("?")[0]
            left -= {
                route
                for route in left
                if re.fullmatch(re.sub(r"\{\w+(:path)?\}", "[^/]+", route), plain)
                or re.fullmatch(re.sub(r"\{\w+\}", ".+", route), plain)
            }
            if plain == "/v1/events":
                continue  # it does not end; tests/tbg_serve/test_events.py listens
            answer = server.get(path)
            assert answer.status == 200, (path, answer.text)
        assert left == set()
        server.process.send(signal.SIGTERM)
        assert await server.process.ended() == 0
