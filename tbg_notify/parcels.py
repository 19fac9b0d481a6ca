"""What is due on a route, made into texts: what belongs together is one."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Final

import psycopg
from psycopg.rows import DictRow

from tbg_notify import words
from tbg_notify.digest import digest
from tbg_notify.kinds import Message, Worker, read
from tbg_notify.plan import flaps, is_about_workers, muted, remember, running_mutes
from tbg_notify.routes import Route
from tbg_notify.text import Text

# More messages of one kind become one.
MOST_OF_A_KIND: Final = 5


@dataclass(frozen=True)
class Parcel:
    """A text, and the messages that it stands for."""

    text: Text
    messages: tuple[int, ...]


@dataclass
class Packed:
    """What is due, as texts; messages of which nothing is left to send; those that say nothing."""

    parcels: list[Parcel] = field(default_factory=list)
    silent: list[int] = field(default_factory=list)
    unreadable: dict[int, str] = field(default_factory=dict)


def pack(
    connection: psycopg.Connection[DictRow],
    name: str,
    route: Route,
    rows: Sequence[DictRow],
    now: datetime,
) -> Packed:
    """The texts of what is due; one message that cannot be read or written holds up no other."""
    mutes = running_mutes(connection, now)
    about: list[tuple[Message, list[Worker]]] = []
    kinds: defaultdict[str, list[Message]] = defaultdict(list)
    packed = Packed()
    for row in rows:
        try:
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
                    words.workers([(message, left)], route.zone, [])
                    about.append((message, left))
                else:
                    packed.silent.append(message.id)
            elif message.kinds[0] == "daily_digest":
                text = digest(connection, route, date.fromisoformat(message.payload["day"]))
                if text is None:
                    packed.silent.append(message.id)
                else:
                    packed.parcels.append(Parcel(text, (message.id,)))
            else:
                words.one(message, route.zone)
                kinds[message.kinds[0]].append(message)
        except Exception as error:
            # One that cannot be read holds up no other. The database's own trouble is not its.
            if isinstance(error, psycopg.Error) and not isinstance(error, psycopg.DataError):
                raise
            packed.unreadable[row["id"]] = repr(error)
    for messages in kinds.values():
        ids = tuple(message.id for message in messages)
        if len(messages) > MOST_OF_A_KIND:
            packed.parcels.append(Parcel(words.several(messages, route.zone), ids))
        else:
            packed.parcels += [Parcel(words.one(one, route.zone), (one.id,)) for one in messages]
    if about:
        memory = remember(connection, name, route, now)
        seen = {one.key: one for _, named in about for one in named}
        capped = [
            words.worker_name(one) for key, one in seen.items() if memory.sent[key] >= route.cap
        ]
        ids = tuple(message.id for message, _ in about)
        packed.parcels.append(Parcel(words.workers(about, route.zone, capped), ids))
    # A found block goes first.
    first = {row["id"] for row in rows if row["stream"] == "notify:block_found"}
    packed.parcels.sort(key=lambda parcel: not first & set(parcel.messages))
    return packed


def _lasting(
    connection: psycopg.Connection[DictRow], name: str, message: Message, named: list[Worker]
) -> list[Worker]:
    """Of workers that flap: those still silent, or back from a silence that was sent."""
    if "worker_offline" in message.kinds:
        rows = connection.execute(
            "select u.btc_address || '.' || w.worker_name as key from worker_liveness l "
            "join workers w on w.id = l.worker_id join users u on u.id = w.user_id "
            "where l.back_since is null and not w.is_online"
        ).fetchall()
    else:
        rows = connection.execute(
            "select distinct unnest(workers) as key from alert_deliveries d "
            "join outbox o on o.id = d.message_id where d.route = %s and d.taken_by <> '{}' "
            "and o.stream = 'notify:worker_offline' and d.planned_at > %s::timestamptz - interval '7 days' "
            "and (o.payload ->> 'flapping')::boolean",
            [name, message.at],
        ).fetchall()
    known = {row["key"] for row in rows}
    return [one for one in named if one.key in known]
