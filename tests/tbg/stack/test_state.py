"""The state folder belongs to one stack, and keeps its secrets."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import psycopg
import pytest
import yaml

from tbg.migrate import sql_folder
from tbg.servers import find_urls
from tbg.stack.first_week import FirstWeek, first_week
from tbg.stack.node import Node
from tbg.stack.ports import Ports
from tbg.stack.programs import StackOptions, StackPlan
from tbg.stack.state import LONGEST_SOCKET, State
from tbg_core.database import without_password
from tbg_core.first_week import EARLIEST_WEEK
from tbg_core.settings import SUN_PATH_MAX
from tests.processes import LIMIT


def test_secrets_are_made_once_and_readable_by_their_owner_alone(tmp_path: Path) -> None:
    state = State(tmp_path / "state")
    state.make()
    first = state.secrets()
    assert state.secrets() == first
    assert len(set(asdict(first).values())) == 6
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


def test_a_runtime_folder_that_another_user_planted_is_refused(tmp_path: Path) -> None:
    state = State(tmp_path / ("x" * 200))
    state.runtime.symlink_to(tmp_path)
    try:
        with pytest.raises(click.ClickException, match="belongs to another user"):
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


def test_other_commands_find_archive_and_routes_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = State(tmp_path)
    state.make()
    monkeypatch.chdir(tmp_path)
    named = {"ARCHIVE_URL": "days", "ALERTS_FILE": "./alerts.yml"}
    found = StackPlan(state, StackOptions(), named)
    assert found.archive_url == str(tmp_path / "days")
    assert found.alerts_file == str(tmp_path / "alerts.yml")
    named = {"ARCHIVE_URL": "s3://bucket/days", "ALERTS_FILE": ""}
    found = StackPlan(state, StackOptions(), named)
    assert (found.archive_url, found.alerts_file) == ("s3://bucket/days", None)


def test_programs_start_from_the_stores_to_the_miners(tmp_path: Path) -> None:
    names = [program.name for program in plan(tmp_path, StackOptions()).programs]
    realtime = ["postgres", "valkey", "writer", "receiver", "node", "pool", "miner"]
    assert names == [*realtime, "notifier", "serve", "code-server", "webserver", "daemon"]


def test_what_is_left_out_is_not_in_the_plan(tmp_path: Path) -> None:
    options = StackOptions(miner=False, pool=False, dagster=False, serve=False)
    found = plan(tmp_path, options)
    left_out = {"miner", "pool", "code-server", "webserver", "daemon", "notifier", "serve"}
    assert {program.name for program in found.programs}.isdisjoint(left_out)
    assert found.dagster_url is None
    assert found.stratum_url is None
    assert found.node is not None


def test_a_foreign_node_takes_the_place_of_ours(tmp_path: Path) -> None:
    foreign = Node("http://192.0.2.1:38332", "me", "geheim")
    found = plan(tmp_path, StackOptions(foreign_node=foreign, miner_user="tb1qx.cpu"))
    programs = {program.name: program.launch for program in found.programs}
    assert "node" not in programs
    assert programs["code-server"].environment["BITCOIN_RPC_URL"] == (
        "http://me:geheim@192.0.2.1:38332"
    )
    assert "http://192.0.2.1:38332" in programs["pool"].command
    assert programs["pool"].environment["TBG_RPC_PASSWORD"] == "geheim"  # noqa: S105 made up
    assert "tb1qx.cpu" in programs["miner"].command
    for launch in programs.values():
        assert "geheim" not in " ".join(launch.command)


def test_every_port_is_another_one_and_has_its_option(tmp_path: Path) -> None:
    from tbg.stack.up import command

    offered = {option for parameter in command.params for option in parameter.opts}
    ports = [
        port
        for program in plan(tmp_path, StackOptions(Ports.free())).programs
        for port in program.ports
    ]
    assert len({port.number for port in ports}) == len(ports) == 9
    assert {port.option for port in ports} <= offered


def test_dagster_needs_a_database_of_its_own(tmp_path: Path) -> None:
    state = State(tmp_path)
    state.make()
    elsewhere = {"DATABASE_URL": "postgresql://u:p@db.example/tbg"}
    with pytest.raises(click.ClickException, match="DAGSTER_PG_URL"):
        StackPlan(state, StackOptions(), elsewhere)
    StackPlan(state, StackOptions(dagster=False), elsewhere)
    for scheme in ("postgresql", "postgres", "postgresql+psycopg2"):
        storage = {**elsewhere, "DAGSTER_PG_URL": f"{scheme}://d:p@db.example/dagster"}
        for program in StackPlan(state, StackOptions(), storage).programs[-3:]:
            named = program.launch.environment["DAGSTER_PG_URL"]
            assert named == "postgresql+psycopg2://d:p@db.example/dagster"
            assert "p@db" not in " ".join(program.launch.command)
    wrong = {**elsewhere, "DAGSTER_PG_URL": "mysql://d:p@db.example/dagster"}
    with pytest.raises(click.ClickException, match="must begin with postgresql://"):
        StackPlan(state, StackOptions(), wrong)


def test_only_the_code_server_of_dagster_knows_the_platforms_stores(tmp_path: Path) -> None:
    code, webserver, daemon = plan(tmp_path, StackOptions()).programs[-3:]
    stores = {"DATABASE_URL", "REDIS_URL", "BITCOIN_RPC_URL"}
    assert stores <= code.launch.environment.keys()
    for program in (webserver, daemon):
        assert stores.isdisjoint(program.launch.environment)


def test_the_code_location_keeps_its_identity_with_and_without_a_code_server(
    tmp_path: Path,
) -> None:
    """Schedules and runs are kept under the location's name."""
    code = plan(tmp_path, StackOptions()).programs[-3]
    code.prepare()
    served = yaml.safe_load((tmp_path / "dagster" / "workspace.yaml").read_text())
    (server,) = (entry["grpc_server"] for entry in served["load_from"])
    local = yaml.safe_load((sql_folder().parent / "workspace.yaml").read_text())
    (module,) = (entry["python_module"] for entry in local["load_from"])
    assert server["location_name"] == module["location_name"]
    assert server["socket"] in code.launch.command
    assert module["module_name"] in code.launch.command
    assert module["attribute"] in code.launch.command


