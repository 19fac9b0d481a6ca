"""One route's deliveries: at least once, in order of urgency, its own delays only.

A message counts as sent when the channel has taken it. A crash between the two repeats it;
none is lost.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final, LiteralString

import psycopg
from psycopg.rows import DictRow

from tbg.notify import words
from tbg.notify.channel import Undelivered
from tbg.notify.digest import digest
from tbg.notify.kinds import Message, Worker, read
from tbg.notify.plan import flaps, is_about_workers, muted, remember, running_mutes
from tbg.notify.routes import Route
from tbg.notify.text import Text

FIRST_RETRY: Final = timedelta(seconds=5)
LONGEST_RETRY: Final = timedelta(minutes=10)
# A channel that was down for longer has lost what waited for it.
GIVE_UP: Final = timedelta(days=3)
# More messages of one kind become one.
MOST_OF_A_KIND: Final = 5

_DUE: Final[LiteralString] = """
select d.message_id, d.workers, d.attempts, d.planned_at,
    o.id, o.stream, o.key, o.payload, o.created_at
from alert_deliveries d
join outbox o on o.id = d.message_id
where d.route = %s and d.state = 'waiting' and d.due_at <= %s
order by o.stream <> 'notify:block_found', d.message_id
"""

Send = Callable[[Route, Text], None]


@dataclass(frozen=True)
class Parcel:
    """A text, and the messages that it tells."""

    text: Text
    messages: tuple[int, ...]


@dataclass(frozen=True)
class Result:
    """What one round of a route came to."""

    sent: int = 0
    dropped: int = 0
    failed: int = 0
    error: str | None = None


def deliver(
    connection: psycopg.Connection[DictRow], name: str, route: Route, now: datetime, send: Send
) -> Result:
    """Sends what is due on a route, until the channel refuses one."""
    with connection.transaction():
        # Two notifiers must not send the same at once.
        held = connection.execute(
            "select pg_try_advisory_lock(hashtext('tbg notify'), hashtext(%s)) as held", [name]
        ).fetchone()
    assert held is not None
    if not held["held"]:
        return Result()
    try:
        return _deliver(connection, name, route, now, send)
    finally:
        connection.execute(
            "select pg_advisory_unlock(hashtext('tbg notify'), hashtext(%s))", [name]
        )


def _deliver(
    connection: psycopg.Connection[DictRow], name: str, route: Route, now: datetime, send: Send
) -> Result:
    rows = connection.execute(_DUE, [name, now]).fetchall()
    parcels, silent = pack(connection, name, route, rows, now)
    if silent:
        _settle(connection, name, silent, "dropped", "muted, or nothing to tell", now)
    sent = 0
    for parcel in parcels:
        try:
            send(route, parcel.text)
        except Undelivered as error:
            failed = _postpone(connection, name, parcel, str(error), now)
            return Result(sent, len(silent), failed, str(error))
        _settle(connection, name, parcel.messages, "sent", None, now)
        sent += len(parcel.messages)
    return Result(sent, len(silent))


def pack(
    connection: psycopg.Connection[DictRow],
    name: str,
    route: Route,
    rows: Sequence[DictRow],
    now: datetime,
) -> tuple[list[Parcel], list[int]]:
    """The texts of what is due, and the messages of which nothing is left to tell."""
    mutes = running_mutes(connection, now)
    about: list[tuple[Message, list[Worker]]] = []
    kinds: defaultdict[str, list[Message]] = defaultdict(list)
    parcels: list[Parcel] = []
    silent: list[int] = []
    for row in rows:
        message = read(row)
        assert message is not None  # planned, so it was read before
        if is_about_workers(message):
            left = [
                one
                for one in message.workers
                if one.key in row["workers"] and not muted(one, mutes)
            ]
            if flaps(message):
                left = _lasting(connection, name, message, left)
            if left:
                about.append((message, left))
            else:
                silent.append(message.id)
        elif message.kinds[0] == "daily_digest":
            text = digest(connection, route, date.fromisoformat(message.payload["day"]))
            if text is None:
                silent.append(message.id)
            else:
                parcels.append(Parcel(text, (message.id,)))
        else:
            kinds[message.kinds[0]].append(message)
    for messages in kinds.values():
        ids = tuple(message.id for message in messages)
        if len(messages) > MOST_OF_A_KIND:
            parcels.append(Parcel(words.several(messages, route.zone), ids))
        else:
            parcels += [Parcel(words.one(one, route.zone), (one.id,)) for one in messages]
    if about:
        memory = remember(connection, name, route, now)
        seen = {one.key: one for _, named in about for one in named}
        capped = [
            words.worker_name(one) for key, one in seen.items() if memory.sent[key] >= route.cap
        ]
        ids = tuple(message.id for message, _ in about)
        parcels.append(Parcel(words.workers(about, route.zone, capped), ids))
    # A found block goes first.
    first = {row["id"] for row in rows if row["stream"] == "notify:block_found"}
    parcels.sort(key=lambda parcel: not first & set(parcel.messages))
    return parcels, silent


def _lasting(
    connection: psycopg.Connection[DictRow], name: str, message: Message, named: list[Worker]
) -> list[Worker]:
    """Of workers that flap: those still silent, or back from a silence that was told."""
    if "worker_offline" in message.kinds:
        rows = connection.execute(
            "select u.btc_address || '.' || w.worker_name as key from worker_liveness l "
            "join workers w on w.id = l.worker_id join users u on u.id = w.user_id "
            "where l.back_since is null and not w.is_online"
        ).fetchall()
    else:
        rows = connection.execute(
            "select distinct unnest(workers) as key from alert_deliveries d "
            "join outbox o on o.id = d.message_id where d.route = %s and d.state = 'sent' "
            "and o.stream = 'notify:worker_offline' and d.sent_at > %s::timestamptz - interval '7 days' "
            "and (o.payload ->> 'flapping')::boolean",
            [name, message.at],
        ).fetchall()
    known = {row["key"] for row in rows}
    return [one for one in named if one.key in known]


def _settle(
    connection: psycopg.Connection[DictRow],
    name: str,
    ids: Sequence[int],
    state: str,
    reason: str | None,
    now: datetime,
) -> None:
    connection.execute(
        "update alert_deliveries set state = %s, reason = %s, attempts = attempts + 1, "
        "sent_at = case when %s = 'sent' then %s::timestamptz end "
        "where route = %s and message_id = any(%s)",
        [state, reason, state, now, name, list(ids)],
    )


def _postpone(
    connection: psycopg.Connection[DictRow], name: str, parcel: Parcel, answer: str, now: datetime
) -> int:
    """Lets a parcel wait, each time for twice as long; returns how many are given up."""
    return connection.execute(
        "with tried as ("
        "  update alert_deliveries set attempts = attempts + 1, reason = %(answer)s,"
        "    state = case when planned_at < %(now)s - %(give_up)s then 'failed' else state end,"
        "    due_at = %(now)s + least(%(longest)s, %(first)s * power(2, least(attempts, 20)))"
        "  where route = %(route)s and message_id = any(%(ids)s) returning state"
        ") select from tried where state = 'failed'",
        {
            "answer": answer,
            "now": now,
            "give_up": GIVE_UP,
            "longest": LONGEST_RETRY,
            "first": FIRST_RETRY,
            "route": name,
            "ids": list(parcel.messages),
        },
    ).rowcount
