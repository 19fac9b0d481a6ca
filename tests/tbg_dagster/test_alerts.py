"""Alerts: once when an incident begins, once when it is over."""

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.names import ALERTS_STREAM
from tbg_dagster.alerts.incidents import Alert, State
from tbg_dagster.alerts.sensors import alerts_sensor
from tbg_dagster.definitions import defs
from tbg_dagster.resources import BitcoinNode, RedisServer, Webhook
from tests.tbg_dagster.conftest import Connection, History, Run, last_monday

Look = Callable[[], list[tuple[str, str]]]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=60))
def test_an_incident_is_told_once_and_its_end_is_told_once(seen: list[tuple[str, bool]]) -> None:
    state = State()
    for number, (name, failing) in enumerate(seen):
        state.observe(
            Alert(
                state="firing" if failing else "recovered",
                incident=name,
                id=f"{name}{number}",
                title=name,
                timestamp=number,
            ),
            ["redis"],
        )
    for name in "abc":
        mine = [failing for other, failing in seen if other == name]
        told = [item.alert.state for item in state.waiting if item.alert.incident == name]
        # Every change is told, beginning with the first failure, and nothing else.
        changes = [now for before, now in zip([False, *mine], mine, strict=False) if before != now]
        assert told == ["firing" if change else "recovered" for change in changes]
        assert (name in state.open) == (bool(mine) and mine[-1])


@pytest.fixture
def look(client: Any, instance: dg.DagsterInstance, resources: dict[str, Any]) -> Look:
    """``look()`` is one tick of the sensor; returns all that Redis was ever told."""
    cursor: list[str | None] = [None]

    def tick() -> list[tuple[str, str]]:
        context = dg.build_sensor_context(
            instance=instance,
            cursor=cursor[0],
            repository_def=defs.get_repository_def(),
            resources={name: resources[name] for name in ("database", "redis_server", "webhook")},
        )
        result = alerts_sensor(context)
        assert isinstance(result, dg.SensorResult)
        cursor[0] = result.cursor
        told = (json.loads(fields["data"]) for _, fields in client.xrange(ALERTS_STREAM))
        return [(item["state"], item["incident"]) for item in told]

    tick()
    return tick


def test_a_failed_run_is_told_once_and_its_recovery_once(
    look: Look, run: Run, resources: dict[str, Any], history: History
) -> None:
    history.block("a.1", 1, "ab" * 32)
    resources["bitcoin_node"] = BitcoinNode(url="http://127.0.0.1:1", retries=0)
    for _ in range(2):
        run("confirm_blocks", raise_on_error=False)
        assert look() == [("firing", "run:confirm_blocks")]
    history.connection.execute("delete from blocks")
    run("odds")
    assert look() == [("firing", "run:confirm_blocks")]  # another job's success is not its own


def test_a_failing_check_is_told_once_and_its_recovery_once(
    look: Look, run: Run, connection: Connection
) -> None:
    connection.execute(
        "insert into engine_instances (instance, seq_max, seq_missing) values ('x/1', 9, '{[3,5)}')"
    )

    def told() -> list[str]:
        # Other checks of the books may find the same gap.
        wanted = "check:engine_instances:no_sequence_gaps"
        return [state for state, incident in look() if incident == wanted]

    for _ in range(2):
        run("quality", raise_on_error=False)
        assert told() == ["firing"]
    connection.execute("update engine_instances set seq_missing = '{}'")
    run("quality", raise_on_error=False)
    assert told() == ["firing", "recovered"]


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[Any]]]:
    """A webhook, and what it was sent."""
    taken: list[Any] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hook", taken
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_channel_that_is_away_gets_its_alert_later_and_the_other_at_once(
    look: Look,
    run: Run,
    resources: dict[str, Any],
    webhook: tuple[str, list[Any]],
) -> None:
    url, taken = webhook
    good = resources["redis_server"]
    resources["webhook"] = Webhook(url=url)
    resources["redis_server"] = RedisServer(url="redis://127.0.0.1:1/0")
    run("weekly_reset", f"{last_monday():%Y-%m-%d}", raise_on_error=False)  # fails without Redis
    assert look() == []
    assert [item["incident"] for item in taken] == ["run:weekly_reset"]
    assert taken[0]["text"] == "firing: runs of weekly_reset fail"

    resources["redis_server"] = good
    assert look() == [("firing", "run:weekly_reset")]
    run("weekly_reset", f"{last_monday():%Y-%m-%d}")
    assert look() == [("firing", "run:weekly_reset"), ("recovered", "run:weekly_reset")]
    assert [item["state"] for item in taken] == ["firing", "recovered"]
