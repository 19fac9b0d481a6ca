"""How far the writer is: an import must not fill Redis, or the spool after it, nor end too early."""

import time
from collections.abc import Callable
from typing import Any, Final

import click
import psycopg
import redis

from tbg.servers import Urls
from tbg.sharelog.delivery import Delivery
from tbg_core.backlog import find_places, redis_now, waiting
from tbg_core.boots import Status, datagram
from tbg_core.database import open_connection, without_password
from tbg_core.names import stream_of
from tbg_core.primary import connect_redis

# At 30,000 events a second and 700 bytes each, 200 MB of Redis.
LIMIT: Final = 10.0  # seconds that the oldest uncommitted event may have waited
_LOOK: Final = 1.0  # seconds between two looks
_PAUSE: Final = 0.25
_AT_A_STOP: Final = 2.0  # seconds, as an engine that stops gives its receiver

_STREAM: Final = stream_of("share_submitted")
_AWAY: Final = (psycopg.Error, redis.RedisError)


class Backlog:
    """Watches the writer, and waits for it.

    Args:
        urls: database and Redis that the events go to.
        stopped: returns whether the end was asked for.
        say: is called when it waits longer than a moment.

    Raises:
        click.ClickException: if one of the two does not answer.
    """

    def __init__(self, urls: Urls, stopped: Callable[[], bool], say: Callable[[str], None]) -> None:
        self._urls = urls
        self._stopped = stopped
        self._say = say
        self._database: psycopg.Connection[tuple[Any, ...]] | None = None
        self._redis: redis.Redis | None = None
        self._next = 0.0
        try:
            self.age()
        except _AWAY as error:
            raise click.ClickException(
                f"the stack at {without_password(urls.database)} and "
                f"{without_password(urls.redis)} does not answer: start it, for example with "
                f"tbg up ({error})"
            ) from error

    def close(self) -> None:
        """Closes both connections."""
        if self._redis is not None:
            self._redis.close()
            self._redis = None  # another server may take writes next time
        if self._database is not None:
            self._database.close()

    def _connected(self) -> psycopg.Connection[tuple[Any, ...]]:
        if self._database is None or self._database.closed:
            self._database = open_connection(self._urls.database)
        return self._database

    def age(self) -> float:
        """Seconds since the oldest uncommitted share came to Redis; 0 if there is none.

        Raises:
            psycopg.Error, redis.RedisError: if one of the two does not answer.
        """
        database = self._connected()
        if self._redis is None:
            self._redis = connect_redis(self._urls.redis)
        now = redis_now(self._redis)
        shares = [place for place in find_places(database) if place.stream == _STREAM]
        behind = waiting(shares, self._redis)
        return max(0.0, (now - behind[0].since).total_seconds()) if behind else 0.0

    def wait(self) -> float:
        """Returns when the writer is near enough, and the seconds that it took.

        Looks at most once a second. While one of the two does not answer, it also waits:
        the writer cannot commit then.
        """
        now = began = time.monotonic()
        if now < self._next:
            return 0.0
        told = False
        while not self._stopped():
            try:
                age = self.age()
                why = f"the writer is {age:.0f} s behind"
            except _AWAY as error:
                age, why = LIMIT + 1, f"cannot see how far the writer is ({error})"
                self.close()
            if age <= LIMIT:
                break
            if not told and time.monotonic() - began > LIMIT:
                told = True
                self._say(f"{why}: waiting")
            time.sleep(_PAUSE)
        self._next = time.monotonic() + _LOOK
        return time.monotonic() - began

    def until_stored(self, last: Status, delivery: Delivery) -> bool:
        """Returns once the database knows how the import ended, and so all that was sent before.

        What a receiver took and died with is on no list: it has the numbers, and nobody else.

        Args:
            last: what was said last of all.
            delivery: says it again, which shows whether the receiver lives.

        Returns:
            False if the end was asked for, and it is not known a moment later.

        Raises:
            Stopped, OSError: as :meth:`Delivery.send`.
        """
        began, asked = time.monotonic(), 0.0
        told = False
        while True:
            try:
                if self._knows(last):
                    return True
                why = "the writer has not stored the last of it yet"
            except _AWAY as error:
                why = f"cannot see whether it is stored ({error})"
                self.close()
            now = time.monotonic()
            if self._stopped():
                asked = asked or now
                if now - asked > _AT_A_STOP:
                    return False
            if not told and now - began > LIMIT:
                told = True
                self._say(f"{why}: waiting")
            time.sleep(_PAUSE)
            delivery.send(datagram(last), keep=False)

    def _knows(self, last: Status) -> bool:
        found = self._connected().execute(
            "select seq_declared > %(seq)s or (seq_declared = %(seq)s and state = 'ended') "
            "from engine_instances where instance = %(instance)s",
            {"seq": last.last_seq, "instance": last.instance},
        )
        return bool((found.fetchone() or (False,))[0])
