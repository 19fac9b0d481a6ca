"""The log of roots, and receipts that are checked against it (docs/check-your-receipt.md)."""

import asyncio
import gzip
import json
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import psycopg
from fastapi import APIRouter, HTTPException, Path, Query, Response
from psycopg.rows import dict_row

from tbg_core.database import connect
from tbg_core.database_url import DatabaseError
from tbg_core.receipts import stored
from tbg_core.receipts.boot import DoubledError
from tbg_core.receipts.merkle import consistency_proof, root_of
from tbg_core.receipts.receipt import ReceiptError, make
from tbg_serve.database import Database
from tbg_serve.miners import NO_NUL, Miners
from tbg_serve.models import Consistency, LogHead
from tbg_serve.unavailable import Unavailable

MOST_LINES: Final = 10_000
LONGEST: Final = timedelta(days=1)
MOST_LEAVES: Final = 200_000  # about 1.5 CPU seconds
FIRST: Final = datetime(2009, 1, 3, tzinfo=UTC)  # Bitcoin's own
LAST: Final = datetime(9999, 1, 1, tzinfo=UTC)
_SETTINGS: Final = {
    "timezone": "UTC",
    "default_transaction_read_only": "on",
    "statement_timeout": "10000",
}

Place = Annotated[int, Query(ge=0, le=2**53 - 1)]
Moment = Annotated[datetime, Query(description="ISO 8601, with its offset from UTC")]


def router(database: Database, url: str) -> APIRouter:
    """The routes about receipts; ``url`` names the database for what takes long."""
    routes = APIRouter(prefix="/v1", tags=["receipts"])
    miners = Miners(database)
    busy = asyncio.Semaphore(1)  # receipts are computed one at a time

    @routes.get("/roots")
    async def roots(
        first: Annotated[Place, Query(description="index of the first entry")] = 0,
        limit: Annotated[int, Query(ge=1, le=MOST_LINES, description="most entries")] = MOST_LINES,
    ) -> Response:
        """The log of roots as JSON lines: the `roots.jsonl` that a receipt is checked against."""
        rows = await database.fetch(_ROOTS, first, limit)
        lines = [json.dumps(stored.entry_of(tuple(row)).as_json()) for row in rows]
        return Response("".join(f"{line}\n" for line in lines), media_type="application/jsonl")

    @routes.get("/roots/head")
    async def head() -> LogHead:
        """How long the log is, and the root of the RFC 6962 tree over its hashes."""
        hashes = await _hashes(database)
        last = hashes[-1].hex() if hashes else None
        root = await asyncio.to_thread(root_of, hashes)  # 0.13 s of a log of ten years
        return LogHead(size=len(hashes), root=root.hex(), last=last)

    @routes.get("/roots/consistency")
    async def consistency(
        first: Annotated[Place, Query(description="size of the smaller log, at least 1")],
        second: Annotated[Place, Query(description="size of the larger log")],
    ) -> Consistency:
        """What proves that the log of the first size is the beginning of the second (2.1.2)."""
        hashes = await _hashes(database)
        if not 0 < first <= second <= len(hashes):
            raise HTTPException(422, f"first and second: 1 to {len(hashes)}, first not larger")
        larger = hashes[:second]

        def proved() -> Consistency:
            return Consistency(
                first=first,
                second=second,
                first_root=root_of(hashes[:first]).hex(),
                second_root=root_of(larger).hex(),
                proof=[one.hex() for one in consistency_proof(larger, first)],
            )

        return await asyncio.to_thread(proved)

    @routes.get("/receipts/{address}")
    async def receipt(
        address: Annotated[
            str, Path(max_length=256, pattern=NO_NUL, description="Bitcoin address")
        ],
        start: Annotated[Moment, Query(alias="from")],
        end: Annotated[Moment, Query(alias="to", description="not included; a day at most")],
    ) -> Response:
        """A user's receipt, gzipped: each numbered share with what leads to a published root."""
        if start.tzinfo is None or end.tzinfo is None or not FIRST <= start < end <= LAST:
            raise HTTPException(422, "from and to: with an offset, and to after from")
        if end - start > LONGEST:
            raise HTTPException(422, "from and to: a day apart at most")

        known = await miners.find(address)
        user = address if known is None else known["btc_address"]

        def made() -> bytes:
            with connect(url, row_factory=dict_row, settings=_SETTINGS) as connection:
                found = make(connection, stored.database_rows, user, start, end, most=MOST_LEAVES)
            return gzip.compress(json.dumps(found, separators=(",", ":")).encode(), mtime=0)

        try:
            async with busy:
                packed = await asyncio.to_thread(made)
        except (ReceiptError, DoubledError) as error:
            raise HTTPException(404, str(error)) from error
        except (DatabaseError, psycopg.Error) as error:
            cause = error if isinstance(error, psycopg.Error) else error.__cause__
            if isinstance(cause, psycopg.errors.InsufficientPrivilege):
                raise Unavailable("the database does not let us read: run tbg migrate") from error
            raise Unavailable("the database is away or slow") from error
        return Response(packed, media_type="application/gzip")

    return routes


async def _hashes(database: Database) -> list[bytes]:
    return [row["hash"] for row in await database.fetch(_HASHES)]


_ROOTS: Final = """
select index, hour, revision, boots, root, work, valid, reason, previous
from receipt_roots where index >= $1 order by index limit $2
"""
_HASHES: Final = "select hash from receipt_roots order by index"