def test_what_another_release_wrote_about_its_stack_can_be_read(tmp_path: Path) -> None:
    state = State(tmp_path)
    written = {
        **{"started": "2026-11-22T07:00:00+00:00", "database_url": "postgresql://x"},
        **{"redis_url": "redis://x", "socket_path": "/s", "supervisor_socket": "/v"},
        **{"receiver_metrics_port": 1, "writer_metrics_port": 2, "programs": ["writer"]},
        "something": "of another release",
    }
    (tmp_path / "stack.json").write_text(json.dumps(written))
    stack = state.read_stack()
    assert stack is not None
    assert stack.programs == ("writer",)


def test_partitions_begin_in_the_week_of_the_first_start_and_stay_there(tmp_path: Path) -> None:
    monday = first_week(tmp_path)
    assert monday.isoweekday() == 1
    assert timedelta(0) <= datetime.now(UTC).date() - monday < timedelta(days=8)
    (tmp_path / "first_week").write_text("2026-01-12\n")
    assert first_week(tmp_path) == date(2026, 1, 12)


@pytest.mark.parametrize("weeks", [1, 300])  # 300: before any clock of ours could be right
def test_the_code_server_starts_once_again_for_older_shares(
    database_url: str, empty_database_url: str, tmp_path: Path, weeks: int
) -> None:
    first = FirstWeek(tmp_path, database_url, empty_database_url)
    first.keep()
    with psycopg.connect(empty_database_url) as storage:
        storage.execute("create table runs (status text)")
    assert first.moved() is None
    with psycopg.connect(database_url) as database:
        database.execute(
            "insert into late_share_hours (hour, shares) "
            "values (date_trunc('hour', now()) - %s * interval '1 week', 1)",
            [weeks],
        )
    older = first.moved()
    assert older is not None
    assert first.keep() == older
    assert first.moved() is None


def test_partitions_reach_back_to_older_shares_and_never_come_back(tmp_path: Path) -> None:
    now = first_week(tmp_path)
    older = now - timedelta(weeks=5)
    assert first_week(tmp_path, older) == older
    assert first_week(tmp_path, now - timedelta(weeks=1)) == older
    assert first_week(tmp_path) == older
    # A year's import, from before this software was made.
    ancient = EARLIEST_WEEK - timedelta(weeks=30)
    assert first_week(tmp_path, ancient) == ancient
    assert first_week(tmp_path, ancient) == ancient


def test_the_code_location_reads_the_kept_week_unless_the_environment_names_one(
    tmp_path: Path,
) -> None:
    first_week(tmp_path, date(2025, 11, 3))

    def seen(**more: str) -> str:
        environment = {
            name: value for name, value in os.environ.items() if name != "TBG_FIRST_WEEK"
        }
        done = subprocess.run(
            [sys.executable, "-c", "from tbg_dagster import partitions as p; print(p.FIRST_WEEK)"],
            env={**environment, "DAGSTER_HOME": str(tmp_path), **more},
            capture_output=True,
            check=True,
            text=True,
            timeout=LIMIT,
        )
        return done.stdout.strip()

    assert seen() == "2025-11-03"
    assert seen(TBG_FIRST_WEEK="2026-01-05") == "2026-01-05"
    assert seen(DAGSTER_HOME=str(tmp_path / "nothing")) == "2026-01-05"


@pytest.mark.parametrize(
    "kept", ["", "2026-0", "nonsense", "1970-01-05", "2025-01-06", "2106-02-01"]
)
def test_a_first_week_that_a_wrong_clock_or_a_crash_left_is_made_again(
    tmp_path: Path, kept: str
) -> None:
    (tmp_path / "first_week").write_text(kept)
    monday = first_week(tmp_path)
    assert monday >= EARLIEST_WEEK
    assert first_week(tmp_path) == monday
    assert datetime.now(UTC).date() - monday < timedelta(weeks=2)


def test_a_clock_in_1970_makes_no_half_million_partitions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Wrong":
            return cls(1970, 1, 1, tzinfo=tz)

    monkeypatch.setattr("tbg.stack.first_week.datetime", Wrong)
    assert first_week(tmp_path) == EARLIEST_WEEK
    monkeypatch.undo()  # the time server has answered
    assert datetime.now(UTC).date() - first_week(tmp_path) < timedelta(weeks=2)
