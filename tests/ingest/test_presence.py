"""Presence: a row is written when it changes, and what a time lags by is bounded."""

from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ingest.writer.presence import AT_LEAST_AFTER, EVERY, WRITE_AFTER, Plan, Presence
from ingest.writer.rows import Row
from tbg_core.entry import Entry

ENTRY = Entry("mining:share_submitted", b"1-0", [])
NOW = 1_800_000_000_000_000
SECOND = 1_000_000


def row(event: str, micros: int, worker: int | None, number: int) -> Row:
    data = SimpleNamespace(
        difficulty=2.0 ** -(number // 10), new_diff=2.0 ** -(number // 10),
        initial_diff=2.0 ** -(number // 10), user_agent=f"agent {number // 10}",
        hashrate_1m=number, hashrate_5m=number, hashrate_1h=number, hashrate_24h=number,
    )  # fmt: skip
    made = Row(event, NOW + micros, "hosted", None, None, data, b"", ENTRY)
    made.user_id, made.worker_id = (worker or 0) % 2, worker
    return made


class Database:
    """The rows of workers and users, written as the SQL writes them, and all shares."""

    def __init__(self) -> None:
        self.workers: dict[int, dict[str, Any]] = {}
        self.seen: dict[int, int] = {}
        self.shares: dict[int, list[int]] = {}
        self.rows = 0

    def commit(self, presence: Presence, rows: list[Row], now: int = NOW) -> Plan:
        plan = presence.plan(rows, now)
        for share in rows:
            if share.event == "share_submitted":
                self.shares.setdefault(share.worker_id or 0, []).append(share.micros)
        for user, seen in plan.users.items():
            self.seen[user] = max(seen, self.seen.get(user, seen))
        presence.keep(plan, [self._write(worker, plan) for worker in plan.workers])  # type: ignore[misc]  # records are read by name
        self.rows += len(plan.workers)
        return plan

    def _write(self, worker: int, plan: Plan) -> dict[str, Any]:
        update, at = plan.workers[worker], self.row(worker)
        newest = self.shares.get(worker, []) if worker in plan.since else []
        times = (at["micros"], update.last_share, *newest)
        at["micros"] = max((time for time in times if time), default=None)
        if update.micros >= (at["micros"] or 0):
            if update.current_diff is not None:
                at["current_diff"] = update.current_diff
            if update.is_online is not None:
                at["is_online"] = update.is_online
        at["user_agent"] = update.user_agent or at["user_agent"]
        return {**at, "id": worker, "seen": at["micros"] and at["micros"] // SECOND}

    def row(self, worker: int) -> dict[str, Any]:
        return self.workers.setdefault(
            worker,
            {"micros": None, "current_diff": None, "is_online": False, "user_agent": None},
        )

    def read(self, presence: Presence) -> None:
        """What a new process finds."""
        for worker, at in self.workers.items():
            record: Any = {**at, "seen": at["micros"] and at["micros"] // SECOND}
            presence.learn(worker, record)


BATCH = st.lists(
    st.tuples(
        st.sampled_from(
            ["share_submitted"] * 9
            + ["diff_updated", "miner_connected", "miner_disconnected", "hashrate_update"]
        ),
        st.integers(0, 2),
        st.integers(0, 20),
    ),
    max_size=12,
)


@given(
    st.lists(
        st.tuples(
            BATCH,
            st.sampled_from([0, SECOND // 2, SECOND, 20 * SECOND, 1000 * SECOND, 5000 * SECOND]),
            st.sampled_from(["", "", "", "fails", "restart"]),
        ),
        max_size=30,
    )
)
def test_the_state_never_lags_and_a_time_by_seven_shares_or_ten_seconds_and_never_an_hour(
    batches: list[tuple[list[tuple[str, int, int]], int, str]],
) -> None:
    presence, database = Presence(), Database()
    now = 0
    last: dict[int, tuple[float | None, bool]] = {}
    for events, passes, happens in batches:
        rows = []
        now += passes
        for event, worker, number in events:
            now += 1
            rows.append(row(event, now, worker, number))
            diff, online = last.get(worker, (None, False))
            if event != "hashrate_update":
                diff = diff if event == "miner_disconnected" else rows[-1].data.difficulty
                online = online if event == "diff_updated" else event != "miner_disconnected"
            last[worker] = diff, online
        if happens == "fails":  # rolled back: the same batch comes again
            presence.plan(rows, NOW + now)
        plan = database.commit(presence, rows, NOW + now)
        for worker, (diff, online) in last.items():
            at = database.row(worker)
            assert (at["current_diff"], at["is_online"]) == (diff, online)
            shares = database.shares.get(worker)
            if not shares:
                continue
            lag = max(shares) - at["micros"]
            assert 0 <= lag < (AT_LEAST_AFTER + 1) * SECOND
            if worker in plan.unwritten and worker not in plan.workers:
                assert lag < (WRITE_AFTER + 1) * SECOND or plan.unwritten[worker] < EVERY
            if not online:
                assert lag == 0  # what comes later tells that it is back
            assert database.seen[worker % 2] >= at["micros"]
        if happens == "restart":
            presence = Presence()
            database.read(presence)


def test_a_worker_that_goes_on_as_before_costs_a_row_at_every_eighth_share() -> None:
    presence, database = Presence(), Database()
    for number in range(800):
        database.commit(presence, [row("share_submitted", number * 30 * SECOND, 1, 0)])
    assert database.rows == 1 + 799 // EVERY


def test_a_fast_worker_costs_a_row_in_ten_seconds_and_a_hash_rate_does_not_put_it_off() -> None:
    presence, database = Presence(), Database()
    for second in range(101):
        for number in range(10):
            micros = second * SECOND + number
            database.commit(presence, [row("share_submitted", micros, 1, 0)])
        before = database.row(1)["micros"]
        database.commit(presence, [row("hashrate_update", second * SECOND + 10, 1, 0)])
        assert database.row(1)["micros"] == before
    assert database.rows == 101 + 1 + 100 / WRITE_AFTER


def test_what_the_database_holds_already_is_not_written_by_a_new_process() -> None:
    presence, database = Presence(), Database()
    database.commit(presence, [row("share_submitted", 0, 1, 0)])
    presence = Presence()
    database.read(presence)
    assert not database.commit(presence, [row("share_submitted", SECOND, 1, 0)]).workers
    assert database.commit(presence, [row("share_submitted", 2 * SECOND, 1, 10)]).workers


def test_a_worker_that_another_process_marked_offline_is_written_within_an_hour() -> None:
    presence, database = Presence(), Database()
    database.commit(presence, [row("share_submitted", 0, 1, 0)])
    database.row(1)["is_online"] = False
    database.commit(presence, [row("share_submitted", AT_LEAST_AFTER * SECOND, 1, 0)])
    assert database.row(1)["is_online"]


def test_an_old_share_says_nothing_of_who_is_online() -> None:
    old = Presence().plan([row("share_submitted", -601_000_000, 1, 0)], NOW)
    assert old.workers[1].is_online is None
    assert Presence().plan([row("share_submitted", 0, 1, 0)], NOW).workers[1].is_online is True


def test_a_users_total_is_no_workers() -> None:
    plan = Presence().plan([row("hashrate_update", 0, None, 7)], NOW)
    assert (plan.totals, plan.users, plan.workers) == ({0: (7, 7, 7, 7)}, {0: NOW}, {})


def test_a_goodbye_in_the_moment_of_the_last_share_is_the_last_word() -> None:
    rows = [row("miner_disconnected", 0, 1, 0), row("share_submitted", 0, 1, 0)]
    assert Presence().plan(rows, NOW).workers[1].is_online is False
