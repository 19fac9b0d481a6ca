"""docs/api.md: every route has a curl line, and every line is answered."""

import re
import signal
from pathlib import Path

import asyncpg

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
