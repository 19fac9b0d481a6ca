"""The PROXY protocol, versions 1 and 2: the miner's own address, from a proxy in front of the pool.

Source: the specification that haproxy publishes (doc/proxy-protocol.txt). Only proxies that the
configuration names may say who the miner is.
"""

import asyncio
import ipaddress
import struct
from typing import Final

from devnet.pool.config import ConfigError

Networks = list[ipaddress.IPv4Network | ipaddress.IPv6Network]

SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"  # of version 2
FIRST: Final = (b"P", SIGNATURE[:1])  # with which a header begins; a request begins with neither

_LINE_MAX: Final = 107  # bytes of a version 1 header, CR and LF included
_BODY_MAX: Final = 4096  # bytes of addresses and extensions that we read of a version 2 header
_LOCAL, _PROXY = 0x20, 0x21  # version 2 and the command
_ADDRESS_BYTES: Final = {0x1: 4, 0x2: 16}  # by address family: IPv4, IPv6


class ProxyHeaderError(ValueError):
    """The bytes are not a header of the PROXY protocol."""


def networks(values: list[str]) -> Networks:
    """Addresses and networks (192.0.2.7, 192.0.2.0/24) as the configuration names them.

    Raises:
        ConfigError: one of them is neither.
    """
    try:
        return [ipaddress.ip_network(value, strict=False) for value in values]
    except ValueError as error:
        raise ConfigError(f"proxies: {error}") from None


async def read_header(reader: asyncio.StreamReader, first: bytes) -> str | None:
    """Reads the header that begins with ``first``, one of :data:`FIRST`.

    Returns:
        The address that it names; None if the proxy speaks for itself (LOCAL, UNKNOWN).

    Raises:
        ProxyHeaderError: it is no header.
        asyncio.IncompleteReadError: the connection ended before its end.
    """
    if first == SIGNATURE[:1]:
        return await _read_binary(reader)
    line = first
    while not line.endswith(b"\n"):
        if len(line) >= _LINE_MAX:
            raise ProxyHeaderError("a PROXY line has at most 107 bytes")
        line += await reader.readexactly(1)
    words = line.rstrip(b"\r\n").decode("ascii", "replace").split(" ")
    if words[:2] == ["PROXY", "UNKNOWN"]:
        return None
    if len(words) != 6 or words[0] != "PROXY" or words[1] not in ("TCP4", "TCP6"):
        raise ProxyHeaderError("it is not PROXY TCP4|TCP6 source destination port port")
    try:
        address = ipaddress.ip_address(words[2])
    except ValueError as error:
        raise ProxyHeaderError(str(error)) from None
    return str(address)


async def _read_binary(reader: asyncio.StreamReader) -> str | None:
    head = SIGNATURE[:1] + await reader.readexactly(15)
    command, family, size = struct.unpack_from(">BBH", head, 12)
    if head[:12] != SIGNATURE or command not in (_LOCAL, _PROXY) or size > _BODY_MAX:
        raise ProxyHeaderError("it is not a header of version 2")
    body = await reader.readexactly(size)
    length = _ADDRESS_BYTES.get(family >> 4)
    if command == _LOCAL or length is None:
        return None
    if size < 2 * length + 4:
        raise ProxyHeaderError("it has no room for its addresses")
    return str(ipaddress.ip_address(body[:length]))
