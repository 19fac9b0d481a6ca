"""The notifier's broker: what Home Assistant shows of miners, as retained messages.

A thread with an event loop and a connection of its own: a broker that hangs holds up nothing else.
Repeating is safe: a message says what is, and replaces the one before.
"""

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import aiomqtt
import asyncpg
import structlog

from tbg_core.database import AWAY, connect_async
from tbg_core.difficulty import block_chance
from tbg_core.tasks import end
from tbg_notify.home_assistant import Miner, Topics, Worker

EVERY: Final = 30.0  # seconds
TIMEOUT: Final = 5.0  # seconds that the broker has for each answer
FAREWELL: Final = 2 * TIMEOUT  # to say that we are offline, and to take leave
MOST_MINERS: Final = 20
MOST_WORKERS: Final = 100  # of each miner
DAY: Final = 86_400.0
PORTS: Final = {"mqtt": 1883, "mqtts": 8883}
ONLINE, OFFLINE = "online", "offline"

logger: structlog.stdlib.BoundLogger = structlog.get_logger("notify")


class Sensors:
    """Publishes what is known of miners.

    Args:
        database_url: PostgreSQL.
        url: of the broker, as the setting MQTT_URL has it.
        topics: where messages go.
        users: addresses; of nobody else if there are any.
        every: seconds between two looks.
    """

    def __init__(
        self,
        database_url: str,
        url: str,
        topics: Topics,
        users: Sequence[str] = (),
        every: float = EVERY,
    ) -> None:
        self._database_url = database_url
        self._url = urlsplit(url)
        self._topics = topics
        self._users = list(users)
        self._every = every
        self._there: set[str] = set()  # topics that the broker may hold
        self._looked = False  # whether those of earlier runs are among them

    def run(self, stopped: threading.Event) -> None:
        """Publishes until the event is set."""
        asyncio.run(self._until(stopped))

    async def _until(self, stopped: threading.Event) -> None:
        work = asyncio.create_task(self._work())
        while not stopped.is_set():
            await asyncio.wait([work], timeout=0.2)
        await end(work, FAREWELL)

    async def _work(self) -> None:
        while True:
            try:
                await self._session()
            except (aiomqtt.MqttError, OSError) as error:
                logger.warning(
                    "the broker did not serve", broker=self._url.hostname, error=str(error)
                )
            except Exception:
                # One row that nobody foresaw must not end the others' sensors for good.
                logger.exception("sensors could not be published; it is repeated")
            await asyncio.sleep(self._every)

    async def _session(self) -> None:
        status, url = self._topics.status, self._url
        async with aiomqtt.Client(
            url.hostname or "",
            url.port or PORTS[url.scheme],
            username=unquote(url.username) if url.username is not None else None,
            password=unquote(url.password) if url.password is not None else None,
            tls_context=ssl.create_default_context() if url.scheme == "mqtts" else None,
            will=aiomqtt.Will(status, OFFLINE, qos=1, retain=True),
            timeout=TIMEOUT,
        ) as client:
            logger.info("publishing sensors", broker=url.hostname)
            sent: dict[str, bytes] = {}
            await self._look(client)
            await client.publish(status, ONLINE, qos=1, retain=True)
            try:
                while True:
                    miners = await self._read()
                    if miners is not None:
                        await self._hand_over(client, self._topics.messages(miners), sent)
                    await asyncio.sleep(self._every)
            finally:
                # At our own end the broker does not send the will.
                with contextlib.suppress(aiomqtt.MqttError):
                    await client.publish(status, OFFLINE, qos=1, retain=True)

    async def _look(self, client: aiomqtt.Client) -> None:
        """Finds what an earlier run left at the broker: some of it may be of nobody any more."""
        if self._looked:
            return
        # Of no quality of service: a broker may drop what waits for answers beyond a limit.
        asked = [*self._topics.filters, self._topics.look]
        for topic in asked:
            await client.subscribe(topic, qos=0)
        await client.publish(self._topics.look, b"")  # comes back after what is retained
        try:
            async with asyncio.timeout(TIMEOUT):
                async for message in client.messages:
                    if message.topic.value == self._topics.look:
                        break
                    if message.retain:
                        self._there.add(message.topic.value)
            self._looked = True
        except TimeoutError:
            logger.warning("the broker does not show what it holds", broker=self._url.hostname)
        for topic in asked:
            await client.unsubscribe(topic)

    async def _hand_over(
        self, client: aiomqtt.Client, wanted: dict[str, bytes], sent: dict[str, bytes]
    ) -> None:
        for topic in self._there - wanted.keys():
            await client.publish(topic, b"", qos=1, retain=True)  # takes the entity away
            self._there.discard(topic)
            sent.pop(topic, None)
        for topic, payload in wanted.items():
            if sent.get(topic) != payload:
                self._there.add(topic)
                await client.publish(topic, payload, qos=1, retain=True)
                sent[topic] = payload

    async def _read(self) -> list[Miner] | None:
        """The miners, or None while the database does not answer: then what was said stays."""
        settings = {
            "default_transaction_read_only": "on",
            "timezone": "UTC",
            "statement_timeout": "10000",
        }
        try:
            connection = await connect_async(
                self._database_url, application="tbg_notify", settings=settings, command_timeout=15
            )
        except (*AWAY, asyncpg.PostgresError) as error:
            logger.warning("the database did not serve", error=str(error).strip())
            return None
        try:
            return _miners(await connection.fetch(_MINERS, self._users, MOST_MINERS, MOST_WORKERS))
        except (*AWAY, asyncpg.PostgresError) as error:
            logger.warning("the database did not serve", error=str(error).strip())
            return None
        finally:
            connection.terminate()


