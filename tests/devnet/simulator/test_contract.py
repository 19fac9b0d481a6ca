"""Every line that the simulator writes fits the event contract."""

import json
from collections import Counter
from itertools import pairwise
from math import inf

from hypothesis import given, settings
from hypothesis import strategies as st

from devnet.bitcoin.address import Network, decode_address_for
from devnet.simulator.fleet import Fleet, build_fleet
from devnet.simulator.scenario import Scenario
from devnet.simulator.traffic import simulate
from devnet.simulator.worker_name import HOSTILE
from tbg_core.decode import Decoded, decode
from tbg_core.events import EVENTS
from tbg_core.periods import SECOND
from tests.devnet.simulator.conftest import MONDAY

SCENARIOS = st.builds(
    Scenario,
    seed=st.integers(0, 2**63 - 1),
    miners=st.integers(1, 120),
    start=st.integers(1_300_000_000, 1_763_000_000).map(lambda second: second * SECOND + 123_456),
    span=st.floats(1, 7200),
    shares_per_minute=st.floats(0.01, 60),
    rate=st.none() | st.floats(0.1, 100_000),
    hashrate_every=st.sampled_from([0.0, 7.0, 3600.0]),
    block_every=st.floats(10, 1e9),
    rejects=st.floats(0, 1),
    diurnal=st.floats(0, 1),
    session=st.floats(30, 1e6),
    offline=st.floats(1, 1e4),
    vardiff=st.floats(60, 1e6),
    nap_every=st.floats(60, 1e6),
    nap=st.floats(1, 1e4),
    leave_every=st.floats(10, 1e6),
    restart_every=st.just(inf) | st.floats(5, 7200),
    step_every=st.just(inf) | st.floats(5, 7200),
    settled=st.booleans(),
)


@settings(max_examples=30)
@given(SCENARIOS)
def test_every_event_of_any_scenario_decodes_in_order_without_a_gap(scenario: Scenario) -> None:
    numbers: dict[str, int] = {}
    moment = scenario.start
    errors = {0, *(int(step * SECOND) for step in scenario.steps)}
    for batch in simulate(scenario, build_fleet(scenario)):
        assert len(batch.datagrams()) == len(batch.kinds) == len(batch.due) > 0
        # An instance that another one has followed never writes again.
        assert batch.instance not in list(numbers)[:-1]
        for kind, due, line in zip(batch.kinds, batch.due.tolist(), batch.datagrams(), strict=True):
            event = decode(line)
            assert event.event == list(EVENTS)[kind]
            assert moment <= due < scenario.start + scenario.span * SECOND
            assert event.timestamp - due in errors
            assert event.source == "simulated"
            assert event.instance == batch.instance
            assert event.seq == numbers.get(batch.instance, 0) + 1
            numbers[batch.instance] = event.seq
            moment = due
        if sum(numbers.values()) > 5000:
            break
    assert numbers


def test_pydantic_accepts_every_event_and_every_field_that_engines_always_send_is_there(
    lines: list[bytes],
) -> None:
    seen: Counter[str] = Counter()
    for line in lines:
        event = json.loads(line)
        seen[event["event"]] += 1
        if seen[event["event"]] > 300:
            continue
        model = EVENTS[event["event"]]
        parsed = model.model_validate_json(line)
        data = parsed.data  # type: ignore[attr-defined]  # every model but the base has it
        for field in (parsed, data):
            always = {
                name
                for name, info in type(field).model_fields.items()
                if (info.json_schema_extra or {}) == {"always_sent": True}
            }
            assert always <= field.model_fields_set
        assert not data.model_extra
    assert set(seen) == set(EVENTS)


def test_an_endless_scenario_goes_on_until_nobody_asks_for_more() -> None:
    scenario = Scenario(miners=50, start=MONDAY, span=inf)
    total = 0
    for batch in simulate(scenario, build_fleet(scenario)):
        total += len(batch)
        if total > 30_000:
            break
    assert total > 30_000


def test_a_rate_stamps_the_events_evenly_and_fills_the_span() -> None:
    scenario = Scenario(miners=500, start=MONDAY, span=10.0, rate=2000.0, settled=True)
    stamps = [
        stamp for batch in simulate(scenario, build_fleet(scenario)) for stamp in batch.due.tolist()
    ]
    assert 20_000 <= len(stamps) <= 20_003  # the last share may bring its bests along
    assert max(b - a for a, b in pairwise(stamps)) <= 8 * 500
    for n, stamp in enumerate(stamps):
        assert 0 <= n * 500 - (stamp - MONDAY) <= 7 * 500  # events of one share share a stamp


def test_addresses_are_valid_on_regtest_and_nowhere_on_mainnet(fleet: Fleet) -> None:
    kinds = {decode_address_for(user, Network.REGTEST).kind.value for user in fleet.users}
    assert kinds == {"p2wpkh", "p2tr"}
    assert len(set(fleet.users)) == len(fleet.users)


def test_users_have_several_workers_whose_names_are_unique(fleet: Fleet) -> None:
    pairs = [(user, name) for user, name in zip(fleet.owner, fleet.workers, strict=True)]
    assert len(set(pairs)) == len(pairs)
    assert max(Counter(fleet.owner).values()) > 2
    assert fleet.first[-1] == len(fleet.owner)


def test_hostile_worker_names_arrive_unchanged() -> None:
    scenario = Scenario(miners=97 * len(HOSTILE), start=MONDAY, span=60.0)
    names = {
        event.data.worker
        for batch in simulate(scenario, build_fleet(scenario))
        for event in map(decode, batch.datagrams())
        if event.event == "miner_connected"
    }
    assert set(HOSTILE) <= names


def test_a_worker_without_a_name_reports_no_hashrate_of_its_own(
    events: list[Decoded], moments: list[int], fleet: Fleet
) -> None:
    nameless = {
        fleet.users[u] for u, name in zip(fleet.owner, fleet.workers, strict=True) if not name
    }
    assert nameless
    rounds = Counter(
        (event.data.user, moment)
        for event, moment in zip(events, moments, strict=True)
        if event.event == "hashrate_update" and event.data.worker == ""
    )
    assert set(rounds.values()) == {1}
    assert nameless <= {user for user, _ in rounds}
