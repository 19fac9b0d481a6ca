"""Fleets are as untidy as the world."""

import json
from collections import Counter, defaultdict
from dataclasses import replace
from itertools import pairwise
from math import inf

import pytest
from click.testing import CliRunner

from devnet.simulator.cli import simulate_command
from devnet.simulator.fleet import build_fleet
from devnet.simulator.hardware import LOWEST_DIFFICULTY
from devnet.simulator.plan import Wishes, plan_live
from devnet.simulator.scenario import Scenario
from devnet.simulator.traffic import simulate
from tbg_core.decode import Decoded, decode
from tbg_core.periods import SECOND
from tests.devnet.simulator.conftest import MONDAY


def play(scenario: Scenario) -> list[tuple[int, Decoded]]:
    """Every event, after the moment when it happened."""
    return [
        (due, decode(line))
        for batch in simulate(scenario, build_fleet(scenario))
        for due, line in zip(batch.due.tolist(), batch.datagrams(), strict=True)
    ]


@pytest.mark.parametrize("miners", [2, 3, 40, 2000])
def test_every_fleet_holds_an_unnamed_nerdminer_beside_a_named_s21(miners: int) -> None:
    for seed in range(10):
        fleet = build_fleet(Scenario(miners=miners, start=0, span=1.0, seed=seed))
        first, second = fleet.hashrate[:2]
        assert fleet.owner[0] == fleet.owner[1]
        assert fleet.workers[0] == ""
        assert fleet.workers[1].startswith("s21")
        assert (first, second) == (pytest.approx(60e3, rel=0.15), pytest.approx(200e12, rel=0.03))
        assert fleet.difficulty[0] == LOWEST_DIFFICULTY
        if miners == 2000:
            mixed = [
                user
                for user in range(len(fleet.users))
                if {"", "s21-2"} <= set(fleet.workers[fleet.first[user] : fleet.first[user + 1]])
            ]
            assert len(mixed) > 1
            assert sum(not name for name in fleet.workers) > len(mixed)


def test_an_hour_of_live_traffic_has_everything_in_it_by_default() -> None:
    scenario = plan_live(Wishes(seed=3, miners=60), duration=3600.0, settled=None, rate=None)
    events = play(replace(scenario, start=MONDAY))
    assert len({event.event for _, event in events}) == 8
    assert len({event.instance for _, event in events}) > 1
    assert len({event.timestamp - due for due, event in events}) > 1


def test_a_clock_steps_away_and_back_and_its_week_goes_with_it() -> None:
    day = 86_400.0
    scenario = Scenario(
        miners=20, start=MONDAY, span=2 * day, shares_per_minute=1.0,
        step_every=day / 4, steps=(-14 * day, 1800.0),
    )  # fmt: skip
    events = play(scenario)
    errors = [(event.timestamp - due) / SECOND for due, event in events]
    assert set(errors) == {0.0, 1800.0, -14 * day}
    steps = [after for before, after in pairwise(errors) if before != after]
    assert len(steps) > 5
    assert set(steps[1::2]) == {0.0}  # each wrong time is followed by the right one
    weeks = defaultdict(set)
    for (_, event), error in zip(events, errors, strict=True):
        if event.event == "share_best_diff":
            weeks[error].add(event.data.week)
    assert weeks[0.0] == weeks[1800.0]
    assert len(weeks[-14 * day] & weeks[0.0]) == 0


def test_napping_machines_stay_connected_and_send_nothing() -> None:
    def longest_silence(nap_every: float) -> float:
        scenario = Scenario(
            miners=30, start=MONDAY, span=4 * 3600.0, nap_every=nap_every, session=1e9, seed=5
        )
        last: dict[int, int] = {}
        longest = 0
        for due, event in play(scenario):
            assert event.event != "miner_disconnected"
            if event.event == "share_submitted" and event.data.user_agent != "NerdMinerV2":
                client = event.data.client_id
                longest = max(longest, due - last.get(client, due))
                last[client] = due
        return longest / SECOND

    # A share every 3.3 seconds: a gap of a minute is unlikely among 130,000.
    assert longest_silence(inf) < 90
    assert longest_silence(3600.0) > 900


def test_some_machines_leave_for_good_and_never_more_than_one_in_ten() -> None:
    scenario = Scenario(
        miners=40, start=MONDAY, span=6 * 3600.0, offline=5.0, leave_every=600.0, seed=2
    )
    final: dict[str, tuple[int, Decoded]] = {}
    for due, event in play(scenario):
        data = event.data
        if hasattr(data, "client_id"):
            final[f"{data.user}.{data.worker}"] = due, event
    gone = [
        event
        for due, event in final.values()
        if event.event == "miner_disconnected" and due < MONDAY + 5 * 3600 * SECOND
    ]
    assert len(gone) == 4


def test_tidy_history_is_one_instance_with_a_right_clock() -> None:
    command = ["--output", "-", "--days", "1", "--miners", "20", "--shares", "2000", "--json"]
    result = CliRunner().invoke(simulate_command, [*command, "--tidy"])
    assert result.exit_code == 0, result.output
    events = [decode(line) for line in result.stdout_bytes.splitlines()]
    [(instance, count)] = json.loads(result.stderr.splitlines()[-1])["instances"].items()
    assert Counter(event.instance for event in events) == {instance: count}
    assert all(a.timestamp <= b.timestamp for a, b in pairwise(events))


def test_with_a_rate_a_restart_makes_no_burst() -> None:
    scenario = Scenario(
        miners=500, start=MONDAY, span=60.0, rate=1000.0, settled=True, restart_every=20.0
    )
    events = play(scenario)
    assert len({event.instance for _, event in events}) > 1
    assert max(after - before for (before, _), (after, _) in pairwise(events)) <= 8 * 1000