def _miners(rows: Sequence[Any]) -> list[Miner]:
    found: dict[int, Miner] = {}
    workers: dict[int, list[Worker]] = {}
    for row in rows:
        number = row["id"]
        found.setdefault(
            number,
            Miner(
                row["btc_address"],
                row["rate"],
                row["best_week"],
                block_chance(row["rate_of_day"], DAY, row["network_difficulty"]),
                workers.setdefault(number, []),
            ),
        )
        if row["worker_name"] is not None:
            workers[number].append(
                Worker(
                    row["worker_name"],
                    0.0 if row["silent"] else row["worker_rate"],
                    row["last_share"],
                    row["silent"],
                )
            )
    return list(found.values())


# An engine that is gone reports no rate any more. By number, so that the same miners are chosen
# each time.
_MINERS: Final = """
with network as (
    select bounded(network_difficulty) as network_difficulty
    from network_blocks order by seen_at desc, height desc limit 1
),
chosen as (
    select
        u.id, u.btc_address, u.last_seen,
        case when u.last_seen > now() - interval '1 hour'
            then coalesce(least(greatest(u.hashrate_5m, 0), 1e24), 0) else 0 end as rate,
        case when u.last_seen > now() - interval '1 day'
            then coalesce(least(greatest(u.hashrate_24h, 0), 1e24), 0) else 0 end as rate_of_day
    from users u
    where u.btc_address = any($1::text[])
        or (cardinality($1::text[]) = 0 and u.last_seen > now() - interval '7 days')
    order by u.id
    limit $2
)
select
    c.id, c.btc_address, c.rate, c.rate_of_day, n.network_difficulty,
    bounded(b.best_difficulty) as best_week,
    w.worker_name, w.last_share, not w.is_online as silent,
    coalesce(least(greatest(w.hashrate_5m, 0), 1e24), 0) as worker_rate
from chosen c
left join network n on true
left join weekly_best_diff b
    on b.user_id = c.id and b.week_start = date_trunc('week', now() at time zone 'UTC')::date
left join lateral (
    select s.* from workers_seen s
    where s.user_id = c.id and s.noted_share > now() - interval '7 days'
    order by s.worker_name
    limit $3
) w on true
order by c.id, w.worker_name
"""
