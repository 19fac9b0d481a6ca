"""How the writer's connection takes addresses and times: as PostgreSQL keeps them."""

import ipaddress
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

import asyncpg

from tbg_core.periods import from_micros

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_POSTGRES_EPOCH: Final = 946_684_800_000_000  # 2000-01-01, in microseconds since 1970


@lru_cache(maxsize=65_536)
def pack_inet(text: str) -> bytes:
    """An IP address in PostgreSQL's binary form of inet (src/backend network.c)."""
    address = ipaddress.ip_address(text)
    family = 2 if address.version == 4 else 3
    return bytes((family, address.max_prefixlen, 0, len(address.packed))) + address.packed


def pack_time(moment: int | datetime) -> tuple[int]:
    """A time, or microseconds since the epoch, as PostgreSQL counts: from the year 2000."""
    if isinstance(moment, datetime):
        moment = (moment - _EPOCH) // timedelta(microseconds=1)
    return (moment - _POSTGRES_EPOCH,)


async def prepare(connection: asyncpg.Connection) -> None:
    """Sets the connection's codecs; times may also be in microseconds."""
    # asyncpg's own codecs parse the address of every share again, and convert every
    # time to UTC.
    await connection.set_type_codec(
        "inet", schema="pg_catalog", encoder=pack_inet, decoder=bytes, format="binary"
    )
    await connection.set_type_codec(
        "timestamptz",
        schema="pg_catalog",
        encoder=pack_time,
        decoder=lambda counted: from_micros(counted[0] + _POSTGRES_EPOCH),
        format="tuple",
    )
