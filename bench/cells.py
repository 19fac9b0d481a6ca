"""What events cost when several cells share the machine: CPU and what Redis sends."""

import contextlib
from typing import Any, Final

import psutil

from bench.figures import Report
from bench.load import Load
from bench.stack import Servers, cpu_seconds, stage, wait_for_rows

PART: Final = "cells"
CELLS: Final = (1, 2, 4)


def measure(report: Report, servers: Servers, count: int) -> None:
    """The same events in one, two and four cells; each has an engine, a receiver and a writer."""
    first: dict[str, float] = {}
    for many in CELLS:
        for what, (value, unit) in _run(servers, many, count // many).items():
            basis = first.setdefault(what, value)
            report.add(
                PART,
                f"{what}, {many} cell{'' if many == 1 else 's'}",
                value,
                unit,
                limit=basis,
                limit_is="one cell",
                goal="within 5 %",
            )


def _run(servers: Servers, many: int, each: int) -> dict[str, tuple[float, str]]:
    client = servers.client()
    url = servers.database()
    redis_url = servers.valkey.url
    assert servers.valkey.process is not None
    redis = psutil.Process(servers.valkey.process.pid)
    with contextlib.ExitStack() as running:
        loads, ours = [], []
        for number in range(many):
            folder, cell = servers.new_folder(), f"cell{number}"
            settings: dict[str, Any] = {"redis_url": redis_url, "cell": cell}
            ours += [
                running.enter_context(stage("receiver", folder, **settings)).process,
                running.enter_context(
                    stage("writer", folder, database_url=url, **settings)
                ).process,
            ]
            loads.append(Load(folder / "events.sock", "flood", each, instance=f"{cell}/1"))
        sent, ours_before, redis_before = _sent(client), _cpu(ours), cpu_seconds(redis)
        for load in loads:
            load.go()
        wait_for_rows(url, many * each)
        events = many * each
        figures = {
            "bytes out of Redis": ((_sent(client) - sent) / events, "bytes/event"),
            "receivers and writers": (1e6 * (_cpu(ours) - ours_before) / events, "CPU µs/event"),
            "Redis": (1e6 * (cpu_seconds(redis) - redis_before) / events, "CPU µs/event"),
        }
        for load in loads:
            load.result()
    return figures


def _sent(client: Any) -> int:
    return int(client.info("stats")["total_net_output_bytes"])


def _cpu(processes: list[psutil.Process]) -> float:
    return sum(map(cpu_seconds, processes))
