"""ckpool's files: ``pool/pool.status`` and ``users/<address>`` below a folder, every minute.

Each is written beside its place and renamed into it, so that a reader sees a whole one. One that
fails is logged and holds up no other, and the minute after tries again. Who is gone loses the file,
in a folder of ours: one that ckpool itself writes keeps what it has.
"""

import asyncio
import contextlib
import os
import re
import time
from pathlib import Path
from typing import Final

import structlog

from tbg_serve.ckpool import FILE_NAME, Dialect
from tbg_serve.database import Database
from tbg_serve.miners import rates_sql
from tbg_serve.unavailable import Unavailable

EVERY: Final = 60.0  # seconds
AT_ONCE: Final = 1000  # users of one query
MOST_FAILED: Final = 20  # files after which the others wait, too
MARK: Final = ".tbg-serve"  # in a folder whose users' files are all ours
LEFT: Final = 600.0  # seconds after which a file beside its place is nobody's
_BESIDE: Final = re.compile(r"\..+\.[0-9]+", re.DOTALL)  # as replace() names it

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
            except Exception:
                # A row that nobody foresaw must not end the files for good.
                log.exception("ckpool's files could not be written; it is repeated")
            await asyncio.sleep(EVERY)

    async def write(self) -> int:
        """Writes the pool, and every user who was seen in the last week: how many.

        Raises:
            Unavailable: the database does not answer.
            OSError: the folder cannot be written.
        """
        users = self._folder / "users"
        failed: list[Unavailable | OSError] = []
        is_ours = await asyncio.to_thread(self._prepare)
        try:
            text = await self._dialect.pool_status()
            await asyncio.to_thread(replace, self._folder / "pool" / "pool.status", text)
        except (Unavailable, OSError) as error:
            failed.append(error)
        after, written, kept = 0, 0, set[str]()
        while rows := await self._database.fetch(_USERS, after, AT_ONCE):
            for user in rows:
                address = user["btc_address"]
                # An address of nobody's network is no file of ours, whatever it says.
                if not FILE_NAME.fullmatch(address):
                    continue
                kept.add(address)
                try:
                    text = await self._dialect.of(user)
                    await asyncio.to_thread(replace, users / address, text)
                    written += 1
                except (Unavailable, OSError) as error:
                    failed.append(error)
                    if len(failed) > MOST_FAILED:  # it is no matter of single files
                        raise
            after = rows[-1]["id"]
        if is_ours:
            await asyncio.to_thread(_sweep, users, kept)
        if failed:
            raise failed[0]
        return written

    def _prepare(self) -> bool:
        """Makes the folders: whether the users' one is ours, because we made it."""
        for name in ("pool", "users"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        mark = self._folder / MARK
        if not any((self._folder / "users").iterdir()):
            mark.touch()
        return mark.exists()


def _sweep(users: Path, kept: set[str]) -> None:
    """Removes the files of users who are gone, and what a writer that was killed left."""
    for path in users.iterdir():
        name = path.name
        left = _BESIDE.fullmatch(name) and time.time() - path.stat().st_mtime > LEFT
        if path.is_file() and (left or (name not in kept and FILE_NAME.fullmatch(name))):
            path.unlink()


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
