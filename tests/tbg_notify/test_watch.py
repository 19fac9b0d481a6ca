"""A dead Dagster daemon cannot report itself: the notifier does, from Dagster's own tables."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from dagster import DagsterRunStatus
from dagster_postgres import PostgresRunStorage

from tbg.stack.node import Node
from tbg_core.dagster_health import SILENT_SECONDS, Findings, look
from tbg_notify.notifier import NODE_SILENT, Notifier
from tbg_notify.settings import NotifierSettings
from tbg_notify.watch import SETTLED, watch
from tests.tbg_core.test_dagster_health import OLD, add_run, beat, storage
from tests.tbg_dagster.conftest import Connection
from tests.tbg_notify.test_delivery import Phone, tick

__all__ = ["storage"]

# The rows are as old as Dagster's own clock says; the notifier's rounds are at moments of ours.
NOW = datetime.now(UTC)
LONG = 10.0 * SILENT_SECONDS


@pytest.fixture
def phone() -> Phone:
    return Phone()


def round_(connection: Connection, phone: Phone, url: str, minute: float, up: float = LONG) -> None:
    """What the notifier does every half minute, and then every two seconds."""
    now = NOW + timedelta(minutes=minute)
    watch(connection, look(url, up), now)
    tick(connection, phone, now)


def test_a_daemon_that_stopped_beating_is_told_once_and_its_return_once(
    connection: Connection, storage: PostgresRunStorage, empty_database_url: str, phone: Phone
) -> None:
    beat(storage, "SENSOR")
    round_(connection, phone, empty_database_url, 0)
    assert phone.texts == []
    beat(storage, "SENSOR", age=OLD)
    for minute in (1.0, 2.0, 30.0):
        round_(connection, phone, empty_database_url, minute)
    (text,) = phone.texts
    assert text.title == "Dagster's daemon is sick"
    assert text.lines[0].startswith("no part of the daemon has beaten for 24")

    # One beat of a daemon that dies again is not told; the next death is the same incident.
    beat(storage, "SENSOR")
    round_(connection, phone, empty_database_url, 31)
    beat(storage, "SENSOR", age=OLD)
    round_(connection, phone, empty_database_url, 32)
    beat(storage, "SENSOR")
    settled = 32 + SETTLED / timedelta(minutes=1)
    for minute in (32.5, settled, settled + 1, settled + 2):
        round_(connection, phone, empty_database_url, minute)
    assert phone.titles[1:] == ["Recovered: Dagster's daemon is sick"]

    # A later death is another incident.
    beat(storage, "SENSOR", age=OLD)
    round_(connection, phone, empty_database_url, 60)
    assert phone.titles[2:] == ["Dagster's daemon is sick"]


def test_runs_that_do_not_start_are_an_incident_of_their_own_and_failed_ones_are_the_sensors(
    connection: Connection, storage: PostgresRunStorage, empty_database_url: str, phone: Phone
) -> None:
    beat(storage, "SENSOR")
    add_run(storage, empty_database_url, DagsterRunStatus.FAILURE, timedelta(minutes=5))
    add_run(storage, empty_database_url, DagsterRunStatus.STARTING, timedelta(minutes=20))
    round_(connection, phone, empty_database_url, 0)
    (text,) = phone.texts
    assert text.title == "Dagster's runs do not start"
    assert text.lines[0].startswith("1 run is STARTING, the oldest for 120")


def test_a_daemon_that_has_just_been_started_with_the_notifier_has_time_to_begin(
    connection: Connection, storage: PostgresRunStorage, empty_database_url: str, phone: Phone
) -> None:
    round_(connection, phone, empty_database_url, 0, up=5)
    assert phone.texts == []
    round_(connection, phone, empty_database_url, 4)
    assert phone.texts[0].lines[0] == "no part of the daemon has beaten since it was started"


def test_two_notifiers_tell_it_once(
    connection: Connection, storage: PostgresRunStorage, empty_database_url: str
) -> None:
    beat(storage, "SENSOR", age=OLD)
    found = look(empty_database_url, LONG)
    assert [watch(connection, found, NOW) for _ in range(2)] == [1, 0]


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg2", "postgres"])
def test_dagsters_database_is_named_as_dagster_has_it(
    monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://x")
    monkeypatch.setenv("DAGSTER_PG_URL", f"{scheme}://d:p@h/dagster")
    assert NotifierSettings.load().dagster_pg_url == "postgresql://d:p@h/dagster"
    monkeypatch.setenv("DAGSTER_PG_URL", "")
    assert NotifierSettings.load().dagster_pg_url is None


def test_a_node_that_is_silent_and_a_disk_without_room_are_messages_of_their_own(
    connection: Connection, phone: Phone
) -> None:
    def round_of(minute: float, **machine: list[str]) -> None:
        now = NOW + timedelta(minutes=minute)
        watch(connection, Findings(), now, machine)
        tick(connection, phone, now)

    round_of(0, node=[], disk=[])
    assert phone.texts == []
    for minute in (1, 2):
        round_of(minute, node=["the node at x does not answer: no"], disk=[])
    (text,) = phone.texts
    assert text.title == "The Bitcoin node does not answer"
    assert text.lines[0] == "the node at x does not answer: no"
    round_of(20, node=["still"], disk=["only 1.0 GB of the disk are free"])
    assert phone.titles[1:] == ["The disk is nearly full"]
    for minute in (40, 43, 44):
        round_of(minute, node=[], disk=[])
    assert sorted(phone.titles[2:]) == [
        "Recovered: The Bitcoin node does not answer",
        "Recovered: The disk is nearly full",
    ]


class SilentNode(Node):
    """A node that gives no answer."""

    def trouble(self) -> str | None:
        return "the node at x does not answer: no"


def test_people_hear_of_a_node_after_two_minutes_of_silence(
    database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    notifier = Notifier(database_url, {}, node=SilentNode("http://x"), disk=tmp_path)
    now += NODE_SILENT - 1
    assert notifier.machine()["node"] == []
    now += 1
    assert notifier.machine()["node"] == ["the node at x does not answer: no"]
    monkeypatch.setattr(SilentNode, "trouble", lambda _: None)
    assert notifier.machine()["node"] == []
    assert notifier.machine()["disk"] == []
