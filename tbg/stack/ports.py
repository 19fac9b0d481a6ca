"""TCP ports of a stack: which they are, and whether they are free."""

import secrets
import socket
from collections import deque
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

HOST: Final = "127.0.0.1"
# Below the ports that Linux and macOS give to outgoing connections: one of those could
# be taken by a client while a server that died is started again.
FREE_PORTS: Final = range(20_000, 32_000)
PROBE_SECONDS: Final = 2.0
# Reservations that a process holds; older ones have served.
RESERVED: Final = 64

_reserved: deque[socket.socket] = deque()


@dataclass(frozen=True)
class Port:
    """A port that a program will listen on, and the option that changes it."""

    host: str
    number: int
    option: str


@dataclass(frozen=True)
class Ports:
    """The ports of a stack; the option of each is its name with dashes."""

    stratum_port: int = 3333
    rpc_port: int = 18443
    postgres_port: int = 15432
    valkey_port: int = 16379
    receiver_metrics_port: int = 9101
    writer_metrics_port: int = 9102
    dagster_port: int = 3000
    notifier_metrics_port: int = 9103
    serve_port: int = 8100

    def at(self, name: str, host: str = HOST) -> Port:
        """One of the ports, by its name."""
        return Port(host, getattr(self, name), f"--{name.replace('_', '-')}")

    @classmethod
    def free(cls) -> "Ports":
        """Returns ports that nothing listens on now."""
        found: set[int] = set()
        while len(found) < len(fields(cls)):
            found.add(free_port())
        return cls(*found)


def free_port() -> int:
    """Returns a TCP port of 127.0.0.1 that nothing listens on now.

    No process that calls this gets a port that another one got lately.
    """
    while True:
        port = secrets.choice(FREE_PORTS)
        # A UDP socket of the same number reserves it among the callers: it is in the way
        # of no TCP server, and the kernel closes it with the process.
        reservation = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            reservation.bind((HOST, port))
        except OSError:
            reservation.close()
            continue
        if why_taken(HOST, port) is not None:
            reservation.close()
            continue
        _reserved.append(reservation)
        if len(_reserved) > RESERVED:
            _reserved.popleft().close()
        return port


def why_taken(host: str, port: int) -> str | None:
    """Returns why a port cannot be bound, or None when it can."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # As servers do: connections that ended a moment ago do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.strerror or str(error)
    return None


def listens_on(path: Path) -> bool:
    """Returns whether something accepts connections on a Unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(PROBE_SECONDS)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def listens(host: str, port: int) -> bool:
    """Returns whether something accepts connections there."""
    try:
        with socket.create_connection((host, port), timeout=PROBE_SECONDS):
            return True
    except OSError:
        return False
