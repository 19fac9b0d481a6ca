"""``tbg demo`` and ``tbg devnet simulate`` find the stack that runs, and say what to do without."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tbg.cli import main
from tbg.demo import Winner, _places
from tbg.stack.state import Stack, State

COMMANDS = [["demo"], ["devnet", "simulate", "--hours", "1", "--miners", "2"]]


def stack(folder: Path) -> Stack:
    written = Stack(
        started="2026-11-22T07:00:00+00:00",
        database_url="postgresql://x",
        redis_url="redis://x",
        socket_path=str(folder / "nobody.sock"),
        receiver_metrics_port=1,
        writer_metrics_port=2,
        dagster_url="http://127.0.0.1:3000",
        api_url="http://127.0.0.1:8100",
    )
    state = State(folder)
    state.make()
    state.write_stack(written)
    return written


@pytest.mark.parametrize("words", COMMANDS)
def test_without_a_stack_they_say_what_to_start(tmp_path: Path, words: list[str]) -> None:
    never = CliRunner().invoke(main, [*words, "--state", str(tmp_path / "new")])
    assert never.exit_code == 1
    assert "no stack was ever started" in never.output
    stack(tmp_path)
    stopped = CliRunner().invoke(main, [*words, "--state", str(tmp_path)])
    assert stopped.exit_code == 1
    assert "is stopped: run tbg up" in stopped.output


@pytest.mark.parametrize("words", COMMANDS)
def test_they_send_to_the_socket_of_the_stack_that_runs(tmp_path: Path, words: list[str]) -> None:
    socket = stack(tmp_path).socket_path
    with State(tmp_path).hold():
        found = CliRunner().invoke(main, [*words, "--state", str(tmp_path)])
    assert found.exit_code == 1
    assert f"nobody listens on {socket}" in found.output


def test_simulated_history_for_a_file_needs_no_stack(tmp_path: Path) -> None:
    file = tmp_path / "events"
    words = ["devnet", "simulate", "--hours", "1", "--miners", "2", "--output", str(file)]
    found = CliRunner().invoke(main, [*words, "--state", str(tmp_path / "new")])
    assert found.exit_code == 0, found.output
    assert json.loads(file.read_text().splitlines()[0])["source"] == "simulated"


def test_the_addresses_of_what_to_look_at_hold_a_strangers_name_as_text(tmp_path: Path) -> None:
    shown = _places(stack(tmp_path), Winner("bc1q", "my rig/../x"), "2026-W47", " --state /x")
    assert "http://127.0.0.1:3000/assets/weekly_leaderboard" in shown
    assert "http://127.0.0.1:8100/v1/users/bc1q/workers/my%20rig%2F..%2Fx" in shown
    assert "tbg receipt --user bc1q --week 2026-W47 --state /x" in shown
