"""Presence: what waits is not lost, and comes to the same as writing it at once."""

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from ingest.batch import Row
from ingest.entry import Entry
from ingest.presence import WRITE_EVERY, Plan, Presence
from ingest.updates import Rates, Updates, WorkerUpdate

ENTRY = Entry("mining:share_submitted", b"1-0", [])
NOW = 1_800_000_000_000_000


def row(event: str, micros: int, worker: int | None, number: int) -> Row:
    data = SimpleNamespace(
        difficulty=float(number % 3 + 1), new_diff=float(number % 3 + 1),
        initial_diff=float(number % 3 + 1), user_agent=f"agent {number % 2}",
        hashrate_1m=number, hashrate_5m=number, hashrate_1h=number, hashrate_24h=number,
    )  # fmt: skip
    made = Row(event, NOW + micros, "hosted", None, None, data, b"", ENTRY)
    made.user_id, made.worker_id = (worker or 0) % 2, worker
    return made


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(
            ["share_submitted"] * 6
            + ["diff_updated", "miner_connected", "miner_disconnected", "hashrate_update"]
        ),
        st.integers(0, 3),
        st.integers(0, 20),
    ),
    max_size=12,
)


class Written:
    """A database that is told."""

    def __init__(self) -> None:
        self.users: dict[int, int] = {}
        self.workers: dict[int, WorkerUpdate] = {}
        self.totals: dict[int, Rates] = {}
        self.rows = 0

    def write(self, plan: Plan) -> None:
        for user, seen in plan.users.items():
            self.users[user] = max(seen, self.users.get(user, seen))
        for worker, update in plan.workers.items():
            before = self.workers.get(worker)
            self.workers[worker] = update if before is None else before.followed_by(update)
        self.totals.update(plan.totals)
        self.rows += len(plan.users) + len(plan.workers)


@given(
    st.lists(
        st.tuples(EVENTS, st.booleans(), st.sampled_from([0.0, 1.0, WRITE_EVERY])), max_size=12
    )
)
def test_whatever_waits_all_is_written_in_the_end(
    batches: list[tuple[list[tuple[str, int, int]], bool, float]],
) -> None:
    presence, late, at_once = Presence(), Written(), Written()
    micros, now = 0, 0.0
    for events, fails, passes in batches:
        rows = []
        for event, worker, number in events:
            micros += 1
            rows.append(row(event, micros, worker, number))
        now += passes
        updates = Updates(rows, NOW)
        plan = presence.plan(updates, now)
        if fails:  # rolled back: the same batch comes again
            plan = presence.plan(Updates(rows, NOW), now)
        late.write(plan)
        presence.keep(plan, now)
        at_once.write(Plan(updates.users, updates.workers, updates.totals, {}, {}, True))
        assert presence.due(now) <= (now >= WRITE_EVERY)
    late.write(presence.plan(Updates([], NOW), now, everything=True))
    assert late.users == at_once.users
    assert late.workers == at_once.workers
    assert late.totals == at_once.totals


def test_a_worker_that_goes_on_as_before_is_written_once_in_a_while() -> None:
    presence, written = Presence(), Written()
    for second in range(100):
        plan = presence.plan(Updates([row("share_submitted", second, 1, 0)], NOW), float(second))
        written.write(plan)
        presence.keep(plan, float(second))
    assert written.rows == 2 * 100 / WRITE_EVERY


def test_an_old_share_says_nothing_of_who_is_online() -> None:
    updates = Updates([row("share_submitted", -601_000_000, 1, 0)], NOW)
    assert updates.workers[1].is_online is None
    assert Updates([row("share_submitted", 0, 1, 0)], NOW).workers[1].is_online is True


def test_a_users_total_is_no_workers() -> None:
    updates = Updates([row("hashrate_update", 0, None, 7)], NOW)
    assert (updates.totals, updates.workers) == ({0: (7, 7, 7, 7)}, {})
