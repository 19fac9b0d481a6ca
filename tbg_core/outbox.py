"""Messages that go to Redis exactly once, together with the change they report.

``post`` writes a message in the caller's transaction; ``deliver`` sends what was
committed. Redis remembers for a week which messages it has (one script adds the
entry and the memory at once), so that a delivery that died between Redis and the
database is not repeated.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import psycopg
import redis
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from tbg_core.messages import Payload

MAX_ENTRIES: Final = 100_000
REMEMBER_SECONDS: Final = 7 * 86_400
# Deliveries queue on this advisory lock, so that the order of messages is kept.
LOCK: Final = "tbg outbox"

# KEYS: stream, memory. ARGV: seconds to remember, most entries, then the fields.
_ADD_ONCE: Final = """
local known = redis.call('GET', KEYS[2])
if known then return known end
local fields = {}
for i = 3, #ARGV do fields[#fields + 1] = ARGV[i] end
local id = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', unpack(fields))
redis.call('SET', KEYS[2], id, 'EX', ARGV[1])
return id
"""


def micros(moment: datetime) -> int:
    """Microseconds since the Unix epoch, as the event contract has its times."""
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond


def post(
    connection: psycopg.Connection[DictRow],
    stream: str,
    key: str,
    payload: Payload | Mapping[str, Any],
    source: str = "hosted",
) -> bool:
    """Writes a message; False when the one with this key was written before.

    Args:
        stream: of Redis, or ``notify:<name>`` for the notifier alone.
        payload: a model of :mod:`tbg_core.messages`, or what its ``payload`` gave.
    """
    return (
        connection.execute(
            "insert into outbox (stream, key, event, source, payload) "
            "values (%s, %s, %s, %s, %s) on conflict (key) do nothing",
            [
                stream,
                key,
                stream.partition(":")[2],
                source,
                Jsonb(payload.payload() if isinstance(payload, Payload) else dict(payload)),
            ],
        ).rowcount
        == 1
    )


def deliver(
    connection: psycopg.Connection[DictRow], client: "redis.Redis", stream: str
) -> list[DictRow]:
    """Sends what waits for a stream, oldest first, and returns the messages sent.

    ``connection`` must be in autocommit mode: each message is marked on its own.

    Raises:
        redis.RedisError: when Redis does not answer; what was not sent waits.
    """
    sent: list[DictRow] = []
    connection.execute("select pg_advisory_lock(hashtext(%s))", [LOCK])
    try:
        waiting = connection.execute(
            "select id, stream, event, source, payload, key, created_at "
            "from outbox where sent_at is null and stream = %s order by id",
            [stream],
        ).fetchall()
        for message in waiting:
            entry = add_once(
                client,
                message["stream"],
                f"outbox:{message['created_at'].timestamp()}:{message['id']}",
                message["source"],
                micros(message["created_at"]),
                message["payload"],
            )
            connection.execute(
                "update outbox set sent_at = now(), entry_id = %s where id = %s",
                [entry, message["id"]],
            )
            sent.append(message)
    finally:
        connection.execute("select pg_advisory_unlock(hashtext(%s))", [LOCK])
    return sent


def add_once(
    client: "redis.Redis",
    stream: str,
    identity: str,
    source: str,
    timestamp: int,
    payload: Mapping[str, Any],
) -> str:
    """Adds an entry unless one of this identity was added in the last week.

    The entry has the fields of every entry in our streams: event, timestamp
    (microseconds), source, data (JSON). Returns its id.
    """
    fields: dict[str, str | int] = {
        "event": stream.partition(":")[2],
        "timestamp": timestamp,
        "source": source,
        "data": json.dumps(payload, separators=(",", ":")),
    }
    arguments: list[str | int] = [item for pair in fields.items() for item in pair]
    # In a cluster, what is remembered must be on the stream's node.
    tag = f"{{{stream}}}:" if isinstance(client, redis.RedisCluster) else ""
    return str(
        client.eval(
            _ADD_ONCE,
            2,
            stream,
            f"mining:sent:{tag}{identity}",
            REMEMBER_SECONDS,
            MAX_ENTRIES,
            *arguments,
        )
    )
