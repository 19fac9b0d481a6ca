"""The state folder belongs to one stack, and keeps its secrets."""

import os
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import click
import pytest

from ingest.settings import SUN_PATH_MAX
from tbg.batch import first_week
from tbg.ports import Ports
from tbg.program import without_password
from tbg.programs import StackOptions, StackPlan
from tbg.state import LONGEST_SOCKET, State, find_urls


def test_secrets_are_made_once_and_readable_by_their_owner_alone(tmp_path: Path) -> None:
    state = State(tmp_path / "state")
    state.make()
    first = state.secrets()
    assert state.secrets() == first
    assert len(set(asdict(first).values())) == 5
    assert (state.path / "secrets.json").stat().st_mode & 0o077 == 0
    assert first.redis not in repr(first)


def test_two_folders_have_different_secrets(tmp_path: Path) -> None:
    one, other = State(tmp_path / "one"), State(tmp_path / "other")
    for state in (one, other):
        state.make()
    assert one.secrets() != other.secrets()


def test_a_folder_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    state = State(tmp_path / "state")
    with state.hold():
        assert State(state.path).holder() == os.getpid()
        with (
            pytest.raises(click.ClickException, match=f"process {os.getpid()}, since"),
            State(state.path).hold(),
        ):
            pass
    assert state.holder() is None
    with state.hold():
        pass


@pytest.mark.parametrize("length", [10, 60, 200])
def test_sockets_have_short_paths_wherever_the_folder_is(tmp_path: Path, length: int) -> None:
    state = State(tmp_path / ("x" * length))
    assert len(os.fsencode(state.runtime / LONGEST_SOCKET)) <= SUN_PATH_MAX
    state.make()
    state.make_runtime()
    try:
        assert state.runtime.stat().st_mode & 0o777 == 0o700
        assert State(state.path).runtime == state.runtime
    finally:
        state.runtime.rmdir()


def test_a_runtime_folder_that_somebody_planted_is_refused(tmp_path: Path) -> None:
    state = State(tmp_path / ("x" * 200))
    state.runtime.symlink_to(tmp_path)
    try:
        with pytest.raises(click.ClickException, match="belongs to somebody else"):
            state.make_runtime()
    finally:
        state.runtime.unlink()


@pytest.mark.parametrize("name", ['a"b', "a;b", "a#b", "a\nb"])
def test_a_path_that_the_configuration_cannot_carry_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(click.ClickException, match="choose another with --state"):
        State(tmp_path / name)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    state = State(tmp_path)
    (tmp_path / "secrets.json").write_text("{")
    with pytest.raises(click.ClickException, match=r"secrets\.json is damaged"):
        state.secrets()


def test_the_environment_wins_over_the_folder(tmp_path: Path) -> None:
    urls = find_urls(
        State(tmp_path), {"DATABASE_URL": "postgresql://elsewhere/x", "REDIS_URL": "redis://there"}
    )
    assert (urls.database, urls.redis) == ("postgresql://elsewhere/x", "redis://there")
    with pytest.raises(click.ClickException, match="no stack was ever started"):
        find_urls(State(tmp_path), {})


def test_passwords_are_hidden_in_what_is_shown() -> None:
    assert without_password("postgresql://tbg:geheim@h:1/tbg") == "postgresql://tbg:***@h:1/tbg"
    assert without_password("redis://:geheim@h:1/0") == "redis://:***@h:1/0"
    assert without_password("redis://h:1/0") == "redis://h:1/0"


def plan(tmp_path: Path, options: StackOptions) -> StackPlan:
    state = State(tmp_path)
    state.make()
    return StackPlan(state, options, {})


def test_programs_start_from_the_stores_to_the_miners(tmp_path: Path) -> None:
    names = [program.name for program in plan(tmp_path, StackOptions()).programs]
    realtime = ["postgres", "valkey", "writer", "receiver", "node", "pool", "miner"]
    assert names == [*realtime, "webserver", "daemon"]


def test_what_is_left_out_is_not_in_the_plan(tmp_path: Path) -> None:
    options = StackOptions(miner=False, pool=False, dagster=False)
    found = plan(tmp_path, options)
    left_out = {"miner", "pool", "webserver", "daemon"}
    assert {program.name for program in found.programs}.isdisjoint(left_out)
    assert found.dagster_url is None
    assert found.stratum_url is None
    assert found.rpc_url is not None


def test_every_port_is_another_one_and_has_its_option(tmp_path: Path) -> None:
    from tbg.up import command

    offered = {option for parameter in command.params for option in parameter.opts}
    ports = [
        port
        for program in plan(tmp_path, StackOptions(Ports.free())).programs
        for port in program.ports
    ]
    assert len({port.number for port in ports}) == len(ports) == 7
    assert {port.option for port in ports} <= offered


def test_dagster_needs_a_database_of_its_own(tmp_path: Path) -> None:
    state = State(tmp_path)
    state.make()
    elsewhere = {"DATABASE_URL": "postgresql://u:p@db.example/tbg"}
    with pytest.raises(click.ClickException, match="DAGSTER_PG_URL"):
        StackPlan(state, StackOptions(), elsewhere)
    StackPlan(state, StackOptions(dagster=False), elsewhere)
    storage = {**elsewhere, "DAGSTER_PG_URL": "postgresql://d:p@db.example/dagster"}
    webserver = StackPlan(state, StackOptions(), storage).programs[-2].launch
    assert webserver.environment["DAGSTER_PG_URL"] == storage["DAGSTER_PG_URL"]
    assert "p@db" not in " ".join(webserver.command)


def test_partitions_begin_with_the_week_of_the_first_start_and_stay_there(tmp_path: Path) -> None:
    monday = date.fromisoformat(first_week(tmp_path))
    assert monday.isoweekday() == 1
    assert timedelta(0) <= datetime.now(UTC).date() - monday < timedelta(days=8)
    (tmp_path / "first_week").write_text("2026-01-05\n")
    assert first_week(tmp_path) == "2026-01-05"
