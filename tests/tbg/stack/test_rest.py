"""The batch side of a light stack works around the full hour, and rests when nothing is left."""

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import click
import psycopg
import pytest
import yaml

from tbg.stack import rest
from tbg.stack.dagster import CODE_SERVER, DAEMON, WEBSERVER
from tbg.stack.programs import NOTIFIER, StackOptions, StackPlan
from tbg.stack.rest import Rest, rests
from tbg.stack.running import RunningStack
from tbg.stack.state import Stack, State
from tbg.stack.supervisor import Process

NOT_YET = datetime(2026, 11, 30, 13, 0, 59, tzinfo=UTC)
DUE = datetime(2026, 11, 30, 13, 1, tzinfo=UTC)
STILL_DUE = datetime(2026, 11, 30, 13, 11, 59, tzinfo=UTC)
PAST = datetime(2026, 11, 30, 13, 12, tzinfo=UTC)


class Recorded:
    """What a stack was asked for; it starts what it is told, unless that is broken."""

    def __init__(self) -> None:
        self.running = [CODE_SERVER, DAEMON]
        self.plan = SimpleNamespace(resting=(CODE_SERVER, DAEMON))
        self.broken: str | None = None

    def seen(self, name: str) -> object | None:
        return name if name in self.running else None

    def begin(self, name: str) -> None:
        if name == self.broken:
            raise click.ClickException("no memory")
        self.running.append(name)

    def stop_program(self, name: str) -> None:
        self.running.remove(name)


@pytest.fixture
def stack() -> Recorded:
    return Recorded()


@pytest.fixture
def runs(empty_database_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(empty_database_url, autocommit=True) as database:
        database.execute("create table runs (status text)")
        database.execute("insert into runs values ('SUCCESS'), ('FAILURE'), ('CANCELED')")
        yield database


@pytest.fixture
def resting(
    stack: Recorded,
    runs: psycopg.Connection[Any],  # its table is there
    empty_database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Rest:
    monkeypatch.setattr(rest, "AT_LEAST", 0.0)
    return Rest(cast(RunningStack, stack), empty_database_url, lambda _: None)


def test_it_works_in_the_minutes_after_the_hour_alone(stack: Recorded, resting: Rest) -> None:
    for moment, running in [
        (STILL_DUE, [CODE_SERVER, DAEMON]),
        (PAST, []),
        (NOT_YET, []),
        (DUE, [CODE_SERVER, DAEMON]),
        (DUE, [CODE_SERVER, DAEMON]),
        (PAST, []),
    ]:
        resting.look(moment)
        assert stack.running == running


@pytest.mark.parametrize("status", ["QUEUED", "STARTING", "STARTED", "CANCELING"])
def test_it_ends_no_run(
    status: str, stack: Recorded, resting: Rest, runs: psycopg.Connection[Any]
) -> None:
    runs.execute("insert into runs values (%s)", [status])
    resting.look(PAST)
    assert stack.running == [CODE_SERVER, DAEMON]
    runs.execute("update runs set status = 'SUCCESS'")
    resting.look(PAST)
    assert stack.running == []


def test_it_works_on_while_its_database_is_away(stack: Recorded, monkeypatch: Any) -> None:
    monkeypatch.setattr(rest, "AT_LEAST", 0.0)
    nowhere = "postgresql://nobody@127.0.0.1:1/nothing"
    Rest(cast(RunningStack, stack), nowhere, lambda _: None).look(PAST)
    assert stack.running == [CODE_SERVER, DAEMON]


def test_it_gets_its_time_after_a_start(stack: Recorded, empty_database_url: str) -> None:
    Rest(cast(RunningStack, stack), empty_database_url, lambda _: None).look(PAST)
    assert stack.running == [CODE_SERVER, DAEMON]


def test_a_program_that_does_not_start_is_tried_again(stack: Recorded, resting: Rest) -> None:
    resting.look(PAST)
    stack.broken = DAEMON
    resting.look(DUE)
    assert stack.running == [CODE_SERVER]
    stack.broken = None
    resting.look(DUE)
    assert stack.running == [CODE_SERVER, DAEMON]


@pytest.mark.parametrize(
    ("name", "state", "found"),
    [
        (DAEMON, "STOPPED", True),
        (CODE_SERVER, "STOPPED", True),
        (DAEMON, "FATAL", False),
        ("writer", "STOPPED", False),
    ],
)
def test_only_what_rests_may_not_run(name: str, state: str, found: bool) -> None:
    process = Process(name, state, 0, 0)
    light = Stack("", "", "", "", 0, 0, resting=(CODE_SERVER, DAEMON))
    assert rests(light, process) == found
    assert not rests(Stack("", "", "", "", 0, 0), process)


def test_a_light_stack_has_no_ui_and_its_batch_side_rests(tmp_path: Path) -> None:
    state = State(tmp_path / "state")
    state.make()
    plan = StackPlan(state, StackOptions(light=True), {})
    programs = {one.name: one for one in plan.programs}
    assert WEBSERVER not in programs
    assert plan.dagster_url is None
    assert plan.resting == (NOTIFIER, CODE_SERVER, DAEMON)
    assert programs[NOTIFIER].launch.environment["DAGSTER_PG_URL"] == ""
    # One run at a time: each takes as much memory as all the rest.
    (state.path / "dagster").mkdir()
    with contextlib.suppress(psycopg.OperationalError):  # there is no database to look at
        programs[CODE_SERVER].prepare()
    home = yaml.safe_load((state.path / "dagster/dagster.yaml").read_text())
    assert home["concurrency"]["runs"]["max_concurrent_runs"] == 1
    # Where people wait for news, they come at once.
    routed = StackPlan(state, StackOptions(light=True), {"ALERTS_FILE": "alerts.yml"})
    assert routed.resting == (CODE_SERVER, DAEMON)
    assert StackPlan(state, StackOptions(), {}).resting == ()
    assert StackPlan(state, StackOptions(light=True, dagster=False), {}).resting == ()
