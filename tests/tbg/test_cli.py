"""The tbg command is quick to ask, and says what is missing."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from tbg.cli import COMMANDS, DEVNET_COMMANDS, main
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
