"""The README's commands exist and do what it says."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner

from tbg.cli import main
from tests.processes import running

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
COMMANDS = [
    line.split("#")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]
# The targets that .ci/run makes itself; other tests run the rest as `tbg …`.
CI = {
    word
    for line in (ROOT / ".ci" / "run").read_text().splitlines()
    if "make " in line.split("#")[0]
    for word in line.split("#")[0].split()
}


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", f"VENV={sys.prefix}", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_there_are_commands() -> None:
    assert "make up" in COMMANDS
    assert "make test" in COMMANDS


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("make ")])
def test_every_make_command_exists(command: str) -> None:
    target = command.split()[1]
    shown = make("help").stdout
    assert re.search(rf"^{target}\s", shown, re.MULTILINE), shown
    if target not in CI:
        ran = make("--dry-run", target).stdout
        assert f"tbg {target}" in ran or target == "help"


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("tbg ")])
def test_every_tbg_command_exists(command: str) -> None:
    words = command.split()[1:]
    result = CliRunner().invoke(main, [*words, *([] if "--help" in words else ["--help"])])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)h][^)]*)\)", README))
def test_every_link_leads_somewhere(link: str) -> None:
    assert (ROOT / link).exists()


@pytest.mark.timeout(600)
def test_make_up_shows_what_runs_where_and_what_flows_and_ctrl_c_ends_it() -> None:
    # Not below pytest's own folder: PostgreSQL may run as another user.
    with tempfile.TemporaryDirectory(prefix="tbg-readme-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        state = f"--state {folder}/state --free-ports --every 0.5"
        # Only its environment's PATH: what `make up` needs, it brings along.
        words = ["make", f"VENV={sys.prefix}", "up", f"ARGS={state}"]
        with running(words, Path(folder) / "output") as up:
            up.wait_for(re.compile(r"[1-9]\d* accepted"), 300)
            assert "stratum+tcp://127.0.0.1:" in up.output
            up.wait_for("Ctrl-C stops everything", 300)
            ui = re.search(r"checks, backfills: (http\S+)", up.output)
            assert ui
            with urllib.request.urlopen(f"{ui[1]}/server_info") as answer:  # noqa: S310  ours
                assert "dagster_version" in json.load(answer)
            # As a terminal does: to the whole group.
            os.killpg(up.pid, signal.SIGINT)
            up.wait()
            assert not up.family()
            assert "Traceback" not in up.output
