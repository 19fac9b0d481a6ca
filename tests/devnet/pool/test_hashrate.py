"""Hashrates are decaying averages of the accepted difficulty, per worker and per user."""

import math

import pytest

from devnet.pool.hashrate import FORGOTTEN_AFTER, REPORTED_AFTER_LEAVING, Hashrates, Meter


def test_steady_work_shows_its_hashrate_in_every_window_that_it_filled() -> None:
    meter = Meter(0.0)
    for second in range(1, 20_000):
        meter.add(float(second), 10.0)
    rates = meter.rates(19_999.0)
    for name in ("hashrate_1m", "hashrate_5m", "hashrate_1h"):
        assert rates[name] == pytest.approx(10 * 2**32, rel=0.02)
    filled = 1 - math.exp(-19_999 / 86_400)
    assert rates["hashrate_24h"] == pytest.approx(10 * 2**32 * filled, rel=0.01)


def test_without_shares_an_average_falls_by_e_in_each_of_its_windows() -> None:
    meter = Meter(0.0)
    meter.add(1.0, 5.0)
    before = meter.rates(1.0)
    after = meter.rates(61.0)
    assert after["hashrate_1m"] == pytest.approx(before["hashrate_1m"] / math.e)
    assert after["hashrate_1h"] == pytest.approx(before["hashrate_1h"] * math.exp(-60 / 3600))


def test_asking_often_changes_nothing() -> None:
    asked, left = Meter(0.0), Meter(0.0)
    for meter in (asked, left):
        meter.add(1.0, 3.0)
    for tenth in range(11, 600):
        asked.rates(tenth / 10)
    assert asked.rates(60.0)["hashrate_5m"] == pytest.approx(left.rates(60.0)["hashrate_5m"])


def test_a_user_is_the_sum_of_its_workers_under_the_empty_name() -> None:
    hashrates = Hashrates()
    for second in range(600):
        hashrates.add(second, "alice", "one", 1.0)
        hashrates.add(second, "alice", "two", 2.0)
        hashrates.add(second, "bob", "", 4.0)
    online = {("alice", "one"), ("alice", "two"), ("bob", "")}
    rows = {(user, worker): rates for user, worker, rates in hashrates.report(600, online)}
    assert set(rows) == {("alice", "one"), ("alice", "two"), ("alice", ""), ("bob", "")}
    for name in ("hashrate_1m", "hashrate_24h"):
        total = rows["alice", "one"][name] + rows["alice", "two"][name]
        assert rows["alice", ""][name] == pytest.approx(total)
        assert rows["bob", ""][name] == pytest.approx(4 / 3 * rows["alice", ""][name])


def test_a_miner_that_left_is_reported_for_a_while_and_remembered_for_a_day() -> None:
    hashrates = Hashrates()
    hashrates.add(0.0, "alice", "one", 1.0)
    soon, later = REPORTED_AFTER_LEAVING - 1, REPORTED_AFTER_LEAVING + 1
    assert [row[:2] for row in hashrates.report(soon, set())] == [("alice", "one"), ("alice", "")]
    assert hashrates.report(later, set()) == []
    back = hashrates.report(later, {("alice", "one")})
    assert back[0][2]["hashrate_24h"] > 0
    assert hashrates.report(FORGOTTEN_AFTER + 1, {("alice", "one")}) == []
