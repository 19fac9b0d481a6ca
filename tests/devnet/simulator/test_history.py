"""A history is consistent: a replay gives every number again."""

from collections import Counter, defaultdict
from datetime import UTC, datetime
from itertools import chain, pairwise

import pytest

from devnet.bitcoin.subsidy import block_subsidy
from devnet.simulator.fleet import Fleet, build_fleet, shares_per_second
from devnet.simulator.scenario import Scenario
from devnet.simulator.traffic import simulate
from tbg_core.decode import Decoded
from tbg_core.difficulty import HASHES_PER_DIFFICULTY
from tbg_core.periods import SECOND
from tests.devnet.simulator.conftest import MONDAY


def replay(scenario: Scenario) -> bytes:
    return b"\n".join(batch.body for batch in simulate(scenario, build_fleet(scenario)))


def test_the_same_scenario_gives_the_same_bytes(busy: Scenario, lines: list[bytes]) -> None:
    assert replay(busy) == b"\n".join(lines)


def test_another_seed_gives_other_miners_and_another_start_the_same_with_other_shares() -> None:
    first = Scenario(seed=1, miners=40, start=MONDAY, span=600.0)
    later = Scenario(seed=1, miners=40, start=MONDAY + SECOND, span=600.0)
    other = Scenario(seed=2, miners=40, start=MONDAY, span=600.0)
    assert build_fleet(first).users == build_fleet(later).users
    assert not set(build_fleet(first).users) & set(build_fleet(other).users)
    assert len({one.instance(one.start) for one in (first, later, other)}) == 3
    hashes = [set(replay(one).split(b'"hash":"')[1:]) for one in (first, later, other)]
    assert not hashes[0] & hashes[1]
    assert not hashes[0] & hashes[2]


def test_every_best_is_a_share_and_every_share_that_is_best_is_told(events: list[Decoded]) -> None:
    told: dict[str, list[Decoded]] = defaultdict(list)
    bests: dict[tuple[str, ...], float] = defaultdict(float)
    checked: Counter[str] = Counter()
    for event in events:
        data = event.data
        if event.event == "miner_connected":
            bests["session", data.user, data.worker] = 0.0
        if event.event == "share_best_diff":
            told[data.hash].append(event)
        if event.event != "share_submitted" or not data.valid:
            continue
        year, number, _ = datetime.fromtimestamp(event.timestamp / 1e6, UTC).isocalendar()
        week = f"{year}-W{number:02d}"
        scopes = {
            "session": ("session", data.user, data.worker),
            "week": ("week", data.user, week),
            "alltime": ("alltime", data.user),
        }
        expected = {
            scope: (data.share_diff, bests[key], week, data.user, data.worker, event.timestamp)
            for scope, key in scopes.items()
            if data.share_diff > bests[key]
        }
        found = {
            best.data.period: (
                best.data.new_best_diff,
                best.data.previous_best_diff,
                best.data.week,
                best.data.user,
                best.data.worker,
                best.timestamp,
            )
            for best in told.pop(data.hash, [])
        }
        assert found == expected
        for scope in expected:
            bests[scopes[scope]] = data.share_diff
            checked[scope] += 1
    assert not told
    assert min(checked[scope] for scope in ("session", "week", "alltime")) > 100


def test_both_weeks_of_the_history_have_bests_of_their_own(events: list[Decoded]) -> None:
    weeks = Counter(e.data.week for e in events if e.event == "share_best_diff")
    assert len(weeks) == 2


def test_a_disconnect_reports_what_its_session_did(
    events: list[Decoded], moments: list[int], fleet: Fleet
) -> None:
    opened: dict[int, Decoded] = {}
    since: dict[int, int] = {}
    shares: dict[int, list[Decoded]] = defaultdict(list)
    difficulty: dict[int, float] = {}
    closed = 0
    instance = events[0].instance
    left_open: list[int] = []
    for event, moment in zip(events, moments, strict=True):
        data = event.data
        if event.instance != instance:
            # The engine has restarted: it knows no connection, and numbers them from 1.
            instance = event.instance
            left_open.append(len(opened))
            opened, shares = {}, defaultdict(list)
        if event.event == "miner_connected":
            assert data.client_id not in opened
            opened[data.client_id] = event
            since[data.client_id] = moment
            difficulty[data.client_id] = data.initial_diff
        elif event.event == "diff_updated":
            assert data.old_diff == difficulty[data.client_id]
            assert data.new_diff > 0
            difficulty[data.client_id] = data.new_diff
        elif event.event == "share_submitted":
            begun = opened[data.client_id].data
            assert (begun.user, begun.worker, begun.ip) == (data.user, data.worker, data.ip)
            assert begun.user_agent == data.user_agent
            assert data.difficulty == difficulty[data.client_id]
            shares[data.client_id].append(event)
        elif event.event == "miner_disconnected":
            assert opened.pop(data.client_id).data.worker == data.worker
            mine = shares.pop(data.client_id, [])
            accepted = [share.data.share_diff for share in mine if share.data.valid]
            assert data.shares_accepted == len(accepted)
            assert data.shares_rejected == len(mine) - len(accepted)
            assert data.best_diff_session == max(accepted, default=0.0)
            assert data.session_duration == (moment - since[data.client_id]) / SECOND
            closed += 1
    assert closed > 500
    assert len(opened) <= len(fleet.workers)
    # Engines that were stopped had closed every connection, those that crashed had not.
    assert min(left_open) == 0
    assert max(left_open) > 100


