"""The tbg command is quick to ask, and says what is missing."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from tbg.cli import COMMANDS, DEVNET_COMMANDS, main
from tbg.stack.state import Stack, State
from tests.processes import ROOT


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )


def test_help_lists_every_command_and_imports_none() -> None:
    done = run(
        "import sys\n"
        "from tbg.cli import main\n"
        "main(['--help'], standalone_mode=False)\n"
        "print('IMPORTED', sorted({'psycopg', 'redis', 'rich', 'pydantic'} & set(sys.modules)))"
    )
    assert "IMPORTED []" in done.stdout, done.stderr
    for name in [*COMMANDS, "devnet"]:
        assert f"  {name}" in done.stdout


def test_a_missing_extra_is_named_with_the_command_that_installs_it() -> None:
    done = run(
        "import sys\n"
        "sys.modules['aiohttp'] = None\n"
        "from tbg.cli import main\n"
        "main(['devnet', 'pool', '--help'], prog_name='tbg')"
    )
    assert done.returncode == 1
    assert "tbg devnet pool needs aiohttp" in done.stderr
    assert "pip install 'tbg-mining-data[devnet]'" in done.stderr


def test_an_unknown_command_is_refused() -> None:
    result = CliRunner().invoke(main, ["nonsense"])
    assert result.exit_code == 2
    assert "No such command 'nonsense'" in result.output


@pytest.mark.parametrize(
    "arguments", [[name] for name in COMMANDS] + [["devnet", name] for name in DEVNET_COMMANDS]
)
def test_every_command_has_help_with_examples(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, [*arguments, "--help"])
    assert result.exit_code == 0, result.output
    assert "Examples:" in result.output


def options(command: click.Command, path: str) -> Iterator[tuple[str, click.Option]]:
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            yield path, parameter
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=path)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from options(found, f"{path} {name}")


def test_every_option_that_an_environment_variable_sets_says_so() -> None:
    hidden = {
        f"{path} {option.opts[0]}"
        for path, option in options(main, "tbg")
        if option.envvar and not (option.show_envvar or option.hidden)
    }
    assert not hidden


@pytest.mark.parametrize(
    ("arguments", "variable"),
    [
        (["archive", "list"], "ARCHIVE_URL"),
        (["migrate"], "DATABASE_URL"),
        (["alerts", "test"], "ALERTS_FILE"),
    ],
)
def test_an_option_that_is_missing_names_its_environment_variable(
    arguments: list[str], variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(variable, raising=False)
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert f"(env var: '{variable}')" in result.output


def test_an_archive_that_is_not_there_is_named(tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    for command in (["list"], ["list", "--json"]):
        result = CliRunner().invoke(main, ["archive", *command, "--archive", str(absent)])
        assert result.exit_code == 1
        assert f"there is no archive at {absent} (ARCHIVE_URL)" in result.output
    file = tmp_path / "file"
    file.touch()
    result = CliRunner().invoke(main, ["archive", "list", "--archive", str(file)])
    assert result.exit_code == 1
    assert "is a file and no folder" in result.output
    result = CliRunner().invoke(main, ["archive", "list", "--archive", str(tmp_path)])
    assert result.exit_code == 0
    assert f"the archive {tmp_path} holds no day" in result.output
    result = CliRunner().invoke(main, ["archive", "list", "--json", "--archive", str(tmp_path)])
    assert result.stdout == "[]\n"


def test_archive_and_routes_are_those_of_the_stack_unless_they_are_named(tmp_path: Path) -> None:
    archive, routes, state = tmp_path / "archive", tmp_path / "alerts.yml", tmp_path / "state"
    archive.mkdir()
    routes.write_text("routes: {}\n")
    State(state).make()

    def run(*words: str, **environment: str | None) -> Result:
        environment = {"ARCHIVE_URL": None, "ALERTS_FILE": None, **environment}
        return CliRunner().invoke(main, [*words, "--state", str(state)], env=environment)

    def started(archive_url: str | None = None, alerts_file: str | None = None) -> None:
        stack = Stack(
            "2026-11-30T12:00:00+00:00", "postgresql://x", "redis://x", "/x.sock", 1, 2,
            archive_url=archive_url, alerts_file=alerts_file,
        )  # fmt: skip
        State(state).write_stack(stack)

    commands = {"ARCHIVE_URL": ("archive", "list"), "ALERTS_FILE": ("alerts", "test")}
    started()  # without an archive, and without routes
    for variable, words in commands.items():
        missing = run(*words)
        assert missing.exit_code == 2
        assert f"(env var: '{variable}')" in missing.output
    started(archive_url=str(archive), alerts_file=str(routes))
    assert f"the archive {archive} holds no day" in run("archive", "list").output
    assert run("alerts", "test").exit_code == 0
    # What is named here comes first.
    other = str(tmp_path / "other")
    assert f"there is no archive at {other}" in run("archive", "list", ARCHIVE_URL=other).output
    assert f"there is no archive at {other}" in run("archive", "list", "--archive", other).output
    assert other in run("alerts", "test", ALERTS_FILE=other).output
    assert other in run("alerts", "test", "--file", other).output
