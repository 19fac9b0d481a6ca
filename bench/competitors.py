"""rsyslog on the same way: a Unix datagram socket to Redis, and to PostgreSQL.

It stores each datagram as it is: no contract, no sequence numbers, no weekly bests.
"""

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import psutil
import psycopg

from bench.figures import Report
from bench.load import Load
from bench.stack import Servers, cpu_seconds
from tests.processes import running, wait_until

PART: Final = "rsyslog"
START_SECONDS: Final = 20.0
_COMMON: Final = """
global(workDirectory="{folder}" maxMessageSize="16k")
module(load="imuxsock" SysSock.Use="off")
main_queue(queue.type="LinkedList" queue.size="200000" queue.dequeueBatchSize="1000"
           queue.timeoutEnqueue="60000" queue.workerThreads="1")
input(type="imuxsock" Socket="{folder}/events.sock" CreatePath="off" RateLimit.Interval="0"
      UseSpecialParser="off" ParseHostname="off" IgnoreTimestamp="on")
"""
_REDIS: Final = """
module(load="omhiredis")
template(name="raw" type="string" string="%rawmsg%")
action(type="omhiredis" server="127.0.0.1" serverport="{port}" serverpassword="{password}"
       mode="queue" key="rsyslog" template="raw")
"""
_POSTGRES: Final = """
module(load="ompgsql")
template(name="row" type="string" option.stdsql="on"
         string="insert into rsyslog_events (raw) values ('%rawmsg%')")
action(type="ompgsql" server="{host}" port="{port}" user="{user}" pass="{password}"
       db="{database}" template="row")
"""


@contextlib.contextmanager
def rsyslog(folder: Path, config: str) -> Iterator[psutil.Process]:
    """A running rsyslogd."""
    binary = shutil.which("rsyslogd", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    assert binary is not None
    path = folder / "rsyslog.conf"
    path.touch(mode=0o600)
    path.write_text(config)
    command = [binary, "-n", "-f", path, "-i", folder / "pid"]
    with running(command, folder / "rsyslog.log") as process:
        wait_until(
            lambda: process.returncode is not None or (folder / "events.sock").exists(),
            "rsyslog listens",
            START_SECONDS,
        )
        if process.returncode is not None:
            raise RuntimeError(f"rsyslog did not start: {process.output}")
        yield psutil.Process(process.pid)
        process.end()


def compare(report: Report, servers: Servers, count: int, seconds: float) -> None:
    """rsyslog into Redis and into PostgreSQL, each for as long as allowed at most."""
    if shutil.which("rsyslogd", path="/usr/sbin:/usr/bin:/usr/local/sbin") is None:
        report.left_out.append(
            "rsyslog: not installed (Debian: rsyslog rsyslog-hiredis rsyslog-pgsql)"
        )
        return
    _to_redis(report, servers, count, seconds)
    _to_postgres(report, servers, count, seconds)


def _to_redis(report: Report, servers: Servers, count: int, seconds: float) -> None:
    client = servers.client()
    folder = servers.new_folder()
    config = (_COMMON + _REDIS).format(
        folder=folder, port=servers.valkey.port, password=servers.valkey.password
    )
    with rsyslog(folder, config) as process:
        load = Load(folder / "events.sock", "flood", count)
        before, begun = cpu_seconds(process), time.monotonic()
        load.go()
        while client.llen("rsyslog") < count and time.monotonic() < begun + seconds:
            time.sleep(0.01)
        stored, spent = int(client.llen("rsyslog")), time.monotonic() - begun
        cost = cpu_seconds(process) - before
        client.delete("rsyslog")
        load.result()
    report.add(
        PART,
        "socket → Redis list (omhiredis)",
        stored / spent,
        "events/s",
        limit=report.value("receiver (socket → Redis)"),
        limit_is="our receiver",
        note=f"{1e6 * cost / max(1, stored):.1f} CPU-s per million events",
    )


def _to_postgres(report: Report, servers: Servers, count: int, seconds: float) -> None:
    url = servers.database()
    parts = urlsplit(url)
    folder = servers.new_folder()
    config = (_COMMON + _POSTGRES).format(
        folder=folder,
        host=parts.hostname,
        port=parts.port or 5432,
        user=parts.username,
        password=parts.password,
        database=parts.path.lstrip("/"),
    )
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("create table rsyslog_events (raw text)")
        with rsyslog(folder, config) as process:
            load = Load(folder / "events.sock", "flood", count)
            before, begun = cpu_seconds(process), time.monotonic()
            load.go()
            stored = 0
            while stored < count and time.monotonic() < begun + seconds:
                time.sleep(0.2)
                row = connection.execute("select count(*) from rsyslog_events").fetchone()
                assert row is not None
                stored = row[0]
            spent = time.monotonic() - begun
            cost = cpu_seconds(process) - before
            load.result()
    report.add(
        PART,
        "socket → table of raw text (ompgsql)",
        stored / spent,
        "events/s",
        limit=report.value("socket → committed row"),
        limit_is="ours, end to end",
        note=f"{1e6 * cost / max(1, stored):.1f} CPU-s per million events",
    )
