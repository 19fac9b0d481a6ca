"""Every command of the compose file is one that its program knows."""

import io
import re
import sys
from contextlib import redirect_stdout
from importlib.metadata import entry_points

import click
import psycopg
import pytest
from click.testing import CliRunner
from dagster_postgres import PostgresRunStorage

from tbg.cli import main
from tbg.stack.dagster import storage_url
from tests.compose.files import SERVICES
from tests.processes import ROOT


def options(words: list[str]) -> list[str]:
    return [word.split("=")[0] for word in words if word.startswith("--")]


def subcommand(words: list[str]) -> list[str]:
    """The words up to the first option."""
    return words[: next((at for at, word in enumerate(words) if word.startswith("-")), len(words))]


DAEMON_BEATS_SECONDS = 30  # Dagster's daemon, each of its parts

OURS = [name for name, service in SERVICES.items() if service.get("command", [""])[0] == "tbg"]
DAGSTERS = [name for name in SERVICES if name.startswith("dagster-")]


@pytest.mark.parametrize("service", OURS)
def test_a_command_of_ours_parses(service: str) -> None:
    words = SERVICES[service]["command"][1:]
    # Defaults of the compose file in place of its variables.
    words = [re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", word) for word in words]
    command: click.Command = main
    context = click.Context(main, info_name="tbg")
    names: list[str] = []
    while isinstance(command, click.Group):
        name = words[len(names)]
        found = command.get_command(context, name)
        assert found is not None, name
        names.append(name)
        command, context = found, click.Context(found, info_name=name, parent=context)
    shown = CliRunner().invoke(main, [*names, "--help"], prog_name="tbg")
    assert shown.exit_code == 0, shown.output
    # Parses without running: wrong options, arguments and values are refused here.
    command.make_context(
        names[-1], words[len(names) :], default_map={"database_url": "postgresql://x@y/z"}
    )


def shown_help(program: str, names: list[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """What a console script prints for --help; in this process, where Dagster is imported once."""
    (script,) = entry_points(group="console_scripts", name=program)
    output = io.StringIO()
    monkeypatch.setattr(sys, "argv", [program, *names, "--help"])
    with redirect_stdout(output), pytest.raises(SystemExit) as ended:
        script.load()()
    assert ended.value.code == 0
    return output.getvalue()


@pytest.mark.parametrize("service", DAGSTERS)
def test_a_command_of_dagster_has_the_options_that_are_used(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = SERVICES[service]["command"]
    program, *names = subcommand(words)
    shown = shown_help(program, names, monkeypatch)
    for name in options(words):
        assert re.search(rf"{name}\b", shown), name


def test_the_daemons_check_reads_a_table_that_dagster_has(empty_database_url: str) -> None:
    PostgresRunStorage(storage_url(empty_database_url), should_autocreate_tables=True)
    with psycopg.connect(empty_database_url) as connection:
        columns = connection.execute(
            "select column_name from information_schema.columns "
            "where table_name = 'daemon_heartbeats'"
        ).fetchall()
    assert {("daemon_type",), ("timestamp",)} <= set(columns)
    probe = (ROOT / "images/tbg/probe.py").read_text("utf-8")
    assert "from daemon_heartbeats" in probe
    beats = re.search(r"BEAT_SECONDS = ([\d.]+)", probe)
    assert beats
    assert float(beats[1]) > 3 * DAEMON_BEATS_SECONDS


@pytest.mark.parametrize("service", SERVICES)
def test_a_check_of_ours_names_a_probe(service: str) -> None:
    check = SERVICES[service].get("healthcheck", {}).get("test", [])
    if "probe" in check:
        name = check[check.index("probe") + 1]
        text = (ROOT / "images/tbg/probe.py").read_text("utf-8")
        assert f'    "{name}": {name},' in text