def test_a_share_solves_a_block_exactly_when_its_difficulty_is_enough(
    events: list[Decoded],
) -> None:
    blocks = {e.data.hash: e for e in events if e.event == "block_found"}
    solving = {
        e.data.hash: e
        for e in events
        if e.event == "share_submitted"
        and e.data.valid
        and e.data.share_diff >= e.data.network_difficulty
    }
    assert len(blocks) > 5
    assert set(blocks) == set(solving)
    for block_hash, block in blocks.items():
        share = solving[block_hash]
        assert block.seq is not None
        assert share.seq is not None
        assert block.seq < share.seq
        assert block.data.difficulty == share.data.share_diff
        assert (block.data.user, block.data.worker, block.data.nonce) == (
            share.data.user,
            share.data.worker,
            share.data.nonce,
        )
        assert block.data.reward_sats == block_subsidy(block.data.height) + block.data.fees_sats


def test_the_network_grows_block_by_block_and_ours_are_in_it(events: list[Decoded]) -> None:
    told = [e for e in events if e.event == "new_block_network"]
    tips = [e.data for e in told]
    assert len(tips) > 200
    for before, after in pairwise(told):
        if before.instance == after.instance:
            assert after.data.height == before.data.height + 1
            assert after.data.prev_hash == before.data.hash
        else:  # while the engine was away, blocks came or did not
            assert after.data.height >= before.data.height
    by_hash = {tip.hash: tip for tip in tips}
    for block in (e.data for e in events if e.event == "block_found"):
        assert by_hash[block.hash].height == block.height
        assert by_hash[block.hash].prev_hash == block.prev_hash


def test_rejected_shares_say_why_and_what_was_never_computed_is_null(
    events: list[Decoded],
) -> None:
    accepted: set[str] = set()
    jobs: set[str] = set()
    reasons: Counter[str] = Counter()
    for event in events:
        if event.event != "share_submitted":
            continue
        data = event.data
        if data.valid:
            accepted.add(data.hash)
            jobs.add(data.job_id)
            assert data.share_diff >= data.difficulty
            continue
        reasons[data.reject_reason] += 1
        if data.reject_reason == "Duplicate":
            assert data.hash in accepted
        elif data.reject_reason == "Above target":
            assert data.difficulty / 4 <= data.share_diff < data.difficulty
        elif data.reject_reason == "Stale":
            assert data.hash not in accepted
        else:
            assert data.share_diff is None
            assert data.hash is None
            assert data.job_id not in jobs or data.reject_reason == "Ntime out of range"
    assert len(reasons) == 6


def test_the_number_of_shares_fits_hashrate_and_difficulty_over_the_whole_span(
    busy: Scenario, fleet: Fleet, events: list[Decoded]
) -> None:
    shares = [e.data for e in events if e.event == "share_submitted"]
    work = sum(share.difficulty for share in shares)
    expected = fleet.hashrate.sum() / HASHES_PER_DIFFICULTY * busy.span * busy.availability
    assert work == pytest.approx(expected, rel=0.1)  # some leave for good
    assert len(shares) == pytest.approx(0.2 * 60 * 48 * 200 * busy.availability, rel=0.1)


def test_hashrate_readings_grow_towards_the_truth_and_users_sum_up_their_workers(
    events: list[Decoded], moments: list[int], fleet: Fleet
) -> None:
    truth = {
        (fleet.users[user], fleet.workers[machine]): rate
        for machine, (user, rate) in enumerate(
            zip(fleet.owner, fleet.hashrate.tolist(), strict=True)
        )
    }
    rounds: dict[tuple[str, int], dict[str, Decoded]] = defaultdict(dict)
    for event, moment in zip(events, moments, strict=True):
        if event.event == "hashrate_update":
            rounds[event.data.user, moment][event.data.worker] = event
    assert len(rounds) > 1000
    ratios = []
    nameless = {user for user, name in truth if not name}
    for (user, _), readings in rounds.items():
        total = readings.pop("").data
        if user in nameless:  # the total holds what has no name, too
            continue
        summed = sum(e.data.hashrate_1h for e in readings.values())
        assert total.hashrate_1h == pytest.approx(summed, rel=1e-6)
        ratios += [e.data.hashrate_1h / truth[user, name] for name, e in readings.items()]
    # Many have only just connected, some nap, and the engine forgets at every restart.
    assert 0.6 < sum(ratios) / len(ratios) < 1.0


def test_a_settled_fleet_begins_in_the_middle_of_things() -> None:
    scenario = Scenario(
        miners=300, start=MONDAY, span=600.0, settled=True, session=3600.0, diurnal=0.0
    )
    fleet = build_fleet(scenario)
    kinds: Counter[int] = Counter(
        chain.from_iterable(batch.kinds for batch in simulate(scenario, fleet))
    )
    share, best, _, connected, disconnected = (kinds[kind] for kind in range(5))
    assert share == pytest.approx(600 * shares_per_second(fleet.hashrate, 18.0), rel=0.05)
    assert best < share / 100
    assert 20 < disconnected < 100
    assert connected <= disconnected
