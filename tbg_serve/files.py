"""ckpool's files: ``pool/pool.status`` and ``users/<address>`` below a folder, every minute.

Each is written beside its place and renamed into it, so that a reader sees a whole one. A
failure is logged, and the minute after tries again.
"""

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Final

import structlog

from tbg_serve.ckpool import FILE_NAME, Dialect
from tbg_serve.database import Database
from tbg_serve.miners import rates_sql
from tbg_serve.unavailable import Unavailable

EVERY: Final = 60.0  # seconds
AT_ONCE: Final = 1000  # users of one query

log: structlog.stdlib.BoundLogger = structlog.get_logger("tbg_serve")


class Files:
    """Writes the folder.

    Args:
        folder: where; made if it is missing.
        dialect: what to write.
        database: who is written.
    """

    def __init__(self, folder: Path, dialect: Dialect, database: Database) -> None:
        self._folder = folder
        self._dialect = dialect
        self._database = database

    async def run(self) -> None:
        """Writes every minute, until it is cancelled."""
        while True:
            try:
                written = await self.write()
                log.debug("ckpool's files are written", users=written)
            except (Unavailable, OSError) as error:
                log.warning("ckpool's files wait", folder=str(self._folder), error=str(error))
            await asyncio.sleep(EVERY)

    async def write(self) -> int:
        """Writes the pool, and every user who was seen in the last week: how many.

        Raises:
            Unavailable: the database does not answer.
            OSError: the folder cannot be written.
        """
        for name in ("pool", "users"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        replace(self._folder / "pool" / "pool.status", await self._dialect.pool_status())
        after, written = 0, 0
        while rows := await self._database.fetch(_USERS, after, AT_ONCE):
            for user in rows:
                # An address of nobody's network is no file of ours, whatever it says.
                if FILE_NAME.fullmatch(user["btc_address"]):
                    text = await self._dialect.of(user)
                    replace(self._folder / "users" / user["btc_address"], text)
                    written += 1
            after = rows[-1]["id"]
        return written


def replace(path: Path, text: str) -> None:
    """Writes a file in one step.

    Raises:
        OSError: it cannot be written; the old one stays.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise


_USERS: Final = f"""
select u.id, u.btc_address, u.created_at, u.last_seen, {rates_sql("u", "u.last_seen")}
from users u
where u.id > $1 and u.last_seen > now() - interval '7 days'
order by u.id limit $2
"""  # noqa: S608  a constant
