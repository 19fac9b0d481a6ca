"""Every route of ``tbg serve`` on TimescaleDB."""

import asyncpg

from tests.tbg_serve.harness import ALICE, IP, asked, past
from tests.timescaledb.server import Connection

# A receipt has a connection of its own, and the server here takes one: test_receipts.py makes one.
ELSEWHERE = {"/v1/events", "/v1/receipts/{address}"}


async def test_every_route_answers(
    connection: Connection, database_url: str, redis_url: str
) -> None:
    connection.close()
    db = await asyncpg.connect(database_url)
    try:
        await past(db)
    finally:
        db.terminate()  # this server does not answer a goodbye
    async with asked(
        database_url, redis_url, serve_connections=1, serve_miner_metrics=True
    ) as client:
        schema = (await client.get("/openapi.json")).json
        for path in schema["paths"].keys() - ELSEWHERE:
            filled = path.format(
                address=ALICE,
                worker="garage",
                week="current",
                block_hash="00" * 32,
                share_hash="00" * 32,
            )
            answer = await client.get(filled)
            # 404 where nothing is stored, 422 where a query is needed.
            assert answer.status in (200, 404, 422), (filled, answer.text)
            assert IP not in answer.text
        user = await client.json(f"/v1/users/{ALICE}")
        assert (user["week"]["accepted"], user["week"]["rejected"]) == (2, 1)
        assert (await client.get(f"/users/{ALICE}")).json["bestever"] == 123
