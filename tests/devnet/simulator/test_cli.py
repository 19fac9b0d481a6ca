"""The command's options, and what they do."""

import json
import signal
import socket
import threading
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from devnet.simulator.cli import simulate_command
from devnet.simulator.plan import Wishes, plan_history, plan_live
from devnet.simulator.scenario import Scenario
from tbg_core.decode import decode
from tbg_core.events import MAX_AHEAD
from tbg_core.periods import SECOND
from tests.devnet.simulator.conftest import MONDAY, PATIENCE


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(simulate_command, arguments, env=environment)


def test_history_goes_into_a_file_as_one_datagram_a_line_and_the_summary_counts_them(
    tmp_path: Path,
) -> None:
    file = tmp_path / "events.jsonl"
    result = run("--output", str(file), "--hours", "2", "--miners", "50", "--seed", "3", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    lines = file.read_bytes().splitlines()
    assert file.read_bytes().endswith(b"}\n")
    events = [decode(line) for line in lines]
    assert report["events"] == len(events) == sum(report["by_type"].values())
    assert report["by_type"] == dict.fromkeys(report["by_type"], 0) | Counter(
        event.event for event in events
    )
    assert report["instances"] == Counter(event.instance for event in events)
    assert len(report["instances"]) > 1
    assert report["dropped"] == {}


@pytest.mark.parametrize("since", [0, 1, 7 * 86_400 * SECOND - 1])
def test_by_default_history_ends_where_this_week_begins(since: int) -> None:
    scenario = plan_history(Wishes(), now=MONDAY + since, span=3600.0, start=None, shares=None)
    assert scenario.start + scenario.span * SECOND == MONDAY


@pytest.mark.parametrize("tidy", [True, False])
def test_no_clock_of_a_history_is_further_ahead_than_the_receiver_allows(tidy: bool) -> None:
    latest = MAX_AHEAD - (0 if tidy else 1800 * SECOND)

    def plan(now: int) -> Scenario:
        return plan_history(Wishes(tidy=tidy), now=now, span=3600.0, start=MONDAY, shares=None)

    end = MONDAY + 3600 * SECOND
    assert plan(end - latest).start == MONDAY
    with pytest.raises(ValueError, match="end in the future"):
        plan(end - latest - 1)


def test_events_on_the_standard_output_leave_it_clean_and_the_table_says_how_many() -> None:
    result = run("--output", "-", "--hours", "0.2", "--miners", "10", "--start", "2025-01-06")
    assert result.exit_code == 0, result.output
    events = [decode(line) for line in result.stdout_bytes.splitlines()]
    assert events[0].timestamp == datetime(2025, 1, 6, tzinfo=UTC).timestamp() * 1e6
    assert f"{len(events):,} events" in result.stderr


def test_as_many_shares_come_as_were_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    result = run(
        *("--output", str(file), "--start", "2025-01-06", "--json"),
        *("--weeks", "1", "--days", "1", "--shares", "40000"),
    )
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["by_type"]["share_submitted"] == pytest.approx(40_000, rel=0.03)
    assert report["simulated_seconds"] == pytest.approx(8 * 86_400, rel=0.01)


def test_live_events_reach_a_receiver_at_the_rate_that_was_asked_for(socket_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(socket_path))
        receiver.settimeout(PATIENCE)
        got: list[tuple[bytes, int]] = []
        wanted = 1000

        def read() -> None:
            while len(got) < wanted:
                got.append((receiver.recv(8192), time.time_ns() // 1000))

        reader = threading.Thread(target=read)
        reader.start()
        result = run(
            "--rate", "500", "--duration", "2", "--patience", "120", "--tidy", "--json",
            SOCKET_PATH=str(socket_path),
        )  # fmt: skip
        reader.join(PATIENCE)
    assert result.exit_code == 0, result.output
    report: dict[str, Any] = json.loads(result.stdout)
    assert report["asked_events_per_second"] == 500
    assert wanted <= report["events"] <= wanted + 3
    assert report["dropped"] == {}
    events = [decode(line) for line, _ in got]
    assert [event.seq for event in events] == list(range(1, wanted + 1))
    # 500 a second by their own times, and none before its time. A busy machine sends late, and
    # then faster.
    assert events[-1].timestamp - events[0].timestamp >= 1.9 * SECOND
    assert all(event.timestamp <= at for event, (_, at) in zip(events, got, strict=True))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--hours", "1"], "--socket, or --output"),
        (["--hours", "1", "--output", "-", "--rate", "5"], "--rate belong to live traffic"),
        (["--output", "-"], "--output need a span"),
        (["--socket", "x", "--shares", "5"], "--shares need a span"),
        (["--hours", "9", "--start", "2999-01-01", "--output", "-"], "end in the future"),
        (
            ["--socket", "x", "--rate", "9", "--miners", "2", "--shares-per-minute", "3"],
            "two of the three",
        ),
        (["--socket", "x", "--rate", "1", "--miners", "9000"], "too few for the hashrate updates"),
        (
            ["--hours", "1", "--output", "-", "--shares", "9", "--shares-per-minute", "3"],
            "say the same",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(
    arguments: list[str], complaint: str
) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert complaint in " ".join(result.stderr.split())


@pytest.mark.parametrize("mode", [["--hours", "1"], ["--rate", "10", "--duration", "1"]])
def test_without_a_receiver_it_says_so_and_ends(socket_path: Path, mode: list[str]) -> None:
    result = run("--socket", str(socket_path), *mode)
    assert result.exit_code == 1
    assert "start the receiver first" in result.stderr


def test_a_signal_ends_live_traffic_with_its_summary(socket_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(socket_path))
        receiver.settimeout(PATIENCE)

        def interrupt() -> None:
            receiver.recv(8192)
            signal.raise_signal(signal.SIGTERM)

        before = signal.getsignal(signal.SIGTERM)
        reader = threading.Thread(target=interrupt)
        reader.start()
        result = run("--socket", str(socket_path), "--rate", "100", "--json")
        reader.join(PATIENCE)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["events"] >= 1
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    result = run("--output", str(tmp_path / "no" / "file"), "--hours", "1")
    assert result.exit_code == 1
    assert "no/file: No such file" in result.stderr


def test_a_rate_sizes_the_fleet_so_that_its_events_come_to_that_rate() -> None:
    scenario = plan_live(Wishes(), duration=None, settled=None, rate=10_000.0)
    assert scenario.settled
    assert scenario.miners * (18 / 60 + 1.5 / 60) == pytest.approx(10_000, rel=0.001)
