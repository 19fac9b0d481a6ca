#!/opt/venv/bin/python
"""Health checks of the containers, without curl or a shell's guesswork.

Exit status 0 if the service works; else 1, with the reason in one line
(`docker inspect` shows it).

probe http URL            a GET is answered by 200
probe node URL            a node answers getblockcount, with TBG_RPC_PASSWORD
probe stratum HOST PORT   a pool answers mining.subscribe
probe connected PORT      this container holds a TCP connection to that port
probe grpc HOST PORT NAME a gRPC service of that name says SERVING
probe daemon              the parts of the Dagster daemon have beaten lately
"""

import base64
import json
import os
import socket
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

SECONDS = 4.0
BEAT_SECONDS = 180.0  # a part of the daemon beats every 30 s
ESTABLISHED = "01"  # of Linux's /proc/net/tcp


class Unhealthy(Exception):
    """What is missing."""


def http(url: str) -> None:
    with urllib.request.urlopen(url, timeout=SECONDS) as answer:  # noqa: S310  the compose file's
        if answer.status != 200:
            raise Unhealthy(f"{url} answered {answer.status}")


def node(url: str) -> None:
    body = json.dumps({"id": 1, "method": "getblockcount", "params": []}).encode()
    token = base64.b64encode(f"tbg:{os.environ['TBG_RPC_PASSWORD']}".encode()).decode()
    headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, body, headers)  # noqa: S310  the compose file's
    with urllib.request.urlopen(request, timeout=SECONDS) as answer:  # noqa: S310  as above
        if not isinstance(json.load(answer)["result"], int):
            raise Unhealthy("getblockcount has no number as its result")


def stratum(host: str, port: str) -> None:
    with socket.create_connection((host, int(port)), SECONDS) as connection:
        connection.sendall(b'{"id": 1, "method": "mining.subscribe", "params": ["probe"]}\n')
        line = connection.makefile("rb").readline(65536)
    if json.loads(line or b"{}").get("result") is None:
        raise Unhealthy(f"mining.subscribe was answered by {line[:200]!r}")


def connected(port: str) -> None:
    wanted = f"{int(port):04X}"
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            _, _, remote, state, *_ = line.split()
            if state == ESTABLISHED and remote.endswith(":" + wanted):
                return
    raise Unhealthy(f"no connection to port {port}")


def grpc(host: str, port: str, name: str) -> None:
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with grpc.insecure_channel(f"{host}:{port}") as channel:
        request = health_pb2.HealthCheckRequest(service=name)
        answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=SECONDS)
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        raise Unhealthy(f"{name} is not serving")


def daemon() -> None:
    # `dagster-daemon liveness-check` takes half an hour to notice, and seconds of a core
    # each time. A part that has not beaten for an hour is one that does not run any more.
    import psycopg

    url = os.environ["DAGSTER_PG_URL"].replace("+psycopg2", "")
    with psycopg.connect(url, connect_timeout=int(SECONDS)) as connection:
        rows = connection.execute(
            "select daemon_type, extract(epoch from (now() at time zone 'utc') - timestamp)"
            " from daemon_heartbeats where timestamp > (now() at time zone 'utc') - interval '1 hour'"
        ).fetchall()
    silent = [f"{name} for {age:.0f} s" for name, age in rows if age > BEAT_SECONDS]
    if silent or not rows:
        raise Unhealthy(f"silent: {', '.join(silent) or 'every part'}")


PROBES: dict[str, Callable[..., None]] = {
    "http": http,
    "node": node,
    "stratum": stratum,
    "connected": connected,
    "grpc": grpc,
    "daemon": daemon,
}


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] not in PROBES:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        PROBES[arguments[0]](*arguments[1:])
    # Whatever goes wrong, the answer of a health check is "unhealthy, because".
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
